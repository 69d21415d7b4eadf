"""Table, figure and numbers of a grid, written into its folder from what is known of its cells."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments import figure, record, tables
from experiments import grid as grid_file
from experiments.cells import Cell
from experiments.grid import Grid
from experiments.record import Measured
from experiments.student_t import over_seeds
from kd_tf.errors import UserError
from kd_tf.evaluation.comparison import difference

BEGIN, END = "<!-- results: begin, written by experiments.run -->", "<!-- results: end -->"
RESULTS, NUMBERS, FIGURE = "RESULTS.md", "results.json", "figure.png"
CURVE = "curve.png"

# One row of the table: seed -> the cell that measured it, and which of its models.
Rows = dict[str, dict[int, tuple[Measured, str]]]


def write(grid: Grid, cells: Sequence[Cell], *, command: str, forget: bool = False) -> list[str]:
    """Writes RESULTS.md (between its marks), results.json and the pictures; gives their paths.

    Cells of other experiments have no rows here, and their costs are told there.

    Args:
        grid: The experiment.
        cells: Its cells and those they build on.
        command: What a new RESULTS.md tells its readers to run.
        forget: Leave out what was measured elsewhere and cannot join this table.

    Raises:
        UserError: Something would be left out, and `forget` was not said.
    """
    cells = own(cells)
    refuse_loss(grid, cells, forget=forget)
    with _alone(grid):
        measured = record.gather(grid, cells)
        rows = _rows(cells, measured)
        scores = {name: _scores(grid, name, found) for name, found in rows.items()}
        differences = [_difference(rows, pair.a, pair.b) for pair in grid.compare]
        text = "\n".join(
            [
                *tables.scores(grid, scores),
                *tables.kept(scores),
                *tables.differences(grid, differences),
                *tables.costs(len(cells), list(measured.values())),
            ]
        )
        for path in record.strangers(grid, cells):
            path.unlink()
        paths = [_write_text(grid, text, command=command), _write_numbers(grid, differences)]
        return paths + _draw(grid, cells, scores, measured)


def own(cells: Sequence[Cell]) -> list[Cell]:
    """Without those of other experiments."""
    return [cell for cell in cells if not cell.lender]


def refuse_loss(
    grid: Grid, cells: Sequence[Cell], *, forget: bool, running: Sequence[Cell] = ()
) -> None:
    """Refuses a table without what an earlier one has.

    Args:
        grid: The experiment.
        cells: Its own cells.
        forget: Leave it out.
        running: Cells that will be there before the table is written.

    Raises:
        UserError: Something would be left out, and `forget` was not said.
    """
    names = {f"{cell.run.name}-seed{cell.seed}" for cell in running}
    found = [path for path in record.strangers(grid, cells) if path.stem not in names]
    if found and not forget:
        raise UserError(
            f"{grid.folder / RESULTS} would lose cells: the grid no longer asks for them, or not "
            f"with the settings they were measured with: {', '.join(one.stem for one in found)}. "
            "Run them again, or give --forget to leave them out (git keeps the old table)."
        )


@contextlib.contextmanager
def _alone(grid: Grid) -> Iterator[None]:
    """Keeps other processes from writing the same table meanwhile."""
    with open(grid.folder / grid_file.GRID) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _draw(
    grid: Grid, cells: Sequence[Cell], scores: dict[str, list[dict]], measured: dict[str, Measured]
) -> list[str]:
    paths = []
    if grid.figure and any(scores.values()):
        paths.append(str(grid.folder / FIGURE))
        figure.draw(grid, scores, path=paths[-1])
    curves = {
        f"{cell.name}: {cell.run.curve}": measured[cell.name].curves[cell.run.curve]
        for cell in cells
        if cell.name in measured and cell.run.curve in measured[cell.name].curves
    }
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
                found[cell.seed] = (measured[cell.name], model)
    return rows


def _scores(grid: Grid, row: str, found: dict[int, tuple[Measured, str]]) -> list[dict]:
    """Numbers by seed.

    Raises:
        UserError: The seeds were scored on different images, or lack a metric.
    """
    if len({one.scored_on for one, _ in found.values()}) > 1:
        told = ", ".join(f"seed {seed}: {one.scored_on}" for seed, (one, _) in found.items())
        raise UserError(f"{row!r}: its seeds were scored on different images ({told}).")
    for one, model in found.values():
        for metric in grid.metrics:
            if metric not in one.models[model]:
                known = ", ".join(one.models[model])
                raise UserError(f"{grid.folder}: no metric is called {metric}. Known: {known}.")
    return [
        {
            "seed": seed,
            **{metric: one.models[model][metric] for metric in grid.metrics},
            "validation": _chosen(one.curves.get(model, ())),
        }
        for seed, (one, model) in found.items()
    ]


def _chosen(curve: Sequence[tuple[int, float]]) -> tuple[int, float] | None:
    """(step, validation AP) of the weights that a training delivers: the first of the best."""
    return max(curve, key=lambda point: point[1]) if curve else None


def _difference(rows: Rows, a: str, b: str) -> dict | None:
    """The paired difference of two rows with its interval; None where one has not run.

    Raises:
        UserError: The two were not scored on the same images.
    """
    seeds = sorted(set(rows[a]) & set(rows[b]))
    pairs = [(rows[a][seed], rows[b][seed]) for seed in seeds]
    pairs = [pair for pair in pairs if all(model in one.resampled for one, model in pair)]
    if not pairs:
        return None
    scored = [
        (one.scored_on, sorted(one.per_class[model])) for pair in pairs for one, model in pair
    ]
    for other in scored[1:]:
        if other != scored[0]:
            told = " and ".join(
                f"{images.num_images} of {images.spec} with {len(classes)} classes"
                for images, classes in (scored[0], other)
            )
            raise UserError(f"{a!r} and {b!r} cannot be compared: scored on {told}.")
    ours, theirs = (
        np.array([one.resampled[model] for one, model in side], np.float64)
        for side in zip(*pairs, strict=True)
    )
    by_seed = (ours - theirs)[:, 0]
    return {
        **difference(ours, theirs),
        "a": a,
        "b": b,
        "seeds": seeds,
        "by_seed": by_seed.tolist(),
        "over_seeds": over_seeds(by_seed),
        "num_images": scored[0][0].num_images,
    }


def _write_text(grid: Grid, text: str, *, command: str) -> str:
    """Puts the text between the marks of RESULTS.md; what a person wrote around it stays."""
    path = grid.folder / RESULTS
    old = path.read_text() if path.is_file() else f"# {grid.question}\n\n    {command}\n"
    if BEGIN not in old or END not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    part = path.with_suffix(".part")
    part.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    os.replace(part, path)
    return str(path)


def _write_numbers(grid: Grid, differences: Sequence[dict | None]) -> str:
    path = grid.folder / NUMBERS
    known = [one for one in differences if one]
    path.write_text(json.dumps({"differences": known}, indent=1) + "\n")
    return str(path)
