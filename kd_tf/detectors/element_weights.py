"""What labels say to each (anchor, class), and how much it counts.

Both families: box weights, ignored boxes, judged classes.
"""

from collections.abc import Callable

import tensorflow as tf

from kd_tf.detectors import assign

# Logits whose loss is computed at once: 32 MB a tensor, of which there are about ten.
MOST_SCORES = 1 << 23


def valid_boxes(labels: dict[str, tf.Tensor]) -> tf.Tensor:
    """Rows of the labels that are boxes to learn: [B, M] bool (no padding, no ignored box)."""
    return (labels["classes"] >= 0) & ~labels["ignore"]


def scores_of_boxes(logits: tf.Tensor, labels: dict[str, tf.Tensor]) -> tf.Tensor:
    """Each anchor's score for the class of each box, [B, M, A] float32; no gradient passes.

    Args:
        logits: [B, A, C] float32. Of 1,203 classes an image has a handful; only theirs are read.
        labels: As the input pipeline gives them.
    """
    rows = tf.maximum(labels["classes"], 0)
    found = tf.gather(tf.stop_gradient(logits), rows, axis=2, batch_dims=1)
    return tf.sigmoid(tf.transpose(found, [0, 2, 1]))


def assign_labels(
    scores: tf.Tensor, predicted: tf.Tensor, *, points: tf.Tensor, labels: dict[str, tf.Tensor]
) -> tuple[assign.Assignment, tf.Tensor]:
    """What each anchor learns of the labels, and what ignored boxes hide from it.

    Args:
        scores: [B, M, A], of `scores_of_boxes`.
        predicted, points: As for `assign.task_aligned`.
        labels: As the input pipeline gives them.

    Returns:
        The assignment, and [B, M, A] bool: the box is ignored and holds the anchor's point.
    """
    assignment = assign.task_aligned(
        scores, predicted, points=points, boxes=labels["boxes"], valid=valid_boxes(labels)
    )
    ignored = (labels["classes"] >= 0) & labels["ignore"]
    return assignment, assign.points_inside(points, labels["boxes"]) & ignored[..., None]


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


def class_loss(
    logits: tf.Tensor,
    labels: dict[str, tf.Tensor],
    assignment: assign.Assignment,
    *,
    hiding: tf.Tensor,
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Sum of the class loss over all anchors and classes, each with its target and weight.

    A positive anchor aims at its target score for the class of its box, and at 0 for all others;
    it counts as its box does. Elsewhere the anchor is background. On neither is a class
    background that nobody judged in the image, or that is hidden; the class of a positive anchor's
    box counts all the same.

    Targets and weights are as large as the logits. Where these are large (many classes), they are
    made, used and forgotten part by part, with the gradient: with 1,203 classes the whole of them
    took most of 7.9 GB.

    Args:
        logits: [B, A, C] float32.
        labels: As the input pipeline gives them.
        assignment: What each anchor learns.
        hiding: [B, M, A] bool, which ignored boxes hold the anchor's point.
        loss: From logits and targets to an unreduced loss.

    Returns:
        A float32 scalar.
    """
    anchors = (
        tf.where(assignment.positive, assignment.target, 0.0),
        tf.gather(labels["classes"], assignment.box, batch_dims=1),
        assignment.positive,
        anchor_weights(labels, assignment),
        tf.transpose(hiding, [0, 2, 1]),
    )
    images = (tf.cast(labels["judged"], tf.float32), background_weights(labels), labels["classes"])

    def summed(logits: tf.Tensor, anchors: tuple, images: tuple) -> tf.Tensor:
        target, own_class, positive, own_weight, hiding = anchors
        judged, background, classes = images
        num_classes = logits.shape[2]
        hidden = tf.matmul(tf.cast(hiding, tf.float32), tf.one_hot(classes, num_classes)) > 0.5
        sure = tf.cast(~hidden, tf.float32) * judged[:, None, :]
        own = tf.one_hot(own_class, num_classes)
        weights = tf.where(
            positive[..., None],
            own_weight[..., None] * tf.maximum(sure, own),
            background[:, None, None] * sure,
        )
        return tf.reduce_sum(loss(logits, own * target[..., None]) * weights)

    num_parts = _num_parts(logits)
    if num_parts == 0:
        return summed(logits, anchors, images)
    anchors = tf.nest.map_structure(lambda rows: _cut(rows, num_parts), anchors)
    images = tf.nest.map_structure(lambda rows: tf.repeat(rows, num_parts, axis=0), images)

    @tf.custom_gradient
    def in_parts(logits: tf.Tensor):
        def of_part(part: tuple) -> tuple[tf.Tensor, tf.Tensor]:
            logits, anchors, images = tf.nest.map_structure(lambda rows: rows[None], part)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                total = summed(logits, anchors, images)
            return total, tape.gradient(total, logits)[0]

        totals, gradients = tf.map_fn(
            of_part,
            (_cut(logits, num_parts), anchors, images),
            fn_output_signature=(tf.float32, tf.float32),
            parallel_iterations=1,
        )
        gradients = tf.reshape(gradients, tf.shape(logits))
        return tf.reduce_sum(totals), lambda upstream: upstream * gradients

    return in_parts(logits)


def _num_parts(logits: tf.Tensor) -> int:
    """Into how many equal parts each image's anchors are cut; 0 where the batch is small."""
    batch, num_anchors, num_classes = logits.shape
    if (batch or 1) * num_anchors * num_classes <= MOST_SCORES:
        return 0
    most = max(MOST_SCORES // num_classes, 1)
    divisors = (n for n in range(1, num_anchors + 1) if num_anchors % n == 0)
    return next(n for n in divisors if num_anchors // n <= most)


def _cut(rows: tf.Tensor, num_parts: int) -> tf.Tensor:
    """[B, A, ...] as [B * num_parts, A / num_parts, ...]."""
    return tf.reshape(rows, [-1, rows.shape[1] // num_parts, *rows.shape[2:]])
