"""Which process works in a stage's folder, and who may join it."""

import contextlib
import time
from collections.abc import Callable, Iterator

from kd_tf import files
from kd_tf.errors import UserError

LOCK = "in_use.lock"
_POLL_S = 0.2
# Workers that are started at once remove the note of an older beginning one after the other.
_PATIENCE_S = 5.0


@contextlib.contextmanager
def hold(folder: str, *, shared: bool = False) -> Iterator[None]:
    """Holds a folder for the length of the block.

    Args:
        folder: Where the work is done.
        shared: Together with others that hold it so.

    Raises:
        UserError: Another process holds it.
    """
    with files.locked(files.join(folder, LOCK), shared=shared) as holder:
        if holder:
            raise UserError(
                f"{holder} is at work in {folder}. Wait until it has finished, or stop it "
                "(what it has done is kept), and give the same command again; or give another "
                "--workdir."
            )
        yield


def agree(folder: str, *, note: str, changes: Callable[[], list[str]]) -> None:
    """Sees to it that all who share the work of a folder do the same work.

    Args:
        folder: Where the work is done.
        note: The file in which the first of them wrote what it does; removed where nobody
            who wrote or read it is there any more.
        changes: What this process would do otherwise than the note says, a line each; none
            where there is no note.

    Raises:
        UserError: Others are at work, and not at the same.
    """
    end = time.monotonic() + _PATIENCE_S
    while found := changes():
        with files.locked(files.join(folder, LOCK)) as holder:
            if not holder:
                files.remove_if_there(files.join(folder, note))
                return
        if time.monotonic() > end:
            listed = "\n  ".join(found)
            raise UserError(
                f"{holder} is at work in {folder} with other settings or inputs:\n  {listed}\n"
                "Give all workers the same, or wait until it has finished, or give another "
                "--workdir."
            )
        time.sleep(_POLL_S)
