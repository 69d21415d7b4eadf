"""Greedy non-maximum suppression per class: exact, batched, static shapes, no custom op."""

import numpy as np
import tensorflow as tf

from kd_tf.geometry import boxes as boxes_lib

# Pairs (box, class) that enter the suppression. 100 detections are kept at most, and more
# than 4 candidates for each of them add nothing but time (the cost grows with the square).
NUM_CANDIDATES = 400
# Boxes whose overlaps are computed at once, with those after the first of them only.
_STRIP = 100


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
    strips = _suppressing(boxes, classes, iou_threshold=iou_threshold)

    def hits(keep: tf.Tensor) -> tf.Tensor:
        """How many kept, better boxes overlap each box: [B, N]."""
        rows = tf.split(tf.cast(keep, tf.float32), [s.shape[1] for s in strips], axis=1)
        found = [
            tf.linalg.matvec(*pair, transpose_a=True) for pair in zip(strips, rows, strict=True)
        ]
        return tf.add_n([tf.pad(f, [[0, 0], [num_boxes - f.shape[1], 0]]) for f in found])

    def again(keep: tf.Tensor, changed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        new = valid & (hits(keep) < 0.5)
        return new, tf.reduce_any(new != keep)

    keep, _ = tf.while_loop(
        lambda keep, changed: changed,
        again,
        (valid, tf.constant(True)),
        maximum_iterations=num_boxes,
    )
    return keep


def _suppressing(boxes: tf.Tensor, classes: tf.Tensor, *, iou_threshold: float) -> list[tf.Tensor]:
    """Which box would suppress which, in strips of rows without most of what is below the diagonal.

    Returns:
        [B, R, N - start] float32 each, for boxes start to start + R: 1 where row i would
        suppress column start + j, which comes after it.
    """
    num_boxes, strips = boxes.shape[1], []
    for start in range(0, num_boxes, _STRIP):
        rows = slice(start, min(start + _STRIP, num_boxes))
        worse = np.triu(np.ones((rows.stop - start, num_boxes - start), bool), k=1)
        same_class = classes[:, rows, None] == classes[:, None, start:]
        overlaps = _overlap_more(boxes[:, rows], boxes[:, start:], iou_threshold=iou_threshold)
        strips.append(tf.cast(overlaps & same_class & tf.constant(worse), tf.float32))
    return strips


def _overlap_more(first: tf.Tensor, second: tf.Tensor, *, iou_threshold: float) -> tf.Tensor:
    """Which pairs of [B, M, 4] and [B, N, 4] have an IoU above the threshold: [B, M, N] bool.

    Without a division, and in fewer passes over [B, M, N] than the IoU itself takes, which is
    what suppression spends its time on. i / (a + b - i) > t is (1 + t) i > t (a + b).
    """

    def common(start: int) -> tf.Tensor:
        """Of sides x (start 0) or y (start 1)."""
        end = tf.minimum(first[:, :, None, start + 2], second[:, None, :, start + 2])
        return tf.nn.relu(end - tf.maximum(first[:, :, None, start], second[:, None, :, start]))

    areas = [boxes_lib.area(boxes) * iou_threshold for boxes in (first, second)]
    intersection = common(0) * common(1)
    return intersection * (1.0 + iou_threshold) > areas[0][:, :, None] + areas[1][:, None, :]
