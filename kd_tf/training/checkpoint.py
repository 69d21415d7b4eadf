"""Checkpoints that hold every variable, and of which a crash leaves the last whole one.

Each save goes to a fresh name; `checkpoint.json`, written last and whole, says which saves
count. What it does not name is left over from a crash and is removed by the next save.
"""

import dataclasses
import re

import tensorflow as tf
from absl import logging

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.schema import ANY, NUMBER, TEXT, WHOLE, Schema, check
from kd_tf.training.settings import SPEED_ONLY, TrainSettings

_POINTER = "checkpoint.json"
# One to fall back to where the newest is damaged; the best weights are kept besides.
_NUM_KEPT = 2
# Not --overwrite: of an unfinished stage with the same settings it goes on.
_ANEW = "To begin anew, rename or delete the folder of this training."
_DAMAGED = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
_NAME = re.compile(r"^((?:step|best)-\d{9})\.(?:index|data-.*)$")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The score of the averaged weights after `step` updates."""

    step: int
    ap: float


def is_better(new: Evaluation, *, than: Evaluation) -> bool:
    """Of equals the earlier stays, but for a score of 0, which does not tell them apart."""
    return new.ap > than.ap or new.ap == than.ap == 0.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Updates done.
        saved: Steps with a checkpoint, ascending.
        evaluations: In order of their steps.
        best: The first of the highest AP, or the last where that is 0; its weights are kept.
            None beside evaluations where they were lost.
    """

    step: int = 0
    saved: tuple[int, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    best: Evaluation | None = None


def save(
    folder: str,
    *,
    variables: dict[str, tf.Variable],
    progress: Progress,
    settings: TrainSettings,
) -> Progress:
    """Writes all variables as the checkpoint of `progress.step`; older ones beyond the limit go.

    Args:
        folder: Of the run; local, gs:// or ram://.
        variables: Unique name -> variable; of a mirrored one the first copy is written.
        progress: Its step must be newer than its last saved one.
        settings: Kept beside, and compared by `restore`.

    Returns:
        The progress with the new checkpoint in it.
    """
    write_variables(_prefix(folder, "step", progress.step), variables)
    saved = (*progress.saved, progress.step)[-_NUM_KEPT:]
    progress = dataclasses.replace(progress, saved=saved)
    write_pointer(folder, progress=progress, settings=settings)
    return progress


def save_best(folder: str, *, variables: dict[str, tf.Variable], step: int) -> None:
    """Writes the weights of the best validation so far; they count once the pointer says so."""
    write_variables(_prefix(folder, "best", step), variables)


def restore(
    folder: str, *, variables: dict[str, tf.Variable], settings: TrainSettings
) -> Progress | None:
    """Puts the newest checkpoint into the variables and says how far it had come.

    The best weights are given up, with a warning, where they cannot be read or are newer than
    that checkpoint.

    Returns:
        None where the folder holds no checkpoint.

    Raises:
        UserError: The run was started with other settings, another network, or its
            files are damaged.
    """
    path = files.join(folder, _POINTER)
    if not files.exists(path):
        return None
    pointer = _read_pointer(folder)
    _check_settings(pointer["settings"], settings, folder=folder)
    present = [s for s in pointer["saved"] if files.exists(_prefix(folder, "step", s) + ".index")]
    if not present:
        raise UserError(f"{path} names checkpoints {pointer['saved']}, none is there. {_ANEW}")
    step = present[-1]
    read_variables(
        _prefix(folder, "step", step),
        variables,
        advice=f"Delete its files to go on from the one before it. {_ANEW}",
    )
    evaluations = tuple(Evaluation(**e) for e in pointer["evaluations"] if e["step"] <= step)
    best = Evaluation(**pointer["best"]) if pointer["best"] else None
    if best and (lost := _why_lost(folder, best, step=step)):
        logging.warning(
            "The best weights of %s, of step %d with AP %.4f, are lost: %s.",
            folder, best.step, best.ap, lost,
        )  # fmt: skip
        best = None
    return Progress(step=step, saved=tuple(present), evaluations=evaluations, best=best)


def _read_pointer(folder: str) -> dict:
    path = files.join(folder, _POINTER)
    pointer = documents.read_json(path)
    evaluation = {"step": WHOLE, "ap": NUMBER}
    schema: Schema = {
        "settings": {TEXT: ANY},
        "saved": [WHOLE],
        "evaluations": [evaluation],
        "best": (evaluation, None),
    }
    check(pointer, schema, path=path, advice=_ANEW)
    return pointer


def read_progress(folder: str) -> Progress:
    """What the pointer says, no weights read; for workers that did not validate themselves."""
    pointer = _read_pointer(folder)
    return Progress(
        step=pointer["saved"][-1],
        saved=tuple(pointer["saved"]),
        evaluations=tuple(Evaluation(**e) for e in pointer["evaluations"]),
        best=Evaluation(**pointer["best"]) if pointer["best"] else None,
    )


def updates_done(folder: str) -> int:
    """Of the newest checkpoint; 0 where there is none."""
    return read_progress(folder).step if files.exists(files.join(folder, _POINTER)) else 0


def restore_best(folder: str, *, variables: dict[str, tf.Variable], step: int) -> None:
    """Puts the weights kept by `save_best` for `step` into the variables."""
    read_variables(
        _prefix(folder, "best", step),
        variables,
        advice="The same command chooses again among the weights that are left.",
    )


def write_pointer(folder: str, *, progress: Progress, settings: TrainSettings) -> None:
    """Makes `progress` the state of the run, then removes the files it no longer names."""
    content = {
        "saved": list(progress.saved),
        "evaluations": [dataclasses.asdict(e) for e in progress.evaluations],
        "best": dataclasses.asdict(progress.best) if progress.best else None,
        "settings": dataclasses.asdict(settings),
    }
    files.write_json(files.join(folder, _POINTER), content)
    keep = {f"step-{step:09d}" for step in progress.saved}
    if progress.best:
        keep.add(f"best-{progress.best.step:09d}")
    checkpoints = files.join(folder, "checkpoints")
    for name in files.list_folder(checkpoints):
        match = _NAME.match(name)
        if match and match.group(1) not in keep:
            files.remove(files.join(checkpoints, name))


def write_variables(prefix: str, variables: dict[str, tf.Variable]) -> None:
    """Writes values under their names in TensorFlow's own checkpoint format.

    `tf.train.load_checkpoint(prefix)` reads it.
    """
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.convert_to_tensor(variable) for variable in variables.values()],
    )


def read_variables(prefix: str, variables: dict[str, tf.Variable], *, advice: str) -> None:
    """Assigns every variable, on every replica, its value under the same name.

    Args:
        prefix: Of the checkpoint's files.
        variables: Name -> variable.
        advice: What to do where a file is damaged.

    Raises:
        UserError: A name, shape or dtype differs, or a file is damaged.
    """
    try:
        reader = _reader(prefix)
        shapes = reader.get_variable_to_shape_map()
        _check_same(prefix, {n: tuple(s) for n, s in shapes.items()}, variables)
        for name, variable in variables.items():
            variable.assign(tf.cast(reader.get_tensor(name), variable.dtype))
    except _DAMAGED as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"Checkpoint {prefix} is damaged ({str(error).splitlines()[0]}). {advice}"
        ) from error


def _why_lost(folder: str, best: Evaluation, *, step: int) -> str | None:
    """What keeps a run that goes on after `step` from its best weights; None if nothing does."""
    if best.step > step:
        return f"the run goes on from step {step}, before them"
    try:
        reader = _reader(_prefix(folder, "best", best.step))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)  # Compares the checksum.
    except _DAMAGED as error:
        return str(error).splitlines()[0]
    return None


def _reader(prefix: str) -> tf.compat.v1.train.NewCheckpointReader:
    # tf.train.load_checkpoint globs for the prefix first, which fails on ram://.
    return tf.compat.v1.train.NewCheckpointReader(prefix)


def _check_same(
    prefix: str, stored: dict[str, tuple[int, ...]], variables: dict[str, tf.Variable]
) -> None:
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    if stored == wanted:
        return
    differing = sorted(n for n in stored.keys() | wanted if stored.get(n) != wanted.get(n))
    name = differing[0]
    raise UserError(
        f"Checkpoint {prefix} is of another network or version of kd_tf: {len(differing)} "
        f"variables differ, the first is {name} with shape "
        f"{stored.get(name, 'absent')} there and {wanted.get(name, 'absent')} here. {_ANEW}"
    )


def _check_settings(stored: dict, settings: TrainSettings, *, folder: str) -> None:
    now = dataclasses.asdict(settings)
    # What a run of an older version does not name was as it is by default now; what it names, and
    # this version does not know, is no setting any more.
    stored = {f.name: f.default for f in dataclasses.fields(settings)} | stored
    differing = [
        f"{name} was {stored[name]!r}, is {now[name]!r}"
        for name in sorted(now)
        if name not in SPEED_ONLY and stored[name] != now[name]
    ]
    if differing:
        raise UserError(
            f"The unfinished run in {folder} was started with other settings: "
            f"{'; '.join(differing)}. Give the old ones to go on. {_ANEW}"
        )


def _prefix(folder: str, kind: str, step: int) -> str:
    files.make_folder(files.join(folder, "checkpoints"))
    return files.join(folder, "checkpoints", f"{kind}-{step:09d}")
