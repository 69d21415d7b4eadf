"""Several updates per call from Python, on any strategy."""

from collections.abc import Callable, Iterator

import tensorflow as tf

from kd_tf.training import train_step
from kd_tf.training.settings import TrainSettings

Row = dict[str, float]


def build_call(
    state: train_step.State, *, settings: TrainSettings, strategy: tf.distribute.Strategy
) -> Callable[..., list[Row]]:
    """The function that runs `count` updates without coming back to Python in between.

    It is traced once: first step and count are tensors. The loop stands outside
    `strategy.run`, since an all-reduce of a mirrored strategy cannot stand inside a loop
    of its replica.

    Returns:
        (iterator of distributed batches, first_step=int, count=int) -> one row of metrics
        per update, see `train_step.build_train_step`.
    """
    run_step = train_step.build_train_step(state, settings=settings)
    names: list[str] = []  # Known once the step is traced: the loss terms are the network's.

    # Nothing in a step needs AutoGraph, and its conversion took 5 of 24 s of tracing.
    @tf.autograph.experimental.do_not_convert
    def replica_step(batch: train_step.Batch, step: tf.Tensor) -> tf.Tensor:
        metrics = run_step(batch, step)
        names[:] = sorted(metrics)
        return tf.stack([metrics[name] for name in names])

    @tf.function(reduce_retracing=True)
    def run_updates(batches: Iterator, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        rows = tf.TensorArray(tf.float32, size=count)
        for index in tf.range(count):
            step = first + tf.cast(index, tf.int64)
            per_replica = strategy.run(replica_step, args=(next(batches), step))
            # Metrics are sums over all replicas already, so any replica's will do.
            rows = rows.write(index, strategy.experimental_local_results(per_replica)[0])
        return rows.stack()

    def call(batches: Iterator, *, first_step: int, count: int) -> list[Row]:
        first = tf.constant(first_step, tf.int64)
        values = run_updates(batches, first, tf.constant(count, tf.int32)).numpy()
        return [dict(zip(names, map(float, row), strict=True)) for row in values]

    return call


def steps_until_host(step: int, *, settings: TrainSettings) -> int:
    """Updates until the host has to look: the end of the call, or something is due.

    Calls end at multiples of steps_per_call, so a resumed run falls into the same rhythm.
    """
    periods = (settings.steps_per_call, settings.eval_every, settings.checkpoint_every)
    until = [period - step % period for period in periods if period]
    return min([*until, settings.steps - step])


def is_due(step: int, *, every: int, steps: int) -> bool:
    """Whether something done every so many updates, and at the end, is due after `step`."""
    return step > 0 and (step == steps or (every > 0 and step % every == 0))
