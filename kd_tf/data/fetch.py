"""Reads the records of one training example, wherever it stands in the endless sequence."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from kd_tf.data.augment_plan import AugmentSettings, draw_plan
from kd_tf.data.order import Order, random_stream
from kd_tf.data.shards import RecordSet


@dataclasses.dataclass(frozen=True, eq=False)
class Shelf:
    """Several sets of records, numbered through.

    Attributes:
        sets: The sets in order.
        first: [S + 1] number of the first record of each set, and of all records.
    """

    sets: tuple[RecordSet, ...]
    first: np.ndarray

    @classmethod
    def of(cls, records: RecordSet | Sequence[RecordSet]) -> "Shelf":
        """One or several sets."""
        sets = (records,) if isinstance(records, RecordSet) else tuple(records)
        return cls(sets, np.cumsum([0, *map(len, sets)]))

    def __len__(self) -> int:
        return int(self.first[-1])

    def set_of(self, row: int) -> int:
        """The index of the set that holds a record."""
        return int(np.searchsorted(self.first, row, side="right")) - 1

    def read(self, row: int) -> bytes:
        """A record. Raises RejectedError, naming file and record, where it is damaged."""
        number = self.set_of(row)
        return self.sets[number].read(row - int(self.first[number]))


@dataclasses.dataclass(frozen=True, eq=False)
class Fetcher:
    """Records and plan of an example; safe to call from several threads.

    Attributes:
        shelf: Where the records are.
        order: Which one is read when.
        settings: How images are varied.
    """

    shelf: Shelf
    order: Order
    settings: AugmentSettings

    def __call__(self, position: np.ndarray) -> tuple[np.ndarray, ...]:
        """Everything the example at a place of the sequence is made of.

        Args:
            position: int64 scalar.

        Returns:
            The serialized records [T] (bytes), the index of their set (int32), and
            `Plan.layout` and `Plan.tiles`. Other images of a mosaic or mixup come from the
            same set, since its images mostly judge the same classes.

        Raises:
            RejectedError: A record is damaged; the message names file and record.
        """
        epoch, row = self.order.at(int(position))
        stream = random_stream(self.order.seed, epoch=epoch, number=row)
        plan = draw_plan(self.settings, stream=stream)
        number = self.shelf.set_of(row)
        rows = self._rows_of_sets[number]
        partners = rows[(plan.partners * len(rows)).astype(np.int64)]
        # An object array: NumPy's own strings lose zero bytes at the end.
        serialized = np.empty(plan.num_tiles, object)
        serialized[:] = [self.shelf.read(int(one)) for one in (row, *partners)]
        return serialized, np.int32(number), plan.layout, plan.tiles

    @functools.cached_property
    def _rows_of_sets(self) -> list[np.ndarray]:
        rows, first = np.sort(self.order.rows), self.shelf.first
        ends = np.searchsorted(rows, first)
        return [rows[ends[n] : ends[n + 1]] for n in range(len(self.shelf.sets))]
