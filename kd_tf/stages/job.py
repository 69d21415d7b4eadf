"""When a stage's work is done, repeated, resumed or refused: one rule for every stage."""

import dataclasses
import datetime
import importlib.metadata
import subprocess
import time
from collections.abc import Callable

from absl import logging

from kd_tf import __version__, config, files, flags, manifests
from kd_tf.errors import UserError
from kd_tf.stages.run import Run

_STARTED = "started.json"
_FLAGS = "flags.txt"
_INPUT = "input: "
_POLL_S = 2.0
# Labelling a large data set takes the chief hours; a dead chief is noticed by TensorFlow first.
_PATIENCE_S = 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class Stage:
    """One folder of work.

    Attributes:
        name: Name of the stage.
        folder: Where its result lies.
        inputs: Content hashes of what it reads, by name.
        more_identity: Settings beside those that `Config.identity` lists for the name.
    """

    name: str
    folder: str
    inputs: dict[str, str]
    more_identity: dict[str, manifests.Json] = dataclasses.field(default_factory=dict)

    def identity(self, settings: config.Config) -> dict[str, manifests.Json]:
        """What decides whether work in the folder is the work that is asked for."""
        own = {**settings.identity(self.name), **self.more_identity}
        return {**own, **{_INPUT + name: digest for name, digest in self.inputs.items()}}


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
) -> bool:
    """Does a stage's work unless it is there.

    Args:
        stage: The stage.
        run: The run.
        work: Does the work and gives its result; it may find part of it done and goes on
            from there. None means that other workers still have something to finish.
        by_all: Whether all processes of a multi-worker strategy work together; else the
            chief works and the others wait for it.
        keep: Whether --overwrite leaves finished work of the same identity alone.

    Returns:
        Whether anything was done.

    Raises:
        UserError: The folder holds work done with other settings, or from other inputs.
    """
    settings = run.settings
    identity = stage.identity(settings)
    if not run.chief:
        return _follow_chief(stage, identity, work if by_all else None)
    if manifests.is_complete(stage.folder) and (keep or not settings.overwrite):
        changed = manifests.differences(manifests.read(stage.folder).identity, identity)
        if not changed:
            logging.info("stage %s: nothing to do, %s is complete.", stage.name, stage.folder)
            return False
    if settings.dry_run:
        logging.info("stage %s: would run in %s.", stage.name, stage.folder)
        return False
    _clear_the_way(stage, identity, overwrite=settings.overwrite, redo=run.redo)
    files.write_json(files.join(stage.folder, _STARTED), identity)
    own = dataclasses.replace(settings, stage=_stage_flag(stage.name))
    files.write_text(files.join(stage.folder, _FLAGS), flags.to_flagfile(own))
    logging.info("stage %s: starts in %s.", stage.name, stage.folder)
    start = time.time()
    result = work()
    if result is None:
        return True
    _finish(stage, identity, result, settings=settings, seconds=time.time() - start)
    return True


def _follow_chief(stage: Stage, identity: dict, work: Callable[[], Result | None] | None) -> bool:
    """A worker beside the chief does its part of the work, then waits for the manifest."""
    if not _is_finished(stage, identity) and work:
        work()
    waited = 0.0
    while not _is_finished(stage, identity):
        if waited >= _PATIENCE_S:
            raise UserError(f"The chief has not finished stage {stage.name} in {waited:.0f} s.")
        time.sleep(_POLL_S)
        waited += _POLL_S
    return bool(work)


def _is_finished(stage: Stage, identity: dict) -> bool:
    done = manifests.is_complete(stage.folder)
    return done and not manifests.differences(manifests.read(stage.folder).identity, identity)


def _stage_flag(name: str) -> str:
    """The value of --stage that replays it: parts without a flag belong to `all`."""
    return name if name in config.STAGES else "all"


def _clear_the_way(stage: Stage, identity: dict, *, overwrite: bool, redo: bool) -> None:
    """Leaves the folder empty or with unfinished work of the same identity; else refuses."""
    old = _identity_in(stage.folder)
    if old is None:
        return
    changed = manifests.differences(old, identity)
    if not changed and not (overwrite and manifests.is_complete(stage.folder)):
        return
    own_changes = [line for line in changed if not line.startswith(_INPUT)]
    listed = "\n  ".join(changed)
    if not overwrite and (own_changes or not redo):
        raise UserError(
            f"{stage.folder} holds the work of other settings or inputs:\n  {listed}\n"
            "Give those settings again, or another --workdir, or --overwrite to do it anew "
            "(the old folder is kept beside it)"
            + ("." if own_changes else "; --stage=all does so by itself.")
        )
    kept = f"{stage.folder}.old-{time.strftime('%Y%m%dT%H%M%S')}"
    files.rename(stage.folder, kept)
    logging.info("stage %s: done again, because\n  %s\nOld work: %s", stage.name, listed, kept)


def _identity_in(folder: str) -> dict | None:
    if manifests.is_complete(folder):
        return manifests.read(folder).identity
    path = files.join(folder, _STARTED)
    if not files.exists(path):
        return None
    # A stage that stopped before it made anything, say for a wrong setting, binds nobody.
    made = set(files.list_folder(folder)) - {_STARTED, _FLAGS}
    return files.read_json(path) if made else None


def _finish(
    stage: Stage, identity: dict, result: Result, *, settings: config.Config, seconds: float
) -> None:
    outputs = {name: files.sha256(files.join(stage.folder, name)) for name in result.outputs}
    info = {
        "kd_tf": __version__,
        "commit": commit(),
        "versions": {n: importlib.metadata.version(n) for n in ("keras", "keras-cv", "numpy")},
        "num_workers": settings.num_workers,
        "seconds": round(seconds, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(),
        **result.info,
    }
    manifests.write(
        stage.folder,
        manifests.Manifest(stage.name, identity, outputs=outputs, info=info, counts=result.counts),
    )
    logging.info("stage %s: done in %.0f s.", stage.name, seconds)


def commit() -> str:
    """The commit of the code that runs, or "unknown" outside a checkout."""
    folder = __file__.rsplit("/", 3)[0]
    try:
        found = subprocess.run(
            ["git", "-C", folder, "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
