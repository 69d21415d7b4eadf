"""What every stage knows: the settings, with their defaults filled in, and the folders."""

import dataclasses

import tensorflow as tf

from kd_tf import config, files, manifests
from kd_tf.errors import UserError
from kd_tf.training.strategy import build_strategy, is_chief

# Stages that score on --eval_data and do not ask for the labelled data otherwise.
_SCORING = ("evaluate", "export")


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of the program.

    Attributes:
        settings: Its settings, defaults filled in.
        redo: Whether stages whose inputs changed are done again: for `--stage=all`.
        strategy: Where networks train and run; None in a run that has no use for one.
        redone: Folders that this call has done already, so that --overwrite does none twice.
    """

    settings: config.Config
    redo: bool
    strategy: tf.distribute.Strategy | None = None
    redone: set[str] = dataclasses.field(default_factory=set)

    @property
    def chief(self) -> bool:
        """Whether this process does what one process must do alone."""
        return self.strategy is None or is_chief(self.strategy)

    def folder(self, *parts: str) -> str:
        """A folder or file of the workdir."""
        return files.join(self.settings.workdir, *parts)

    def need(self, stage: str) -> str:
        """The folder of a stage that must have finished.

        Raises:
            UserError: It has not.
        """
        folder = self.folder(stage)
        if not manifests.is_complete(folder) and not self.settings.dry_run:
            raise UserError(
                f"--stage={self.settings.stage} builds on stage {stage}, which has not finished "
                f"in {self.settings.workdir}. Run --stage={stage} first, or --stage=all."
            )
        return folder

    def input_hash(self, folder: str) -> str:
        """Content hash of a finished stage, as an input of another; a dry run needs none."""
        if self.settings.dry_run and not manifests.is_complete(folder):
            return "not there yet"
        return manifests.identity_hash(folder)


def start(settings: config.Config) -> Run:
    """The run of some settings, with the defaults that depend on what data there is.

    Raises:
        UserError: No data is given to score on, in a workdir that was made of other data than
            is taken by default.
    """
    given, settings = settings, config.with_defaults(settings)
    if settings.eval_data != given.eval_data and settings.stage in _SCORING:
        _refuse_other_data(settings)
    # First of all: some strategies must be there before any TensorFlow operation.
    strategy = build_strategy(settings.strategy, tpu=settings.tpu) if _computes(settings) else None
    return Run(settings, redo=settings.stage == "all", strategy=strategy)


def _computes(settings: config.Config) -> bool:
    """Whether the devices of --strategy have something to do; one worker alone evaluates."""
    if settings.dry_run:
        return False
    if settings.stage == "evaluate":
        return settings.strategy in ("mirrored", "tpu")
    return settings.stage in (*config.TRAINING, "pseudo", "all")


def _refuse_other_data(settings: config.Config) -> None:
    """Scores of images that a model was not made for say nothing, and nobody asked for them."""
    for stage, key in (("labeled", "labeled"), ("pseudo", "unlabeled")):
        folder = files.join(settings.workdir, stage)
        if not manifests.is_complete(folder):
            continue
        made_of = tuple(manifests.read(folder).identity[key])
        if made_of != getattr(settings, key):
            raise UserError(
                f"--stage={settings.stage} needs data to score on: {settings.workdir} was made of "
                f"{', '.join(made_of)}, and no data is given. Give --eval_data=KIND:LOCATION, or "
                f"the flags of that run: --flagfile={files.join(folder, 'flags.txt')}."
            )


def need_labels(run: Run, stage: str) -> None:
    """Raises UserError where a stage needs labelled data and none was given."""
    if not run.settings.labeled:
        raise UserError(f"stage {stage} learns from people's labels; give --labeled=KIND:LOCATION.")
