"""Table, figure and numbers of a grid, written into its folder from what is known of its cells."""

import os
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments import figure, record
from experiments.cells import Cell
from experiments.grid import Grid
from experiments.record import Measured
from kd_tf.errors import UserError
from kd_tf.evaluation.comparison import difference

BEGIN, END = "<!-- results: begin, written by experiments.run -->", "<!-- results: end -->"
RESULTS, FIGURE = "RESULTS.md", "figure.png"
CURVE = "curve.png"

# One row of the table: seed -> the cell that measured it.
Rows = dict[str, dict[int, Measured]]


def write(
    grid: Grid, cells: Sequence[Cell], *, command: str, say: Callable[[str], None] = print
) -> list[str]:
    """Writes RESULTS.md (between its marks), results.json and the pictures; gives their paths.

    Cells of other experiments have no rows here, and their costs are told there.

    Args:
        grid: The experiment.
        cells: Its cells and those they build on.
        command: What a new RESULTS.md tells its readers to run.
        say: Takes what the reader of the table must know beside it.
    """
    cells = [cell for cell in cells if not cell.lender]
    measured, lost = record.gather(grid, cells)
    if lost:
        say(
            f"no longer in {grid.folder / RESULTS}, since they are not here and were measured "
            f"with other settings (git has the table before): {'; '.join(lost)}"
        )
    rows = _rows(cells, measured)
    scores = {
        name: [{"seed": seed, **one.rows[name]} for seed, one in found.items()]
        for name, found in rows.items()
    }
    differences = [_difference(rows, pair.a, pair.b) for pair in grid.compare]
    text = "\n".join(
        [
            *_table(grid, scores),
            *_difference_lines(grid, differences),
            *_cost_lines(len(cells), list(measured.values())),
        ]
    )
    paths = [_write_text(grid, text, command=command)]
    if any(scores.values()):
        known = [one for one in differences if one]
        paths += record.write(grid, measured, differences=known)
        paths += _draw(grid, scores, measured)
    return paths


def _draw(grid: Grid, scores: dict[str, list[dict]], measured: Mapping[str, Measured]) -> list[str]:
    paths = []
    if grid.figure:
        paths.append(str(grid.folder / FIGURE))
        figure.draw(grid, scores, path=paths[-1])
    curves = {name: one.curve for name, one in measured.items() if one.curve}
    if curves:
        paths.append(str(grid.folder / CURVE))
        figure.draw_curves(curves, path=paths[-1])
    return paths


def _rows(cells: Sequence[Cell], measured: Mapping[str, Measured]) -> Rows:
    """Row -> its finished cells; a row without one is there too."""
    rows: Rows = {}
    for cell in cells:
        for model in cell.run.show:
            found = rows.setdefault(cell.run.row(model), {})
            if cell.name in measured:
                found[cell.seed] = measured[cell.name]
    return rows


def _table(grid: Grid, scores: dict[str, list[dict]]) -> list[str]:
    lines = [
        f"| | {' | '.join(grid.metrics)} | seeds |",
        "|---" * (len(grid.metrics) + 2) + "|",
    ]
    for name, found in scores.items():
        if found:
            told = [_mean_text([one[metric] for one in found]) for metric in grid.metrics]
            seeds = ", ".join(str(one["seed"]) for one in found)
        else:
            told, seeds = ["not run yet"] * len(grid.metrics), "-"
        lines.append(f"| {name} | {' | '.join(told)} | {seeds} |")
    return lines


def _mean_text(values: Sequence[float | None]) -> str:
    """Mean and, of several, the standard deviation over seeds."""
    if any(value is None for value in values):
        return "-"
    mean = _short(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {_short(statistics.stdev(values))}"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _difference(rows: Rows, a: str, b: str) -> dict | None:
    """The paired difference of two rows with its interval; None where one has not run.

    Raises:
        UserError: The two were not scored on the same images.
    """
    seeds = sorted(set(rows[a]) & set(rows[b]))
    if not seeds:
        return None
    images = {rows[row][seed].scored_on for row in (a, b) for seed in seeds}
    if len(images) > 1:
        told = ", ".join(f"{num} of {data}" for data, num in sorted(images))
        raise UserError(f"{a!r} and {b!r} cannot be compared: scored on different images ({told}).")
    ours, theirs = (np.array([rows[row][seed].resampled[row] for seed in seeds]) for row in (a, b))
    return {
        **difference(ours, theirs),
        "a": a,
        "b": b,
        "seeds": seeds,
        "by_seed": (ours - theirs)[:, 0].tolist(),
        "num_images": images.pop()[1],
    }


def _difference_lines(grid: Grid, differences: Sequence[dict | None]) -> list[str]:
    if not grid.compare:
        return []
    lines = ["", "| difference in AP | mean | 95 % interval | by seed |", "|---|---|---|---|"]
    for pair, found in zip(grid.compare, differences, strict=True):
        told = ["not run yet", "-", "-"]
        if found:
            low, high = found["interval"]
            told = [
                _signed(found["mean"]),
                f"{_signed(low)} to {_signed(high)}",
                " ".join(_signed(value) for value in found["by_seed"]),
            ]
        lines.append(f"| {pair.a} - {pair.b} | {' | '.join(told)} |")
    known = [found["num_images"] for found in differences if found]
    if known:
        lines += ["", f"Intervals: 1000 resamplings of the {known[0]} scored images, paired."]
    return lines


def _signed(value: float) -> str:
    sign = "-" if value < 0 else "+"
    return sign + _short(abs(value))


def _cost_lines(num_cells: int, done: Sequence[Measured]) -> list[str]:
    if not done:
        return ["", f"None of the {num_cells} cells has run yet."]
    core_s, seconds = sum(one.core_s for one in done), sum(one.seconds for one in done)
    commits = sorted({one.commit for one in done if one.commit})
    return [
        "",
        f"{len(done)} of {num_cells} cells have run: {core_s / 3600:.2f} hours of processor time, "
        f"{seconds / 3600:.2f} hours by the clock, on {os.cpu_count()} cores ({_processor()}); "
        f"commit {', '.join(commits)}.",
    ]


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def _write_text(grid: Grid, text: str, *, command: str) -> str:
    """Puts the text between the marks of RESULTS.md; what a person wrote around it stays."""
    path = grid.folder / RESULTS
    old = path.read_text() if path.is_file() else f"# {grid.question}\n\n    {command}\n"
    if BEGIN not in old or END not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    return str(path)
