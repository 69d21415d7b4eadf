"""What every stage knows: the settings, with their defaults filled in, and the folders."""

import dataclasses

from kd_tf import config, files
from kd_tf.errors import UserError

_SCENES = {"labeled": ("scenes:train",), "eval_data": "scenes:eval"}


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of the program.

    Attributes:
        settings: Its settings, defaults filled in.
        redo: Whether stages whose inputs changed are done again: for `--stage=all`.
    """

    settings: config.Config
    redo: bool

    def folder(self, *parts: str) -> str:
        """A folder or file of the workdir."""
        return files.join(self.settings.workdir, *parts)


def start(settings: config.Config) -> Run:
    """The run of some settings; without any data the embedded scenes are taken."""
    given = (settings.labeled, settings.unlabeled, settings.val_data, settings.eval_data)
    if not any(given):
        settings = dataclasses.replace(settings, **_SCENES)
    return Run(settings, redo=settings.stage == "all")


def need_labels(run: Run, stage: str) -> None:
    """Raises UserError where a stage needs labelled data and none was given."""
    if not run.settings.labeled:
        raise UserError(f"stage {stage} learns from people's labels; give --labeled=KIND:LOCATION.")
