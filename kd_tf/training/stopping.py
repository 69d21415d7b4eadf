"""The ways a run ends early."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

import tensorflow as tf

from kd_tf.errors import UserError

_IDS_SHOWN = 32
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class TrainingDivergedError(UserError):
    """A loss or gradient was not finite; nothing of that update was saved.

    Attributes:
        step: The update, counted from 1.
        ids: Source ids of the images of its global batch; empty if the data has none.
    """

    def __init__(self, message: str, *, step: int, ids: Sequence[str]):
        super().__init__(message)
        self.step = step
        self.ids = tuple(ids)


class WorkerLostError(UserError):
    """Another worker is gone, so no update can be summed over all of them."""


class PreemptedError(SystemExit):
    """A signal came and the state is saved; the process ends with code 128 + its number."""

    def __init__(self, step: int, *, folder: str, signum: signal.Signals | None):
        """Says so at once.

        Args:
            step: The update that was the last.
            folder: Where it is saved.
            signum: What came; None where another worker was asked.
        """
        signum = signum or signal.SIGTERM
        super().__init__(128 + signum)
        self.message = (
            f"{signum.name}: stopped after update {step}, saved in {folder}. "
            "The same command goes on from there."
        )
        print(self.message, file=sys.stderr, flush=True)

    def __str__(self) -> str:
        return self.message


def diverged(
    *, step: int, ids: Sequence[str], metrics: dict[str, float], saved: Sequence[int]
) -> TrainingDivergedError:
    """The error for an update that was not finite, with what is known about it."""
    shown = ", ".join(ids[:_IDS_SHOWN]) or "unknown (the data has no ids)"
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    values = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
    kept = f"The checkpoint of step {saved[-1]} stays" if saved else "No checkpoint was made yet"
    return TrainingDivergedError(
        f"Update {step} was not finite: {values}. Images of its batch: {shown}{more}. {kept}. "
        "Look at these images and their labels; else lower the learning rate, raise the "
        "warm-up or lower clip_norm, which needs a run of its own.",
        step=step,
        ids=ids,
    )


class Asked:
    """Whether, and by which signal, the process was asked to stop."""

    def __init__(self):
        self.signum: signal.Signals | None = None

    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self.signum is not None


@contextlib.contextmanager
def watching_signals() -> Iterator[Asked]:
    """Notes SIGTERM and SIGINT (Ctrl-C) of the block; the handlers before come back after.

    A second SIGINT does what it did before, and what was ignored stays ignored. Signals reach
    the main thread only: elsewhere nothing is noted.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(signum: int, frame: object) -> None:
        del frame
        asked.signum = signal.Signals(signum)
        logging.warning("%s: finishing this call, then saving.", asked.signum.name)
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    before = {one: how for one, how in before.items() if how is not signal.SIG_IGN}
    try:
        for one in before:
            signal.signal(one, ask)
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def naming_lost_workers(*, num_workers: int) -> Iterator[None]:
    """Turns the errors by which a lost worker shows into one that says what to do.

    Seen when a worker was killed: UnavailableError "Collective ops is aborted by: Socket
    closed" within seconds. An error of this worker's own data is of another kind and passes.
    After a loss this process will end with code 1 and without TensorFlow's clean-up, in
    which 8 of 13 surviving workers waited for ever for the thread of a batch iterator.
    """
    try:
        yield
    except _LOST as error:
        if num_workers == 1:
            raise
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "aborted by" in line), lines[0])
        atexit.register(_end_at_once)
        raise WorkerLostError(
            f"An update needs all {num_workers} workers, and one is gone ({reason}). Start all "
            "workers again with the same command: training goes on from the last checkpoint."
        ) from error


def _end_at_once() -> None:
    """Ends the process; run at exit, when the error has been reported already."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
