"""When a stage's work is done, repeated, resumed or refused: one rule for every stage."""

import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import itertools
import time
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging

from kd_tf import __version__, config, documents, files, flags, manifests
from kd_tf.data.rejects import LIST_NAME
from kd_tf.errors import UserError
from kd_tf.schema import ANY, TEXT, check
from kd_tf.stages import in_use
from kd_tf.stages.run import Run

STARTED = "started.json"
_FLAGS = "flags.txt"
_INPUT = "input: "
_POLL_S = 2.0
# Labelling a large data set takes the chief hours; a dead chief is noticed by TensorFlow first.
_PATIENCE_S = 24 * 3600.0


def made_anything(folder: str) -> bool:
    """Whether unfinished work in a folder has left more than the notes of its beginning."""
    return bool(set(files.list_folder(folder)) - {STARTED, _FLAGS, in_use.LOCK, LIST_NAME})


def begins_anew(folder: str) -> bool:
    """For stages that begin anew each time: unfinished work is of no use to them."""
    del folder
    return False


@dataclasses.dataclass(frozen=True)
class Stage:
    """One folder of work.

    Attributes:
        name: Name of the stage.
        folder: Where its result lies.
        inputs: Content hashes of what it reads, by name.
        more_identity: Settings beside those that `Config.identity` lists for the name.
        late_inputs: Gives the content hashes of what is made while the stage works, by name. They
            tell whether a finished stage is still that of its inputs.
        goes_on_from: Whether the stage would go on from the unfinished work in a folder. Such work
            is refused to other settings; all else is moved aside for them.
    """

    name: str
    folder: str
    inputs: dict[str, str]
    more_identity: dict[str, manifests.Json] = dataclasses.field(default_factory=dict)
    late_inputs: Callable[[], dict[str, str]] = dict
    goes_on_from: Callable[[str], bool] = made_anything

    def identity(
        self, settings: config.Config, *, finished: bool = False
    ) -> dict[str, manifests.Json]:
        """What decides whether work in the folder, finished or not, is what is asked for."""
        own = {**settings.identity(self.name), **self.more_identity}
        named = _named_files(own)
        own = {name: value for name, value in own.items() if name not in named}
        inputs = self.inputs | {f"file of --{name}": digest for name, digest in named.items()}
        inputs |= self.late_inputs() if finished else {}
        return {**own, **{_INPUT + name: digest for name, digest in inputs.items()}}

    def differences(self, settings: config.Config) -> list[str]:
        """What has changed since the finished work in the folder."""
        return self.changes(manifests.read(self.folder).identity, settings, finished=True)

    def changes(
        self, old: dict[str, manifests.Json], settings: config.Config, *, finished: bool
    ) -> list[str]:
        """What has changed since an identity was written down.

        What an earlier version counted as the stage's settings, and this one does not, is no
        change; what it did not have was as it is by default now.
        """
        new = self.identity(settings, finished=finished)
        defaults = {field.name: field.default for field in config.fields()}
        kept = {name: value for name, value in old.items() if name in new or name not in defaults}
        added = {name: defaults[name] for name in new if name in defaults and name not in old}
        return manifests.differences(added | kept, new)


def _named_files(own: dict[str, manifests.Json]) -> dict[str, str]:
    """Setting -> content hash, where it names a file: what counts is what the file says."""
    named = {name: own[name] for name in config.paths() if own.get(name)}
    return {
        name: files.sha256(path)
        for name, path in named.items()
        if files.exists(path) and not files.is_folder(path)
    }


@dataclasses.dataclass(frozen=True)
class Result:
    """What a stage's work gives its manifest.

    Attributes:
        outputs: Names of files in the folder that stages behind it depend on.
        counts: What became of the images.
        info: What else is worth knowing.
    """

    outputs: tuple[str, ...] = ()
    counts: manifests.Counts = dataclasses.field(default_factory=manifests.Counts)
    info: dict[str, manifests.Json] = dataclasses.field(default_factory=dict)


def ensure(
    stage: Stage,
    run: Run,
    *,
    work: Callable[[], Result | None],
    by_all: bool = False,
    keep: bool = False,
    shared: bool = False,
) -> bool:
    """Does a stage's work unless it is there.

    Args:
        stage: The stage.
        run: The run.
        work: Does the work and gives its result; it may find part of it done and goes on
            from there. None means that other workers still have something to finish.
        by_all: Whether all processes of a multi-worker strategy work together; else the
            chief works and the others wait for it.
        keep: Whether --overwrite leaves finished work of the same identity alone, as it does
            under --stage=all.
        shared: Whether the processes of --num_workers do the work together; else the first
            does it and the others wait.

    Returns:
        Whether anything was done.

    Raises:
        UserError: The folder holds work done with other settings, or from other inputs; or
            another process is at work in it.
    """
    settings = run.settings
    if not run.chief or (settings.worker_index and not shared and not settings.dry_run):
        together = by_all and not run.chief
        return _follow_chief(stage, settings, work if together else None)
    anew = settings.overwrite and stage.folder not in run.redone
    if (keep or run.redo or not anew) and _is_finished(stage, settings):
        logging.info("stage %s: nothing to do, %s is complete.", stage.name, stage.folder)
        return False
    in_the_way = _in_the_way(stage, settings, redo=run.redo, anew=anew)
    if settings.dry_run:
        logging.info("stage %s: would run in %s.", stage.name, stage.folder)
        return False
    if in_the_way:
        _move_aside(stage, in_the_way)
    with _held(stage, settings, shared=shared and settings.num_workers > 1):
        run.redone.add(stage.folder)
        _work(stage, settings, work)
    return True


@contextlib.contextmanager
def _held(stage: Stage, settings: config.Config, *, shared: bool) -> Iterator[None]:
    """Holds a stage's folder, in which is noted what is done."""
    if not shared:
        with in_use.hold(stage.folder):
            _note(stage, settings)
            yield
        return

    def begin() -> None:
        if not (_begun_otherwise(stage, settings) and made_anything(stage.folder)):
            _note(stage, settings)

    changes = functools.partial(_begun_otherwise, stage, settings)
    with in_use.share(stage.folder, begin=begin, changes=changes):
        yield


def _note(stage: Stage, settings: config.Config) -> None:
    own = dataclasses.replace(settings, stage=_stage_flag(stage.name))
    files.write_text(files.join(stage.folder, _FLAGS), flags.to_flagfile(own))
    files.write_json(files.join(stage.folder, STARTED), stage.identity(settings))


def _work(stage: Stage, settings: config.Config, work: Callable[[], Result | None]) -> None:
    logging.info("stage %s: starts in %s.", stage.name, stage.folder)
    files.sweep_parts(stage.folder)
    start = time.time()
    files.remove_if_there(files.join(stage.folder, LIST_NAME))
    result = work()
    if result is not None:
        _finish(stage, result, settings=settings, seconds=time.time() - start)


def _follow_chief(
    stage: Stage, settings: config.Config, work: Callable[[], Result | None] | None
) -> bool:
    """A worker beside the chief does its part of the work, then waits for the manifest."""
    if not _is_finished(stage, settings):
        if work:
            work()
        else:
            logging.info("stage %s: waits for the first worker.", stage.name)
    waited = 0.0
    while not _is_finished(stage, settings):
        if waited >= _PATIENCE_S:
            raise UserError(
                f"The first worker has not finished stage {stage.name} in {waited:.0f} s."
            )
        time.sleep(_POLL_S)
        waited += _POLL_S
    return bool(work)


def _is_finished(stage: Stage, settings: config.Config) -> bool:
    return manifests.is_complete(stage.folder) and not stage.differences(settings)


def _stage_flag(name: str) -> str:
    """The value of --stage that replays it: parts without a flag belong to `all`."""
    return name if name in config.STAGES else "all"


def _in_the_way(stage: Stage, settings: config.Config, *, redo: bool, anew: bool) -> list[str]:
    """Why what is in the folder must be moved aside, a line each; none where it need not be.

    Raises:
        UserError: It is the work of other settings, which nobody has given up.
    """
    complete = manifests.is_complete(stage.folder)
    begun = None if complete else _begun_otherwise(stage, settings)
    changed = stage.differences(settings) if complete else begun or []
    if not changed and not (anew and complete):
        return []
    # A stage that stopped before it made anything, say for a wrong setting, binds nobody.
    if not made_anything(stage.folder):
        return []
    own_changes = [line for line in changed if not line.startswith(_INPUT)]
    # Whoever removes the images that stopped a stage changes the listing, as it was told to.
    stopped = not own_changes and files.exists(files.join(stage.folder, LIST_NAME))
    worth_keeping = complete or (stage.goes_on_from(stage.folder) and not stopped)
    if worth_keeping and not anew and (own_changes or not redo):
        listed = "\n  ".join(changed)
        raise UserError(
            f"{stage.folder} holds the work of other settings or inputs:\n  {listed}\n"
            "Give those settings again, or another --workdir, or --overwrite to do it anew "
            "(the old folder is kept beside it; where several processes work, rename it instead)"
            + ("." if own_changes else "; --stage=all does so by itself.")
        )
    return changed or ["--overwrite was given"]


def _move_aside(stage: Stage, why: list[str]) -> None:
    kept = _free_name(f"{stage.folder}.old-{time.strftime('%Y%m%dT%H%M%S')}")
    with in_use.hold(stage.folder):
        files.rename(stage.folder, kept)
    listed = "\n  ".join(why)
    logging.info("stage %s: done again, because\n  %s\nOld work: %s", stage.name, listed, kept)


def _free_name(path: str) -> str:
    names = (f"{path}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([path], names) if not files.exists(name))


def _begun_otherwise(stage: Stage, settings: config.Config) -> list[str] | None:
    """What has changed since the unfinished work in the folder was begun; None: it was not."""
    path = files.join(stage.folder, STARTED)
    if not files.exists(path):
        return None
    begun = documents.read_json(path)
    advice = f"Move {stage.folder} away; its unfinished work cannot be told from other work."
    check(begun, {TEXT: ANY}, path=path, advice=advice)
    return stage.changes(begun, settings, finished=False)


def _finish(stage: Stage, result: Result, *, settings: config.Config, seconds: float) -> None:
    outputs = {name: files.sha256(files.join(stage.folder, name)) for name in result.outputs}
    info = {
        "kd_tf": __version__,
        "commit": manifests.commit(),
        "versions": {
            **{name: importlib.metadata.version(name) for name in ("keras", "keras-cv", "numpy")},
            "tensorflow": tf.__version__,
        },
        "num_workers": settings.num_workers,
        "seconds": round(seconds, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(),
        **result.info,
    }
    manifests.write(
        stage.folder,
        manifests.Manifest(
            stage.name,
            stage.identity(settings, finished=True),
            outputs=outputs,
            info=info,
            counts=result.counts,
        ),
    )
    logging.info("stage %s: done in %.0f s.", stage.name, seconds)
