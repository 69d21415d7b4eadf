"""A running average of the weights: what is validated and kept."""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from kd_tf.training import flat


def decay_at(step: tf.Tensor, *, decay: float) -> tf.Tensor:
    """The decay of one update: min(decay, (1 + n) / (10 + n)) after n updates.

    A constant 0.999 would remember the random start for thousands of steps;
    this average covers about the last tenth of the run until `decay` is reached.

    Args:
        step: Scalar integer tensor, the number of updates before this one.
        decay: Upper bound in [0, 1).

    Returns:
        Scalar float32.

    Source: tf.train.ExponentialMovingAverage, argument `num_updates`.
    """
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1.0 + step) / (10.0 + step))


def create(variables: Sequence[tf.Variable]) -> tf.Variable:
    """The averages of all variables as one vector (see `flat`), starting at their values.

    Call it in the strategy's scope. BatchNorm's moving statistics are averaged with the
    same decay: they then belong to the averaged weights, as live statistics would not.
    """
    return tf.Variable(flat.join(variables), trainable=False)


def update(
    average: tf.Variable, variables: Sequence[tf.Variable], *, step: tf.Tensor, decay: float
) -> None:
    """Moves the average towards the variables, after update `step` was applied."""
    share = 1.0 - decay_at(step, decay=decay)
    average.assign_sub(share * (average - flat.join(variables)))


@contextlib.contextmanager
def swapped(variables: Sequence[tf.Variable], average: tf.Variable | None) -> Iterator[None]:
    """Gives the variables their averages for the length of the block, then takes them back.

    With no average kept the block sees the variables as they are.
    """
    if average is None:
        yield
        return
    live = [tf.identity(variable) for variable in variables]
    put(variables, average)
    try:
        yield
    finally:
        assign_all(variables, live)


def put(variables: Sequence[tf.Variable], average: tf.Variable) -> None:
    """Gives the variables their averages, on every replica."""
    assign_all(variables, flat.cut(tf.convert_to_tensor(average), variables))


def assign_all(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Writes every value, on every replica."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
