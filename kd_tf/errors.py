"""Errors that are the input's fault, so a message serves better than a traceback."""

import traceback


class UserError(ValueError):
    """Something the user gave is wrong. Says what came, what is allowed, what to do."""


class PathError(UserError):
    """A file or folder cannot be read or written: no right, no room, or no such place."""


class RejectedError(UserError):
    """One image or its annotation cannot be used; the run goes on without it.

    Attributes:
        reason: Short, fixed words (no file name, no number), so that rejects of
            one kind can be counted together.
        detail: What was seen; may be empty.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def where_raised(error: BaseException) -> str:
    """File and line of foreign code that raised an error, as " (FILE, line N)"; "" for none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = __file__.rpartition("/")[0]
    foreign = [f for f in frames if not f.filename.startswith((own, "<frozen"))]
    # Libraries are called by the code that matters here.
    chosen = [f for f in foreign if "site-packages" not in f.filename] or foreign
    return f" ({chosen[-1].filename}, line {chosen[-1].lineno})" if chosen else ""
