"""Losses per element, unreduced: float32 in, float32 out, right for soft targets."""

import tensorflow as tf


def binary_cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Cross entropy of sigmoid(logits) with targets in [0, 1], same shape, exact at any logit."""
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)


def quality_focal(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Focal loss for targets anywhere in [0, 1]: (y - p)^2 * cross entropy(p, y).

    With y = 1 or y = 0 it is the focal loss without its weight alpha; between, its
    minimum is 0, at p = y.

    Args:
        logits: Any shape, float32; p = sigmoid(logits).
        targets: y, the same shape.

    Source: Li et al. 2020, "Generalized Focal Loss", eq. 5, https://arxiv.org/abs/2006.04388;
    Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 4,
    https://arxiv.org/abs/1708.02002.
    """
    factor = tf.square(targets - tf.sigmoid(logits))
    return factor * binary_cross_entropy(logits, targets)


def distribution_focal(logits: tf.Tensor, distances: tf.Tensor) -> tf.Tensor:
    """Cross entropy of a distribution over whole distances with a real-valued distance.

    The target lies between two bins and is shared out between them linearly.

    Args:
        logits: [..., R] float32, one per distance 0, 1, ..., R - 1.
        distances: [...] float32; held to [0, R - 1.01], so that both bins exist.

    Returns:
        [...] float32.

    Source: Li et al. 2020, "Generalized Focal Loss", eq. 6, https://arxiv.org/abs/2006.04388.
    """
    num_bins = logits.shape[-1]
    distances = tf.clip_by_value(distances, 0.0, num_bins - 1.01)
    # A bin k gets 1 - |distance - k|, which is 0 for all but the two neighbours.
    bins = tf.range(num_bins, dtype=tf.float32)
    targets = tf.nn.relu(1.0 - tf.abs(distances[..., None] - bins))
    return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
