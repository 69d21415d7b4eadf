"""Many arrays as one vector: one all-reduce, one loop variable, one update of the averages."""

from collections.abc import Sequence

import tensorflow as tf


def join(arrays: Sequence[tf.Tensor | tf.Variable]) -> tf.Tensor:
    """All entries of all arrays, of one dtype, in their order: [N]."""
    return tf.concat([tf.reshape(array, [-1]) for array in arrays], axis=0)


def cut(vector: tf.Tensor, like: Sequence[tf.Tensor | tf.Variable]) -> list[tf.Tensor]:
    """The inverse of `join`: a vector [N] as arrays of the shapes of `like`."""
    sizes = [array.shape.num_elements() for array in like]
    parts = tf.split(vector, sizes)
    return [tf.reshape(part, array.shape) for part, array in zip(parts, like, strict=True)]
