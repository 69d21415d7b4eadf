"""What the cells of a grid have measured: those that lie here, and those measured elsewhere.

results.json in the grid's folder keeps it, so that machines may share a grid and a later seed
joins the table: a cell that is not here is taken from it as long as its settings are those that
the grid asks for.
"""

import base64
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.cells import Cell
from experiments.grid import Grid
from kd_tf.data.sources import open_source
from kd_tf.evaluation.collected import read_results
from kd_tf.evaluation.comparison import resampled_ap
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.specs import DATA_KINDS, parse

NUMBERS = "results.json"
_EVALUATE = "evaluate"
_VECTOR = "<f4"  # float32, little-endian, in the file as base64


@dataclasses.dataclass(frozen=True)
class ScoredOn:
    """The images that a cell's models were scored on.

    Attributes:
        spec: As `--eval_data` names them.
        digest: Of their listing and labels, as stage evaluate notes it.
        num_images: How many they are.
    """

    spec: str = ""
    digest: str = ""
    num_images: int = 0


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a finished cell has left.

    Attributes:
        settings: Digest of all that decides what the cell does.
        commits: Of the program, in its stages.
        machine: Cores and processor.
        core_s: Processor time of its stages.
        seconds: Their time by the clock.
        scored_on: The images of its scores.
        curves: Stage -> [(step, validation AP)].
        models: Model -> metric -> value.
        resampled: Model -> AP [1 + B] float32, on the images as they are and on resampled
            ones; see `kd_tf.evaluation.comparison`. Of the models that the run shows.
    """

    settings: str
    commits: tuple[str, ...] = ()
    machine: str = ""
    core_s: float = 0.0
    seconds: float = 0.0
    scored_on: ScoredOn = ScoredOn()
    curves: dict[str, list[tuple[int, float]]] = dataclasses.field(default_factory=dict)
    models: dict[str, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    resampled: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def gather(grid: Grid, cells: Sequence[Cell]) -> tuple[dict[str, Measured], list[str]]:
    """All that is known of a grid's own cells.

    Args:
        grid: The experiment.
        cells: Its cells.

    Returns:
        Cell's name -> what it has left; and the names of cells that the folder's file knows
        but that cannot join: they are not here, and were measured with other settings than
        those that the grid asks for now, or it asks for no such cell.
    """
    recorded = _read(grid)
    found = {}
    for cell in cells:
        if cell.is_done():
            found[cell.name] = _measure(cell)
        elif cell.name in recorded and recorded[cell.name].settings == _settings(cell):
            found[cell.name] = recorded[cell.name]
    return found, [name for name in recorded if name not in found]


def write(grid: Grid, measured: Mapping[str, Measured], *, differences: Sequence[dict]) -> str:
    """Writes results.json, whole or not at all; gives its path.

    Args:
        grid: The experiment.
        measured: As `gather` gives it.
        differences: Of the rows that are compared.
    """
    cells = {name: dataclasses.asdict(one) for name, one in measured.items()}
    for cell in cells.values():
        cell["resampled"] = {model: _encode(one) for model, one in cell["resampled"].items()}
    path, part = grid.folder / NUMBERS, grid.folder / f"{NUMBERS}.part"
    part.write_text(json.dumps({"differences": differences, "cells": cells}, indent=1) + "\n")
    os.replace(part, path)
    return str(path)


def _read(grid: Grid) -> dict[str, Measured]:
    """Cell's name -> what the folder's file says of it."""
    path = grid.folder / NUMBERS
    cells = json.loads(path.read_text())["cells"] if path.is_file() else {}
    for cell in cells.values():
        cell["commits"] = tuple(cell["commits"])
        cell["scored_on"] = ScoredOn(**cell["scored_on"])
        cell["curves"] = {
            stage: [tuple(point) for point in points] for stage, points in cell["curves"].items()
        }
        cell["resampled"] = {model: _decode(text) for model, text in cell["resampled"].items()}
    return {name: Measured(**cell) for name, cell in cells.items()}


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(_VECTOR).tobytes()).decode()


def _decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), _VECTOR)


def _settings(cell: Cell) -> str:
    text = json.dumps(cell.wanted, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _measure(cell: Cell) -> Measured:
    state = cell.state()
    scored_on, resampled = _resampled(cell) if cell.has(_EVALUATE) else (ScoredOn(), {})
    commits = {
        json.loads(path.read_text())["info"]["commit"]
        for path in cell.folder.glob("*/manifest.json")
    }
    return Measured(
        settings=_settings(cell),
        commits=tuple(sorted(commits)),
        machine=_machine(),
        core_s=sum(state.get("core_s", {}).values()),
        seconds=sum(state.get("seconds", {}).values()),
        scored_on=scored_on,
        curves=_curves(cell),
        models={name: _numbers(found) for name, found in cell.models().items()},
        resampled=resampled,
    )


def _numbers(found: dict) -> dict[str, float | None]:
    return {k: v for k, v in found.items() if v is None or isinstance(v, int | float)}


def _resampled(cell: Cell) -> tuple[ScoredOn, dict[str, np.ndarray]]:
    identity = cell.manifest(_EVALUATE)["identity"]
    spec, resampled, num_images = identity["eval_data"], {}, 0
    for model in cell.run.show:
        path = cell.folder / _EVALUATE / model / "detections.json"
        if path.is_file():
            truth = _truth(spec, tuple(cell.models()[model]["per_class"]))
            resampled[model] = resampled_ap(truth, read_results(truth, path=str(path)))
            num_images = truth.num_images
    return ScoredOn(spec, identity.get("input: eval_data", ""), num_images), resampled


@functools.lru_cache(maxsize=8)
def _truth(eval_data: str, class_names: tuple[str, ...]) -> GroundTruth:
    return ground_truth(open_source(parse(eval_data, DATA_KINDS)), class_names=class_names)


def _curves(cell: Cell) -> dict[str, list[tuple[int, float]]]:
    """Of the stages that the cell did itself."""
    found = {}
    for stage in cell.run.stages:
        path = cell.folder / stage / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        points = [json.loads(line) for line in lines]
        found[stage] = [(one["step"], one["val_ap"]) for one in points if "val_ap" in one]
    return {stage: points for stage, points in found.items() if points}


def _machine() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores ({names[0] if names else 'unknown processor'})"
