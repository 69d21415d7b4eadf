"""Which process works in a stage's folder, and who may share its work."""

import contextlib
import time
from collections.abc import Callable, Iterator

from kd_tf import files
from kd_tf.errors import UserError

LOCK = "in_use.lock"
_POLL_S = 0.2
# Workers that are started at once see each other begin.
_PATIENCE_S = 5.0


@contextlib.contextmanager
def hold(folder: str) -> Iterator[None]:
    """Holds a folder, alone, for the length of the block.

    Raises:
        UserError: Another process holds it.
    """
    with files.locked(files.join(folder, LOCK)) as holder:
        if holder:
            raise UserError(_at_work(holder, folder))
        yield


@contextlib.contextmanager
def share(
    folder: str, *, begin: Callable[[], None], changes: Callable[[], list[str] | None]
) -> Iterator[None]:
    """Holds a folder for the length of the block, together with others that do the same work.

    What the work is, is noted only while nobody else holds the folder, and looked at again
    while it is held. Where nothing can be locked, on gs:// for one, nobody is seen and the
    last note stands.

    Args:
        folder: Where the work is done.
        begin: Notes what this process does; leaves the note alone where that may not be done.
        changes: What it would do otherwise than the note says, a line each; None without one.

    Raises:
        UserError: Another process holds the folder alone, or others do other work in it.
    """
    end = time.monotonic() + _PATIENCE_S
    while True:
        if changes() != []:
            with files.locked(files.join(folder, LOCK)) as holder:
                if not holder:
                    begin()
        with files.locked(files.join(folder, LOCK), shared=True) as holder:
            found = changes()
            if not holder and found == []:
                yield
                return
        if time.monotonic() > end:
            raise UserError(_at_work(holder, folder) if holder else _other(folder, found or []))
        time.sleep(_POLL_S)


def _at_work(holder: str, folder: str) -> str:
    return (
        f"{holder} is at work in {folder}. Wait until it has finished, or stop it (what it has "
        "done is kept), and give the same command again; or give another --workdir."
    )


def _other(folder: str, found: list[str]) -> str:
    listed = "\n  ".join(found)
    return (
        f"Other processes are at work in {folder} with other settings or inputs:\n  {listed}\n"
        "Give all workers the same, or this one another --workdir."
    )
