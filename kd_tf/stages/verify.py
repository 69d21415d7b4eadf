"""--verify: every record of a workdir read again, its image bytes against their sha256."""

from absl import logging

from kd_tf import manifests
from kd_tf.data.verify import verify as verify_folder
from kd_tf.errors import UserError
from kd_tf.stages.run import Run

_FOLDERS = ("labeled", "pseudo")


def verify(run: Run) -> None:
    """Checks the records of the workdir.

    Raises:
        UserError: There are none, or some are damaged; names them.
    """
    folders = [run.folder(name) for name in _FOLDERS if manifests.is_complete(run.folder(name))]
    if not folders:
        raise UserError(f"{run.settings.workdir} holds no finished records to verify.")
    problems = []
    for folder in folders:
        found = verify_folder(folder)
        logging.info("%s: %d records, %d problems.", folder, found.num_records, len(found.problems))
        problems += [f"{folder}: {problem}" for problem in found.problems]
    if problems:
        raise UserError("Damaged records:\n  " + "\n  ".join(problems))
