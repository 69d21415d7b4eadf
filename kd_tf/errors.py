"""Errors that are the input's fault, so a message serves better than a traceback."""


class UserError(ValueError):
    """Something the user gave is wrong. Says what came, what is allowed, what to do."""


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
