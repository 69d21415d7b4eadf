"""Progress that a person can follow on a terminal and read in a log file."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

T = TypeVar("T")

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 10.0


def bar(*, total: int | None, unit: str, description: str, initial: int = 0) -> tqdm.tqdm:
    """A tqdm bar: redrawn in place on a terminal, a line every ten seconds in a file."""
    terminal = sys.stderr.isatty()
    return tqdm.tqdm(
        total=total,
        initial=initial,
        unit=f" {unit}",
        desc=description,
        mininterval=_TERMINAL_SECONDS if terminal else _LOG_SECONDS,
        maxinterval=_TERMINAL_SECONDS if terminal else _LOG_SECONDS,
        ascii=None if terminal else True,
        ncols=None if terminal else 0,
        file=sys.stderr if terminal else _Lines(),
    )


def follow(items: Iterable[T], *, total: int | None, unit: str, description: str) -> Iterator[T]:
    """Passes items through and shows how far it is, how fast, and how long it takes."""
    with bar(total=total, unit=unit, description=description) as progress:
        for item in items:
            yield item
            progress.update()


class _Lines:
    """Turns tqdm's carriage returns into lines."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n")
        if text:
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()
