"""Random numbers that are the same on every machine and in every NumPy version."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_BLOCK = 256
_LIMIT = 1 << 64


class Draws:
    """One stream of numbers, found by its address instead of by its history.

    Philox is counter-based: (seed, split) is its key and (index, purpose) the upper
    half of its counter, so no two streams overlap and image 999 needs none of the
    998 before it. Only `random_raw` is used: NumPy promises the raw stream of a bit
    generator for good, but not what `Generator` makes of it (NEP 19). Numbers
    become floats here, by exact steps.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """

    def __init__(self, *, seed: int, split: int, index: int, purpose: int):
        if not (0 <= seed < _LIMIT and 0 <= index < _LIMIT):
            raise ValueError(f"seed and index must be in [0, 2**64), got {seed} and {index}.")
        self._bits = np.random.Philox(
            key=np.array([seed, split], np.uint64),
            counter=np.array([0, 0, purpose, index], np.uint64),
        )
        self._numbers = self._endless()

    def _endless(self) -> Iterator[int]:
        while True:
            yield from (self._bits.random_raw(_BLOCK) >> np.uint64(11)).tolist()

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * (next(self._numbers) * 2.0**-53)

    def integer(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        return next(self._numbers) * bound >> 53

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform(0.0, 1.0) < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, each as likely as the others."""
        return choices[self.integer(len(choices))]

    def octets(self, count: int) -> np.ndarray:
        """[count] uint8, uniform: cheap noise for whole images."""
        words = self._bits.random_raw(-(-count // 8)).astype("<u8")
        return words.view(np.uint8)[:count]
