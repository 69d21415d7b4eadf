"""Greedy non-maximum suppression per class: exact, batched, static shapes, no custom op."""

import numpy as np
import tensorflow as tf

from kd_tf.geometry import boxes as boxes_lib

# Pairs (box, class) that enter the suppression. 100 detections are kept at most, and more
# than 4 candidates for each of them add nothing but time (the cost grows with the square).
NUM_CANDIDATES = 400


def detections(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    score_floor: float,
    iou_threshold: float,
    max_detections: int,
    num_candidates: int = NUM_CANDIDATES,
) -> dict[str, tf.Tensor]:
    """Best boxes of each image after greedy suppression within each class.

    One box may be reported for several classes. Candidates are the `num_candidates`
    best (box, class) pairs of an image; equal scores keep their order.

    Args:
        boxes: [B, A, 4] float32, xyxy pixels.
        scores: [B, A, C] float32 in [0, 1], one per class.
        score_floor: Lowest score reported, inclusive.
        iou_threshold: A box is dropped if it overlaps a better one of its class by more.
        max_detections: K, rows of the result.
        num_candidates: Most pairs of an image that are looked at.

    Returns:
        "boxes" [B, K, 4], "scores" [B, K] descending, "classes" [B, K] int32 and
        "num_detections" [B] int32. Rows past it: boxes and scores 0, classes -1.
    """
    boxes, scores, classes = best_pairs(boxes, scores, num_candidates=num_candidates)
    keep = kept(boxes, classes, valid=scores >= score_floor, iou_threshold=iou_threshold)
    ranking = tf.where(keep, scores, -1.0)
    missing = max_detections - ranking.shape[1]
    if missing > 0:
        ranking = tf.pad(ranking, [[0, 0], [0, missing]], constant_values=-1.0)
        boxes = tf.pad(boxes, [[0, 0], [0, missing], [0, 0]])
        classes = tf.pad(classes, [[0, 0], [0, missing]])
    ranking, rows = tf.math.top_k(ranking, k=max_detections)
    found = ranking >= 0.0
    return {
        "boxes": tf.where(found[..., None], tf.gather(boxes, rows, batch_dims=1), 0.0),
        "scores": tf.where(found, ranking, 0.0),
        "classes": tf.where(found, tf.gather(classes, rows, batch_dims=1), -1),
        "num_detections": tf.reduce_sum(tf.cast(found, tf.int32), axis=1),
    }


def best_pairs(
    boxes: tf.Tensor, scores: tf.Tensor, *, num_candidates: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The best (box, class) pairs of each image, best first.

    Looks first for the boxes with the best top score: the N best pairs lie in the N
    boxes whose best class is best, so nothing is lost and no [A * C] list is sorted.

    Args:
        boxes: [B, A, 4] float32.
        scores: [B, A, C] float32.
        num_candidates: N; fewer come back where A * C is smaller.

    Returns:
        boxes [B, N, 4], scores [B, N] and classes [B, N] int32.
    """
    num_boxes = min(num_candidates, scores.shape[1])
    num_classes = scores.shape[2]
    _, rows = tf.math.top_k(tf.reduce_max(scores, axis=-1), k=num_boxes)
    # top_k breaks ties by position, so positions must stay those of the input.
    rows = tf.sort(rows, axis=-1)
    scores = tf.reshape(tf.gather(scores, rows, batch_dims=1), [-1, num_boxes * num_classes])
    scores, pairs = tf.math.top_k(scores, k=min(num_candidates, num_boxes * num_classes))
    rows = tf.gather(rows, pairs // num_classes, batch_dims=1)
    return tf.gather(boxes, rows, batch_dims=1), scores, pairs % num_classes


def kept(
    boxes: tf.Tensor, classes: tf.Tensor, *, valid: tf.Tensor, iou_threshold: float
) -> tf.Tensor:
    """Which boxes greedy suppression within each class keeps.

    A box falls if a kept, better box of its class overlaps it. That rule is applied
    to all boxes at once until nothing changes: its only fixed point is the greedy
    result, reached after as many rounds as the longest chain of boxes that suppress
    each other, which is a handful.

    Args:
        boxes: [B, N, 4] float32, best first.
        classes: [B, N] int32.
        valid: [B, N] bool; other rows are neither kept nor suppress.
        iou_threshold: Overlap above which the worse box falls.

    Returns:
        [B, N] bool.

    Source: the idea of repeating the rule is that of cluster NMS, Zheng et al. 2020,
    https://arxiv.org/abs/2005.03572.
    """
    num_boxes = boxes.shape[1]
    same_class = classes[:, :, None] == classes[:, None, :]
    # better[i, j]: row i comes before row j.
    better = tf.constant(np.triu(np.ones((num_boxes, num_boxes), bool), k=1))
    overlaps = _overlap_more(boxes, iou_threshold=iou_threshold)
    suppresses = tf.cast(overlaps & same_class & better, tf.float32)

    def again(keep: tf.Tensor, changed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        hits = tf.linalg.matvec(suppresses, tf.cast(keep, tf.float32), transpose_a=True)
        new = valid & (hits < 0.5)
        return new, tf.reduce_any(new != keep)

    keep, _ = tf.while_loop(
        lambda keep, changed: changed,
        again,
        (valid, tf.constant(True)),
        maximum_iterations=num_boxes,
    )
    return keep


def _overlap_more(boxes: tf.Tensor, *, iou_threshold: float) -> tf.Tensor:
    """Which pairs of [B, N, 4] have an IoU above the threshold: [B, N, N] bool.

    Without a division, and in fewer passes over [B, N, N] than the IoU itself takes, which is
    what suppression spends its time on. i / (a + b - i) > t is (1 + t) i > t (a + b).
    """
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)

    def common(first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        end = tf.minimum(last[:, :, None], last[:, None, :])
        return tf.nn.relu(end - tf.maximum(first[:, :, None], first[:, None, :]))

    share = boxes_lib.area(boxes) * iou_threshold
    intersection = common(x1, x2) * common(y1, y2)
    return intersection * (1.0 + iou_threshold) > share[:, :, None] + share[:, None, :]
