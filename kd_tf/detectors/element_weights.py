"""What labels say to each (anchor, class), and how much it counts.

Both families: box weights, ignored boxes, judged classes.
"""

import tensorflow as tf

from kd_tf.detectors import assign


def valid_boxes(labels: dict[str, tf.Tensor]) -> tf.Tensor:
    """Rows of the labels that are boxes to learn: [B, M] bool (no padding, no ignored box)."""
    return (labels["classes"] >= 0) & ~labels["ignore"]


def assign_labels(
    scores: tf.Tensor, predicted: tf.Tensor, *, points: tf.Tensor, labels: dict[str, tf.Tensor]
) -> tuple[assign.Assignment, tf.Tensor]:
    """What each anchor learns of the labels, and what ignored boxes hide from it.

    Args:
        scores, predicted, points: As for `assign.task_aligned`.
        labels: As the input pipeline gives them.

    Returns:
        The assignment, and [B, A, C] bool: an ignored box of the class holds the anchor's point.
    """
    assignment = assign.task_aligned(
        scores,
        predicted,
        points=points,
        boxes=labels["boxes"],
        classes=labels["classes"],
        valid=valid_boxes(labels),
    )
    ignored = (labels["classes"] >= 0) & labels["ignore"]
    inside = assign.points_inside(points, labels["boxes"]) & ignored[..., None]
    classes = tf.one_hot(labels["classes"], labels["judged"].shape[1])
    hits = tf.matmul(tf.cast(inside, tf.float32), classes, transpose_a=True)
    return assignment, hits > 0.5


def background_weights(labels: dict[str, tf.Tensor]) -> tf.Tensor:
    """How far each image's background is trusted: [B] float32.

    As far as its most trusted box. Whoever is unsure about everything in an image has
    not searched it well either; and it makes the loss of a batch 0 if all its
    weights are 0, and independent of a factor common to all of them. An image without
    a box has 1.
    """
    valid = valid_boxes(labels)
    highest = tf.reduce_max(tf.where(valid, labels["weights"], 0.0), axis=1)
    return tf.where(tf.reduce_any(valid, axis=1), highest, 1.0)


def anchor_weights(labels: dict[str, tf.Tensor], assignment: assign.Assignment) -> tf.Tensor:
    """Weight of the box that each anchor learns, 0 where it learns none: [B, A] float32."""
    weights = tf.gather(labels["weights"], assignment.box, batch_dims=1)
    return tf.where(assignment.positive, weights, 0.0)


def class_targets(labels: dict[str, tf.Tensor], assignment: assign.Assignment) -> tf.Tensor:
    """The score that each anchor aims at for each class: [B, A, C] float32."""
    classes = tf.gather(labels["classes"], assignment.box, batch_dims=1)
    one_hot = tf.one_hot(classes, labels["judged"].shape[1])
    return one_hot * tf.where(assignment.positive, assignment.target, 0.0)[..., None]


def class_weights(
    labels: dict[str, tf.Tensor], assignment: assign.Assignment, *, hidden: tf.Tensor
) -> tf.Tensor:
    """How much the class loss of each anchor and class counts.

    A positive anchor counts as its box does. Elsewhere the anchor is background. On neither is
    a class background that nobody judged in the image, or that is hidden; the class of a
    positive anchor's box counts all the same.

    Args:
        labels: As the input pipeline gives them.
        assignment: What each anchor learns.
        hidden: [B, A, C] bool, of which classes an ignored box holds the anchor's point.

    Returns:
        [B, A, C] float32.
    """
    num_classes = labels["judged"].shape[1]
    judged = tf.cast(labels["judged"], tf.float32)[:, None, :]
    sure = tf.cast(~hidden, tf.float32) * judged
    background = background_weights(labels)[:, None, None] * sure
    classes = tf.gather(labels["classes"], assignment.box, batch_dims=1)
    own = tf.one_hot(classes, num_classes)
    learned = anchor_weights(labels, assignment)[..., None] * tf.maximum(sure, own)
    return tf.where(assignment.positive[..., None], learned, background)
