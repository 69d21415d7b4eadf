"""What the cells of a grid have measured: those that lie here, and those measured elsewhere.

A file for each cell in the grid's folder keeps it (record/RUN-seedK.json), so that machines may
share a grid and a later seed joins the table: a cell that is not here is taken from its file as
long as its settings are those that the grid asks for.
"""

import base64
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.cells import Cell
from experiments.grid import LABELS, Grid
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.evaluation.collected import read_results
from kd_tf.evaluation.comparison import resampled_ap
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.specs import DATA_KINDS, parse

FOLDER = "record"
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
        commits: Of the program, in its stages and those it took over.
        machine: Cores and processor of the last stage.
        core_s: Processor time of its stages.
        seconds: Their time by the clock.
        scored_on: The images of its scores.
        curves: Stage -> [(step, validation AP)].
        models: Model -> metric -> value.
        per_class: Model -> class -> AP; AP is the mean of those that are not None.
        resampled: Model -> AP [1 + B] float32, on the images as they are and on resampled
            ones; see `kd_tf.evaluation.comparison`. Of the models with detections.
    """

    settings: str
    commits: tuple[str, ...] = ()
    machine: str = ""
    core_s: float = 0.0
    seconds: float = 0.0
    scored_on: ScoredOn = ScoredOn()
    curves: dict[str, list[tuple[int, float]]] = dataclasses.field(default_factory=dict)
    models: dict[str, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    per_class: dict[str, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    resampled: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def gather(grid: Grid, cells: Sequence[Cell]) -> dict[str, Measured]:
    """All that is known of a grid's own cells; writes the files of those that lie here.

    Args:
        grid: The experiment.
        cells: Its cells.

    Returns:
        Cell's name -> what it has left.
    """
    found = {}
    for cell in cells:
        path = _path(grid, cell)
        recorded = _read(path) if path.is_file() else None
        if cell.is_done():
            measured = _measure(cell, known=recorded)
            if measured is not recorded:
                _write(path, measured)
                recorded = _read(path)
        if recorded and recorded.settings == _settings(cell):
            found[cell.name] = recorded
    return found


def strangers(grid: Grid, cells: Sequence[Cell]) -> list[pathlib.Path]:
    """Files of cells that the grid does not ask for, or asks for with other settings.

    Args:
        grid: The experiment.
        cells: Its cells; one that lies here, finished, has its file written anew anyway.
    """
    wanted = {_path(grid, cell): cell for cell in cells}
    found = []
    for path in sorted((grid.folder / FOLDER).glob("*.json")):
        cell = wanted.get(path)
        if cell is None or not (cell.is_done() or _read(path).settings == _settings(cell)):
            found.append(path)
    return found


def _path(grid: Grid, cell: Cell) -> pathlib.Path:
    return grid.folder / FOLDER / f"{cell.run.name}-seed{cell.seed}.json"


def _write(path: pathlib.Path, measured: Measured) -> None:
    """Whole or not at all."""
    content = dataclasses.asdict(measured)
    content["resampled"] = {name: _encode(one) for name, one in content["resampled"].items()}
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(f".part-{os.getpid()}")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)


def _read(path: pathlib.Path) -> Measured:
    try:
        content = json.loads(path.read_text())
        content["commits"] = tuple(content["commits"])
        content["scored_on"] = ScoredOn(**content["scored_on"])
        content["curves"] = {
            stage: [tuple(point) for point in points] for stage, points in content["curves"].items()
        }
        content["resampled"] = {name: _decode(one) for name, one in content["resampled"].items()}
        return Measured(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Take it from git, or remove it."
        ) from error


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(_VECTOR).tobytes()).decode()


def _decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), _VECTOR)


def _settings(cell: Cell) -> str:
    text = json.dumps(cell.wanted, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _measure(cell: Cell, *, known: Measured | None) -> Measured:
    """What a cell has left; `known` itself where that says so, as resampling takes seconds a model.

    Equal scores to the last digit, overall and by class, are those of the same detections.
    """
    state, models = cell.state(), cell.models()
    stages = [name for name in (*cell.run.take, *cell.run.stages) if cell.has(name)]
    plain = Measured(
        settings=_settings(cell),
        commits=tuple(sorted({cell.manifest(name)["info"]["commit"] for name in stages})),
        machine=state.get("machine", ""),
        core_s=sum(state.get("core_s", {}).values()),
        seconds=sum(state.get("seconds", {}).values()),
        scored_on=_scored_on(cell) if cell.has(_EVALUATE) else ScoredOn(),
        curves=_curves(cell),
        models={name: _numbers(found) for name, found in models.items()},
        per_class={name: found["per_class"] for name, found in models.items()},
    )
    if known and _without_images(known) == _without_images(plain):
        return known
    resampled, num_images = _resampled(cell, plain.scored_on)
    scored_on = dataclasses.replace(plain.scored_on, num_images=num_images)
    return dataclasses.replace(plain, scored_on=scored_on, resampled=resampled)


def _without_images(measured: Measured) -> Measured:
    scored_on = dataclasses.replace(measured.scored_on, num_images=0)
    return dataclasses.replace(measured, scored_on=scored_on, resampled={})


def _numbers(found: dict) -> dict[str, float | None]:
    return {k: v for k, v in found.items() if v is None or isinstance(v, int | float)}


def _scored_on(cell: Cell) -> ScoredOn:
    """Without their number, which the labels tell."""
    identity = cell.manifest(_EVALUATE)["identity"]
    return ScoredOn(identity["eval_data"], identity.get("input: eval_data", ""))


def _resampled(cell: Cell, scored_on: ScoredOn) -> tuple[dict[str, np.ndarray], int]:
    found, num_images = {}, 0
    for model, numbers in cell.models().items():
        path = cell.folder / _EVALUATE / model / "detections.json"
        # Pseudo labels are scored on the images they were made for, not on these.
        if path.is_file() and model != LABELS:
            truth = _truth(scored_on.spec, tuple(numbers["per_class"]), scored_on.digest)
            aps = resampled_ap(truth, read_results(truth, path=str(path)))
            # As the file keeps it, so that two cells are compared alike wherever they lie.
            found[model], num_images = aps.astype(_VECTOR), truth.num_images
    return found, num_images


@functools.lru_cache(maxsize=8)
def _truth(eval_data: str, class_names: tuple[str, ...], digest: str) -> GroundTruth:
    source = open_source(parse(eval_data, DATA_KINDS))
    if digest and source.fingerprint != digest:
        raise UserError(f"{eval_data} has changed since the cells here were scored on it.")
    return ground_truth(source, class_names=class_names)


def _curves(cell: Cell) -> dict[str, list[tuple[int, float]]]:
    """Of the stages that the cell did itself."""
    found = {}
    for stage in cell.run.stages:
        path = cell.folder / stage / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        points = [json.loads(line) for line in lines]
        found[stage] = [(one["step"], one["val_ap"]) for one in points if "val_ap" in one]
    return {stage: points for stage, points in found.items() if points}
