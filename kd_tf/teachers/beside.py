"""Work that runs beside the caller's, in order, in one thread of its own."""

import concurrent.futures
from collections.abc import Callable


class Beside:
    """Takes calls and runs them one after the other while the caller goes on.

    Used as a context manager: its end waits for what was taken. What a call raises is
    raised by the next `call`, or at the end.
    """

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._waiting: list[concurrent.futures.Future] = []

    def call(self, function: Callable[[], None]) -> None:
        """Takes one more call. Raises what an earlier one raised."""
        finished = [one for one in self._waiting if one.done()]
        self._waiting = [one for one in self._waiting if one not in finished]
        for one in finished:
            one.result()
        self._waiting.append(self._pool.submit(function))

    def __enter__(self) -> "Beside":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for one in self._waiting:
                one.result()
