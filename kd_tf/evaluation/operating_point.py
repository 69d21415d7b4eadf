"""What a detector does at its working thresholds, and how that changes with them."""

from collections.abc import Sequence

import numpy as np

from kd_tf.evaluation.average_precision import precision_at_recalls, rank
from kd_tf.evaluation.collected import Collected
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.evaluation.matching import match
from kd_tf.geometry.overlaps import box_ious

IOU_THRESHOLD = 0.5
BACKGROUND = "background"
SCORE_BINS = np.linspace(0.0, 1.0, 21)


def operating_point(
    truth: GroundTruth, found: Collected, *, score_thresholds: Sequence[float]
) -> dict:
    """Precision, recall and F1 at fixed thresholds, and what is confused with what.

    Args:
        truth: What people marked.
        found: All detections; those below their class's threshold are left out.
        score_thresholds: One per class, inclusive, chosen on other images than these.

    Returns:
        "iou_threshold", "score_thresholds" {class: threshold}; "precision", "recall",
        "f1", "tp", "fp", "fn" over all classes together; "per_class" {class: the same
        six}; "confusion" as of `confusion_matrix`. A ratio over nothing is None.
    """
    thresholds = np.asarray(score_thresholds, np.float64)
    if thresholds.shape != (len(truth.class_names),):
        raise ValueError(
            f"score_thresholds needs one number for each of {len(truth.class_names)} "
            f"classes, got shape {thresholds.shape}."
        )
    kept = found.take(found.scores >= thresholds[found.classes])
    matches = match(truth, kept, iou_thresholds=np.array([IOU_THRESHOLD]))
    num_classes = len(truth.class_names)
    hits = np.bincount(kept.classes[matches.true_positives()[0]], minlength=num_classes)
    misses = np.bincount(kept.classes[matches.false_positives()[0]], minlength=num_classes)
    objects = np.bincount(truth.classes[~truth.is_crowd], minlength=num_classes)
    return {
        "iou_threshold": IOU_THRESHOLD,
        "score_thresholds": dict(
            zip(truth.class_names, np.round(thresholds, 6).tolist(), strict=True)
        ),
        **_ratios(int(hits.sum()), int(misses.sum()), int((objects - hits).sum())),
        "per_class": {
            name: _ratios(int(hits[i]), int(misses[i]), int(objects[i] - hits[i]))
            for i, name in enumerate(truth.class_names)
        },
        "confusion": {
            "labels": [*truth.class_names, BACKGROUND],
            "counts": confusion_matrix(truth, kept).tolist(),
        },
    }


def confusion_matrix(truth: GroundTruth, kept: Collected) -> np.ndarray:
    """Counts [C + 1, C + 1]: rows what it is, columns what the detector called it.

    First every detection takes the object of its own class that COCO's matching gives
    it, so the diagonal equals the true positives. What is left over is paired across
    classes, best score first, at IoU >= 0.5. The rest goes to the last row (invented:
    background called something) or the last column (missed). Detections on crowds do
    not count.
    """
    matches = match(truth, kept, iou_thresholds=np.array([IOU_THRESHOLD]))
    num_classes = len(truth.class_names)
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    hit = matches.true_positives()[0]
    np.add.at(counts, (kept.classes[hit], kept.classes[hit]), 1)
    free_objects = ~truth.is_crowd
    free_objects[matches.objects[0][hit]] = False
    free_detections = matches.false_positives()[0].copy()
    for image in np.unique(kept.image_index[free_detections]):
        detections = _free(kept.rows(image), free_detections)
        detections = detections[np.argsort(-kept.scores[detections], kind="stable")]
        objects = _free(truth.rows(image), free_objects)
        for detection, thing in _pair(truth, kept, detections, objects=objects):
            counts[truth.classes[thing], kept.classes[detection]] += 1
            free_detections[detection] = free_objects[thing] = False
    np.add.at(counts[num_classes], kept.classes[free_detections], 1)
    np.add.at(counts[:, num_classes], truth.classes[free_objects], 1)
    return counts


def curves(truth: GroundTruth, found: Collected) -> dict:
    """How precision and recall depend on the score, per class, at IoU 0.5.

    Returns:
        "recalls" [101]; "score_bins" [21] edges; "per_class" {class: {"precisions"
        [101] interpolated as COCO does, or None without an object; "right" and "wrong":
        detections per score bin}}.
    """
    matches = match(truth, found, iou_thresholds=np.array([IOU_THRESHOLD]))
    per_class = {}
    for name, ranking in zip(truth.class_names, rank(truth, found, matches), strict=True):
        precisions = precision_at_recalls(ranking)
        per_class[name] = {
            "precisions": None if precisions is None else np.round(precisions[0], 4).tolist(),
            "right": _histogram(ranking.scores[ranking.hits[0]]),
            "wrong": _histogram(ranking.scores[ranking.misses[0]]),
        }
    return {
        "recalls": np.round(np.linspace(0, 1, 101), 2).tolist(),
        "score_bins": np.round(SCORE_BINS, 2).tolist(),
        "per_class": per_class,
    }


def _ratios(hits: int, misses: int, missed: int) -> dict[str, float | int | None]:
    total = 2 * hits + misses + missed
    return {
        "precision": hits / (hits + misses) if hits + misses else None,
        "recall": hits / (hits + missed) if hits + missed else None,
        "f1": 2 * hits / total if total else None,
        "tp": hits,
        "fp": misses,
        "fn": missed,
    }


def _free(rows: slice, free: np.ndarray) -> np.ndarray:
    return rows.start + np.flatnonzero(free[rows])


def _pair(
    truth: GroundTruth, kept: Collected, detections: np.ndarray, *, objects: np.ndarray
) -> list[tuple[int, int]]:
    """Greedy pairs (detection row, object row) regardless of class."""
    no_crowd = np.zeros(len(objects), bool)
    ious = box_ious(kept.boxes[detections], truth.boxes[objects], is_crowd=no_crowd)
    pairs = []
    for row, detection in enumerate(detections):
        if ious.shape[1] and ious[row].max() >= IOU_THRESHOLD:
            column = int(ious[row].argmax())
            pairs.append((int(detection), int(objects[column])))
            ious[:, column] = -1
    return pairs


def _histogram(scores: np.ndarray) -> list[int]:
    return np.histogram(scores, bins=SCORE_BINS)[0].tolist()
