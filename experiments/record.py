"""What the cells of a grid have measured: those that lie here, and those measured elsewhere.

results.json and resampled.npz in the grid's folder keep it, so that machines may share a grid and
a later seed joins the table: a cell that is not here is taken from them as long as its settings
are those that the grid asks for.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.cells import Cell
from experiments.grid import Grid
from kd_tf.data.sources import open_source
from kd_tf.evaluation.collected import read_results
from kd_tf.evaluation.comparison import resampled_ap
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.specs import DATA_KINDS, parse

NUMBERS, RESAMPLED = "results.json", "resampled.npz"
_EVALUATE = "evaluate"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a finished cell has left.

    Attributes:
        settings: Digest of all that decides what the cell does.
        commit: Of the program that scored it; empty where nothing is scored.
        scored_on: The images, as `--eval_data` names them, and how many they are.
        core_s: Processor time of its stages.
        seconds: Their time by the clock.
        curve: (step, validation AP), where the run asks for a curve.
        rows: Row of the table -> metric -> value.
        resampled: Row -> AP [1 + B] on the images as they are and on resampled ones, of the
            rows that are compared; see `kd_tf.evaluation.comparison`.
    """

    settings: str
    commit: str = ""
    scored_on: tuple[str, int] = ("", 0)
    core_s: float = 0.0
    seconds: float = 0.0
    curve: tuple[tuple[int, float], ...] = ()
    rows: dict[str, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    resampled: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def gather(grid: Grid, cells: Sequence[Cell]) -> tuple[dict[str, Measured], list[str]]:
    """All that is known of a grid's own cells.

    Args:
        grid: The experiment.
        cells: Its cells.

    Returns:
        Cell's name -> what it has left; and the rows, "ROW (CELL)", that the folder's files
        have but the next table will not: their cells are not here, and their settings are
        not those that the grid asks for now, or not known.
    """
    recorded = _read(grid)
    found = {}
    for cell in cells:
        if cell.is_done():
            found[cell.name] = _measure(grid, cell)
        elif _serves(grid, cell, recorded.get(cell.name)):
            found[cell.name] = recorded[cell.name]
    known = {(cell, row) for cell, one in found.items() for row in one.rows}
    lost = [f"{row} ({cell})" for cell, one in recorded.items() for row in one.rows
            if (cell, row) not in known]  # fmt: skip
    return found, lost


def write(
    grid: Grid, measured: Mapping[str, Measured], *, differences: Sequence[dict]
) -> list[str]:
    """Writes results.json and resampled.npz; gives their paths.

    Args:
        grid: The experiment.
        measured: As `gather` gives it.
        differences: Of the rows that are compared.
    """
    cells = {name: dataclasses.asdict(one) for name, one in measured.items()}
    vectors = {
        f"{name}: {row}": values
        for name, cell in cells.items()
        for row, values in cell.pop("resampled").items()
    }
    content = {"differences": differences, "cells": cells}
    numbers, resampled = grid.folder / NUMBERS, grid.folder / RESAMPLED
    numbers.write_text(json.dumps(content, indent=1) + "\n")
    np.savez_compressed(resampled, **vectors)
    return [str(numbers), str(resampled)]


def _shown(cell: Cell) -> list[str]:
    return [cell.run.row(model) for model in cell.run.show]


def _compared(grid: Grid, cell: Cell) -> set[str]:
    return {row for pair in grid.compare for row in (pair.a, pair.b)} & set(_shown(cell))


def _settings(cell: Cell) -> str:
    text = json.dumps(cell.wanted, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _measure(grid: Grid, cell: Cell) -> Measured:
    state, models = cell.state(), cell.models()
    scored = cell.manifest(_EVALUATE) if cell.has(_EVALUATE) else None
    compared = _compared(grid, cell)
    resampled, num_images = {}, 0
    for model in cell.run.show:
        if cell.run.row(model) in compared:
            truth = _truth(scored["identity"]["eval_data"], tuple(models[model]["per_class"]))
            path = cell.folder / _EVALUATE / model / "detections.json"
            values = resampled_ap(truth, read_results(truth, path=str(path)))
            resampled[cell.run.row(model)], num_images = values.astype(np.float32), truth.num_images
    return Measured(
        settings=_settings(cell),
        commit=scored["info"]["commit"] if scored else "",
        scored_on=(scored["identity"]["eval_data"] if scored else "", num_images),
        core_s=sum(state.get("core_s", {}).values()),
        seconds=sum(state.get("seconds", {}).values()),
        curve=_curve(cell),
        rows={
            cell.run.row(model): {metric: models[model][metric] for metric in grid.metrics}
            for model in cell.run.show
        },
        resampled=resampled,
    )


@functools.lru_cache(maxsize=8)
def _truth(eval_data: str, class_names: tuple[str, ...]) -> GroundTruth:
    return ground_truth(open_source(parse(eval_data, DATA_KINDS)), class_names=class_names)


def _curve(cell: Cell) -> tuple[tuple[int, float], ...]:
    if not cell.run.curve:
        return ()
    text = (cell.folder / cell.run.curve / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return tuple((line["step"], line["val_ap"]) for line in lines if "val_ap" in line)


def _serves(grid: Grid, cell: Cell, one: Measured | None) -> bool:
    """Whether a recorded cell is the one that is asked for, with all that the table needs."""
    return (
        one is not None
        and one.settings == _settings(cell)
        and set(one.rows) >= set(_shown(cell))
        and all(set(numbers) >= set(grid.metrics) for numbers in one.rows.values())
        and set(one.resampled) >= _compared(grid, cell)
        and bool(one.curve) == bool(cell.run.curve)
    )


def _read(grid: Grid) -> dict[str, Measured]:
    """Cell's name -> what the folder's files say of it."""
    numbers, resampled = grid.folder / NUMBERS, grid.folder / RESAMPLED
    cells = json.loads(numbers.read_text())["cells"] if numbers.is_file() else {}
    vectors = {}
    if resampled.is_file():
        with np.load(resampled) as archive:
            vectors = dict(archive)
    for name, cell in cells.items():
        keys = {row: f"{name}: {row}" for row in cell["rows"]}
        cell["resampled"] = {row: vectors[key] for row, key in keys.items() if key in vectors}
        cell["curve"] = tuple(tuple(point) for point in cell["curve"])
        cell["scored_on"] = tuple(cell["scored_on"])
    return {name: Measured(**cell) for name, cell in cells.items()}
