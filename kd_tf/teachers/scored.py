"""Detections on labelled images, each known to be right or wrong: what is fitted to."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from kd_tf.data.items import Labels
from kd_tf.geometry.detections import Detections
from kd_tf.geometry.overlaps import box_ious

# Pseudo labels that match a box at this overlap count as right, as in AP50.
MATCH_IOU = 0.5


@dataclasses.dataclass(frozen=True)
class Scored:
    """Fused detections of labelled images, each known to be right or wrong.

    Attributes:
        scores: [N] float64.
        classes: [N] int32.
        correct: [N] bool: matches an object of its class that no better detection matches.
        num_objects: [C] int64, objects that could have been found.
    """

    scores: np.ndarray
    classes: np.ndarray
    correct: np.ndarray
    num_objects: np.ndarray


def match_to_labels(
    images: Iterable[tuple[Detections, Labels]],
    *,
    num_classes: int,
    known: np.ndarray | None = None,
) -> Scored:
    """Finds out which detections are right.

    Args:
        images: For each image its detections, and what people marked. Detections that lie half
            in a crowd count as neither. Of a class that is not judged in the image nothing
            counts: where some of its objects are marked and others not, only the hits would be
            known, and precision look better than it is.
        num_classes: C.
        known: [K] the classes whose objects could have been found; None means all.
    """
    scores, classes, correct = [], [], []
    num_objects = np.zeros(num_classes, np.int64)
    for found, labels in images:
        objects = labels.classes[~labels.is_crowd]
        if labels.judged is not None:
            objects = objects[np.isin(objects, labels.judged)]
        num_objects += np.bincount(objects, minlength=num_classes)
        right, counted = _match(found, labels.boxes, labels.classes, labels.is_crowd)
        if labels.judged is not None:
            counted &= np.isin(found.classes, labels.judged)
        scores.append(found.scores[counted])
        classes.append(found.classes[counted])
        correct.append(right[counted])
    if known is not None:
        num_objects[~np.isin(np.arange(num_classes), known)] = 0
    join = np.concatenate if scores else lambda _: np.zeros(0)
    return Scored(
        join(scores).astype(np.float64), join(classes).astype(np.int32),
        join(correct).astype(bool), num_objects,
    )  # fmt: skip


def _match(
    found: Detections, boxes: np.ndarray, labels: np.ndarray, is_crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Per detection whether it is right, and whether it counts. Best scores choose first."""
    right = np.zeros(len(found), bool)
    counted = np.ones(len(found), bool)
    free = ~is_crowd
    same = found.classes[:, None] == labels[None, :]
    ious = np.where(same, box_ious(found.boxes, boxes, is_crowd=is_crowd), 0.0)
    for row in np.argsort(-found.scores, kind="stable"):
        candidates = np.where(free, ious[row], 0.0)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= MATCH_IOU:
            right[row], free[best] = True, False
        elif (is_crowd & (ious[row] >= MATCH_IOU)).any():
            counted[row] = False
    return right, counted
