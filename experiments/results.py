"""Table, figure and numbers of a grid, written into its folder from what has finished."""

import json
import os
import pathlib
import statistics
from collections.abc import Sequence

from experiments import figure
from experiments.cells import Cell
from experiments.grid import Grid
from kd_tf.data.sources import open_source
from kd_tf.evaluation.collected import Collected, read_results
from kd_tf.evaluation.comparison import compare
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.specs import DATA_KINDS, parse

BEGIN, END = "<!-- results: begin, written by experiments.run -->", "<!-- results: end -->"
RESULTS, NUMBERS, FIGURE = "RESULTS.md", "results.json", "figure.png"
CURVE = "curve.png"
_EVALUATE = "evaluate"

# One row of the table: the cells it is made of, with the model that is shown.
Rows = dict[str, list[tuple[Cell, str]]]


def write(grid: Grid, cells: Sequence[Cell], *, command: str) -> list[str]:
    """Writes RESULTS.md (between its marks), results.json and figure.png; gives their paths.

    Cells of other experiments have no rows here, and their costs are told there.
    """
    cells = [cell for cell in cells if not cell.lender]
    rows = _rows(cells)
    scores = {
        name: [_scores(grid, cell, model) for cell, model in found] for name, found in rows.items()
    }
    differences = [_difference(rows, pair.a, pair.b) for pair in grid.compare]
    text = "\n".join(
        [
            *_table(grid, scores),
            *_difference_lines(grid, differences),
            *_cost_lines(cells),
        ]
    )
    paths = [_write_text(grid, text, command=command)]
    if any(scores.values()):
        paths.append(_write_numbers(grid, scores, differences))
        if grid.figure:
            figure.draw(grid, scores, path=str(grid.folder / FIGURE))
            paths.append(str(grid.folder / FIGURE))
    found = curves(cells)
    if found:
        figure.draw_curves(found, path=str(grid.folder / CURVE))
        paths.append(str(grid.folder / CURVE))
    return paths


def curves(cells: Sequence[Cell]) -> dict[str, list[tuple[int, float]]]:
    """Cell -> (step, validation AP), of the finished cells whose run asks for a curve."""
    found = {}
    for cell in cells:
        if not (cell.run.curve and cell.is_done()):
            continue
        text = (cell.folder / cell.run.curve / "metrics.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        points = [(row["step"], row["val_ap"]) for row in rows if "val_ap" in row]
        found[f"{cell.name}: {cell.run.curve}"] = points
    return found


def _rows(cells: Sequence[Cell]) -> Rows:
    """Row -> its finished cells; a row without one is there too."""
    rows: Rows = {}
    for cell in cells:
        for model in cell.run.show:
            found = rows.setdefault(cell.run.row(model), [])
            if cell.is_done():
                found.append((cell, model))
    return rows


def _scores(grid: Grid, cell: Cell, model: str) -> dict[str, float | int | None]:
    found = cell.models()[model]
    return {"seed": cell.seed, **{name: found[name] for name in grid.metrics}}


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
    """The paired difference of two rows with its interval; None where one has not run."""
    seeds = sorted({c.seed for c, _ in rows[a]} & {c.seed for c, _ in rows[b]})
    if not seeds:
        return None
    ours = {name: [pair for pair in rows[name] if pair[0].seed in seeds] for name in (a, b)}
    truth = _truth(*ours[a][0])
    found = compare(
        truth, {name: [_detections(truth, *pair) for pair in ours[name]] for name in (a, b)}
    )
    each = [
        x - y
        for x, y in zip(
            found["models"][a]["AP"]["seeds"], found["models"][b]["AP"]["seeds"], strict=True
        )
    ]
    return {
        **found["differences"][0]["AP"],
        "a": a,
        "b": b,
        "seeds": seeds,
        "by_seed": each,
        "num_images": found["num_images"],
    }


def _truth(cell: Cell, model: str) -> GroundTruth:
    """The images a cell was scored on, with its classes."""
    flags = cell.manifest(_EVALUATE)["identity"]
    names = tuple(cell.models()[model]["per_class"])
    return ground_truth(open_source(parse(flags["eval_data"], DATA_KINDS)), class_names=names)


def _detections(truth: GroundTruth, cell: Cell, model: str) -> Collected:
    return read_results(truth, path=str(cell.folder / _EVALUATE / model / "detections.json"))


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


def _cost_lines(cells: Sequence[Cell]) -> list[str]:
    done = [cell for cell in cells if cell.is_done()]
    if not done:
        return ["", f"None of the {len(cells)} cells has run yet."]
    core_s = sum(sum(cell.state().get("core_s", {}).values()) for cell in done)
    seconds = sum(sum(cell.state().get("seconds", {}).values()) for cell in done)
    commits = sorted({cell.manifest(_EVALUATE)["info"]["commit"] for cell in _evaluated(done)})
    return [
        "",
        f"{len(done)} of {len(cells)} cells have run: {core_s / 3600:.2f} hours of processor time, "
        f"{seconds / 3600:.2f} hours by the clock, on {os.cpu_count()} cores ({_processor()}); "
        f"commit {', '.join(commits)}.",
    ]


def _evaluated(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.has(_EVALUATE)]


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


def _write_numbers(grid: Grid, scores: dict, differences: Sequence[dict | None]) -> str:
    path = grid.folder / NUMBERS
    content = {"rows": scores, "differences": [one for one in differences if one]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return str(path)
