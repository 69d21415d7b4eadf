"""Inference on all replicas of a strategy: every local GPU, every core of a TPU."""

import contextlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

Infer = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def spreading(strategy: tf.distribute.Strategy | None) -> tf.distribute.Strategy | None:
    """The strategy, if this process alone can run inference on its replicas; else None.

    With several workers the first one labels and validates while the others wait, so what it
    runs must not be theirs too; a strategy of one device needs no help.
    """
    kinds = (tf.distribute.MirroredStrategy, tf.distribute.TPUStrategy)
    return strategy if isinstance(strategy, kinds) else None


def scope(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager:
    """Where a network that `on_replicas` is to run must be built or loaded."""
    spread = spreading(strategy)
    return spread.scope() if spread else contextlib.nullcontext()


def round_up(batch_size: int, *, strategy: tf.distribute.Strategy | None) -> int:
    """The next multiple of the number of replicas."""
    spread = spreading(strategy)
    replicas = spread.num_replicas_in_sync if spread else 1
    return -(-batch_size // replicas) * replicas


def on_replicas(
    infer: Infer, *, strategy: tf.distribute.Strategy
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function that cuts a batch into equal parts, one for each replica.

    Args:
        infer: Of a part [B / replicas, ...]; every result has a row for each of its images.
        strategy: One that `spreading` lets through.

    Returns:
        batch [B, ...], B a multiple of the number of replicas -> the rows of all results, in
        the order of the batch.
    """
    run = tf.function(lambda part: strategy.run(infer, args=(part,)), autograph=False)

    def call(batch: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(batch, strategy.num_replicas_in_sync)
        given = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )
        local = strategy.experimental_local_results
        return {
            name: np.concatenate([rows.numpy() for rows in local(found)])
            for name, found in run(given).items()
        }

    return call
