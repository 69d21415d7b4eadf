"""Which anchor learns which box. No gradient passes."""

import dataclasses

import tensorflow as tf

from kd_tf.geometry import boxes as boxes_lib

# This and score^1 * overlap^6 are from Feng et al. 2021, "TOOD", section 4,
# https://arxiv.org/abs/2108.07755. YOLOv8 is published with 10 and score^0.5 * overlap^6, which
# learn more slowly from few images (BUILD_NOTES.md, "Training").
ALIGN_TOP = 13


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What each anchor of a batch learns.

    Attributes:
        positive: [B, A] bool.
        box: [B, A] int32, row of the box that the anchor learns; 0 where not positive.
        target: [B, A] float32 in [0, 1], the class score to learn; 0 where not positive.
    """

    positive: tf.Tensor
    box: tf.Tensor
    target: tf.Tensor


def points_inside(points: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Which points [A, 2] (x, y) lie inside which boxes [B, M, 4], edges excluded: [B, M, A]."""
    x1, y1, x2, y2 = (edge[..., None] for edge in tf.unstack(boxes, axis=-1))
    x, y = points[:, 0], points[:, 1]
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def task_aligned(
    scores: tf.Tensor,
    predicted: tf.Tensor,
    *,
    points: tf.Tensor,
    boxes: tf.Tensor,
    valid: tf.Tensor,
) -> Assignment:
    """Gives each box the anchors that classify and place it best.

    Of the anchor points inside a box, the 13 best by score * CIoU^6 (CIoU below
    0 counts as 0). An anchor that several boxes want goes to the one it overlaps
    most. A box left without any (smaller than a stride, or beaten everywhere) gets
    one nevertheless, see `serve_every_box`. Its target is its alignment, scaled so that
    each box's best anchor aims at the best overlap of that box.

    Args:
        scores: [B, M, A] float32 in [0, 1], each anchor's score for the class of each box.
        predicted: [B, A, 4] float32, xyxy pixels.
        points: [A, 2] float32, anchor points (x, y) in pixels.
        boxes: [B, M, 4] float32, xyxy pixels; may reach outside the image.
        valid: [B, M] bool, rows that are boxes to learn.

    Source: Feng et al. 2021, section 3.2, https://arxiv.org/abs/2108.07755.
    """
    scores, predicted = tf.stop_gradient(scores), tf.stop_gradient(predicted)
    overlaps = tf.nn.relu(boxes_lib.pairwise_ciou(boxes, predicted))
    alignment = scores * _sixth_power(overlaps)
    inside = points_inside(points, boxes)
    wanted = _best_per_box(alignment, candidates=inside & valid[..., None])
    box = _highest(tf.where(wanted, overlaps, -1.0))
    nearness = -_distances(points, boxes)
    box = serve_every_box(
        box, preference=tf.where(inside, 1.0 + alignment, 0.0) + nearness, valid=valid
    )
    mine = box[:, None, :] == tf.range(tf.shape(boxes)[1])[:, None]
    alignment = tf.where(mine, alignment, 0.0)
    best_alignment = tf.reduce_max(alignment, axis=2, keepdims=True)
    best_overlap = tf.reduce_max(tf.where(mine, overlaps, 0.0), axis=2, keepdims=True)
    target = tf.math.divide_no_nan(alignment, best_alignment) * best_overlap
    return Assignment(box >= 0, tf.maximum(box, 0), tf.reduce_sum(target, axis=1))


def serve_every_box(box: tf.Tensor, *, preference: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Gives every box that has no anchor the free anchor it prefers.

    Free is an anchor that was not given away here before. Where two boxes prefer the
    same one, the box to which it means more takes it (the first, if equal), and
    the other chooses again; so does a box that lost its only anchor here. Usually
    one round.

    Args:
        box: [B, A] int32, row of each anchor's box, -1 for none.
        preference: [B, M, A] float32, higher is better.
        valid: [B, M] bool.

    Returns:
        [B, A] int32 like `box`; every valid box occurs, as long as there are anchors.
    """
    num_boxes, num_anchors = preference.shape[1], preference.shape[2]
    rows = tf.range(num_boxes)[None, :, None]
    columns = tf.range(num_anchors)

    def unserved(box: tf.Tensor) -> tf.Tensor:
        return valid & ~tf.reduce_any(box[:, None, :] == rows, axis=2)

    def serve(box, given, waiting):
        lowest = preference.dtype.min
        wish = tf.argmax(
            tf.where(given[:, None, :], lowest, preference), axis=2, output_type=tf.int32
        )
        wishes = (wish[..., None] == columns) & waiting[..., None] & ~given[:, None, :]
        taker = _highest(tf.where(wishes, preference, lowest), floor=None)
        taken = tf.reduce_any(wishes, axis=1)
        box = tf.where(taken, taker, box)
        return box, given | taken, unserved(box)

    box, _, _ = tf.while_loop(
        lambda box, given, waiting: tf.reduce_any(waiting),
        serve,
        (box, tf.zeros_like(box, tf.bool), unserved(box)),
        maximum_iterations=num_boxes,
    )
    return box


def _sixth_power(x: tf.Tensor) -> tf.Tensor:
    """By multiplication: tf.pow takes fourteen times as long, a third of an assignment."""
    square = x * x
    return square * square * square


def _best_per_box(alignment: tf.Tensor, *, candidates: tf.Tensor) -> tf.Tensor:
    """Marks the best anchors of each box, [B, M, A] bool; ties go to the first anchor."""
    ranking = tf.where(candidates, alignment, -1.0)
    _, best = tf.math.top_k(ranking, k=min(ALIGN_TOP, ranking.shape[2]))
    columns = tf.range(ranking.shape[2])
    # 13 comparisons instead of one scatter: no [B, M, 13, A], and deterministic everywhere.
    wanted = tf.zeros_like(candidates)
    for k in range(best.shape[2]):
        wanted = wanted | (best[..., k, None] == columns)
    return wanted & candidates


def _highest(values: tf.Tensor, *, floor: float | None = 0.0) -> tf.Tensor:
    """Row of the highest value of each column of [B, M, A]: [B, A] int32, -1 below `floor`."""
    row = tf.argmax(values, axis=1, output_type=tf.int32)
    if floor is None:
        return row
    return tf.where(tf.reduce_max(values, axis=1) >= floor, row, -1)


def _distances(points: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Distance of points [A, 2] from the centres of boxes [B, M, 4], in [0, 1): [B, M, A]."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2.0
    x = points[:, 0] - centres[..., 0, None]
    y = points[:, 1] - centres[..., 1, None]
    distance = tf.sqrt(x**2 + y**2)
    return distance / (1.0 + distance)
