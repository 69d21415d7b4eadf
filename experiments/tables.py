"""What a grid has measured, as the lines of its RESULTS.md."""

import statistics
from collections.abc import Sequence

from experiments.grid import Grid
from experiments.record import Measured
from experiments.student_t import MIN_SEEDS
from kd_tf.evaluation.comparison import NUM_RESAMPLES

_NOT_RUN = "not run yet"


def scores(grid: Grid, rows: dict[str, list[dict]]) -> list[str]:
    """One line for each row: its metrics, and the validation AP that chose its weights.

    Args:
        grid: The experiment.
        rows: Row -> for each seed {"seed", each metric, "validation": (step, AP) or None}.
    """
    lines = [
        f"| | {' | '.join(grid.metrics)} | AP, validation | seeds |",
        "|---" * (len(grid.metrics) + 3) + "|",
    ]
    for name, found in rows.items():
        told, seeds = [_NOT_RUN] * len(grid.metrics) + ["-"], "-"
        if found:
            told = [_mean([one[metric] for one in found]) for metric in grid.metrics]
            told.append(_mean([one["validation"] and one["validation"][1] for one in found]))
            seeds = ", ".join(str(one["seed"]) for one in found)
        lines.append(f"| {name} | {' | '.join(told)} | {seeds} |")
    if any(len(found) > 1 for found in rows.values()):
        lines += ["", "±: standard deviation over seeds."]
    return lines


def kept(rows: dict[str, list[dict]]) -> list[str]:
    """Which rows took nothing from their last training: it began with the best weights."""
    found = [
        f"{name} (seed {one['seed']})"
        for name, seeds in rows.items()
        for one in seeds
        if one["validation"] and one["validation"][0] == 0
    ]
    if not found:
        return []
    told = "; ".join(found)
    return [
        "",
        "Fine-tuning changed nothing, as no step of it scored better on the validation images than "
        f"the pre-trained weights: {told}.",
    ]


def differences(grid: Grid, found: Sequence[dict | None]) -> list[str]:
    """One line for each comparison that the grid asks for.

    Args:
        grid: The experiment.
        found: For each of its comparisons {"mean", "interval", "over_seeds", "by_seed", "seeds",
            "num_images"}; None where it has not been run.
    """
    if not grid.compare:
        return []
    lines = [
        "",
        "| difference in AP | mean | 95 %, other images | 95 %, other seeds | by seed | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for pair, one in zip(grid.compare, found, strict=True):
        told = [_NOT_RUN, "-", "-", "-", "-"]
        if one:
            told = [
                _signed(one["mean"]),
                _interval(one["interval"]),
                _interval(one["over_seeds"]),
                " ".join(_signed(value) for value in one["by_seed"]),
                ", ".join(str(seed) for seed in one["seeds"]),
            ]
        lines.append(f"| {pair.a} - {pair.b} | {' | '.join(told)} |")
    known = sorted({one["num_images"] for one in found if one})
    if known:
        images = " or ".join(str(num) for num in known)
        lines += [
            "",
            f"Other images: {NUM_RESAMPLES} resamplings of the {images} scored images, paired, of "
            "the networks as they are. Other seeds: Student's t on the seeds' differences, from "
            f"{MIN_SEEDS} seeds up, on the images as they are. Neither holds the other.",
        ]
    return lines


def costs(num_cells: int, done: Sequence[Measured]) -> list[str]:
    """How much of the grid has run, what it cost, on which machine, at which commits."""
    if not done:
        return ["", f"None of the {num_cells} cells has run yet."]
    core_s, seconds = sum(one.core_s for one in done), sum(one.seconds for one in done)
    machines = sorted({one.machine for one in done if one.machine})
    commits = sorted({commit for one in done for commit in one.commits})
    return [
        "",
        f"{len(done)} of {num_cells} cells have run: {core_s / 3600:.2f} hours of processor time; "
        f"the cells' clock times add up to {seconds / 3600:.2f} hours, on "
        f"{' and '.join(machines)}; commit {', '.join(commits)}.",
    ]


def _mean(values: Sequence[float | None]) -> str:
    """Mean and, of several, the standard deviation over seeds."""
    if any(value is None for value in values):
        return "-"
    mean = _short(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {_short(statistics.stdev(values))}"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _signed(value: float) -> str:
    sign = "-" if value < 0 else "+"
    return sign + _short(abs(value))


def _interval(ends: Sequence[float] | None) -> str:
    return " to ".join(_signed(end) for end in ends) if ends else "-"
