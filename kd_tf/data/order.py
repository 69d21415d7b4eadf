"""Which record is read when: a permutation of (seed, epoch), so nothing is replayed on resume."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from kd_tf.errors import UserError

_WORD = (1 << 64) - 1


def random_stream(seed: int, *, epoch: int, number: int) -> np.random.Generator:
    """Random numbers that depend on nothing but (seed, epoch, number).

    Philox turns a key into a stream of its own, so neither the worker nor the thread nor
    what was drawn before matters.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    key = np.array([seed & _WORD, (epoch << 40 | number) & _WORD], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """The endless sequence of records that all workers together read.

    Attributes:
        rows: [N] indices into the records of all sets put one behind the other.
        seed: Of the permutations.
    """

    rows: np.ndarray
    seed: int

    def __post_init__(self):
        if not len(self.rows):
            raise UserError("There is no record to train on: the records or `rows` are empty.")

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, row) of a place in the sequence; each epoch has every row once."""
        epoch, place = divmod(position, len(self.rows))
        return epoch, int(self._permutation(epoch)[place])

    @functools.lru_cache(maxsize=2)  # noqa: B019 - lives as long as the pipeline anyway
    def _permutation(self, epoch: int) -> np.ndarray:
        # All ones behind the epoch: a stream that no record has.
        stream = random_stream(self.seed, epoch=epoch, number=(1 << 40) - 1)
        return stream.permutation(self.rows)


def worker_position(
    index: int | tf.Tensor, *, batch_size: int, worker_index: int, num_workers: int
) -> int | tf.Tensor:
    """Place in the global sequence of the `index`-th image that a worker reads.

    Worker w takes the w-th of `num_workers` equal parts of every global batch, so the
    global batch is the same whatever the number of workers. `index` is an int or an int64
    tensor, and so is the result.
    """
    share = batch_size // num_workers
    return index // share * batch_size + worker_index * share + index % share
