"""Which detection found which object: COCO's greedy matching, kept image by image.

The twelve numbers come from the library in `coco.py`. What it does not give away,
which detection matched what, is worked out here, for everything built on that:
the operating point, the confusion matrix, TIDE, the bootstrap, the galleries.
"""

import dataclasses

import numpy as np

from kd_tf.evaluation.collected import Collected
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.geometry.overlaps import box_ious

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100


@dataclasses.dataclass(frozen=True)
class Matches:
    """What every detection matched, at several IoU thresholds.

    Attributes:
        iou_thresholds: [T] float64.
        objects: [T, D] int32, the row of the ground truth that was found, or -1.
        ignored: [T, D] bool: neither right nor wrong, as it matched a crowd, or nothing where
            not every object of its class is marked.
        counted: [D] bool: among the best `MAX_DETECTIONS` of its class in its image.
    """

    iou_thresholds: np.ndarray
    objects: np.ndarray
    ignored: np.ndarray
    counted: np.ndarray

    def true_positives(self) -> np.ndarray:
        """[T, D] bool: found an object that nothing better found before."""
        return (self.objects >= 0) & ~self.ignored & self.counted

    def false_positives(self) -> np.ndarray:
        """[T, D] bool: counted, and found nothing."""
        return (self.objects < 0) & ~self.ignored & self.counted


def match(
    truth: GroundTruth, found: Collected, *, iou_thresholds: np.ndarray = IOU_THRESHOLDS
) -> Matches:
    """Matches detections to objects within each image and class, best score first.

    A detection takes the free object with the highest IoU (of equal ones the last),
    else a crowd box that holds enough of it; one crowd takes any number.

    Source: pycocotools 2.0.11, `COCOeval.evaluateImg`, area range "all".
    """
    num_thresholds, num_detections = len(iou_thresholds), len(found)
    objects = np.full((num_thresholds, num_detections), -1, np.int32)
    counted = np.zeros(num_detections, bool)
    num_classes = max(len(truth.class_names), 1)
    detection_rows = _group(found.image_index * num_classes + found.classes, within=-found.scores)
    object_rows = _group(truth.image_index * num_classes + truth.classes, within=truth.is_crowd)
    for pair, rows in detection_rows.items():
        rows = rows[:MAX_DETECTIONS]
        counted[rows] = True
        candidates = object_rows.get(pair)
        if candidates is None:
            continue
        crowd = truth.is_crowd[candidates]
        best = _match_pair(
            box_ious(found.boxes[rows], truth.boxes[candidates], is_crowd=crowd),
            num_real=int(np.sum(~crowd)),
            iou_thresholds=iou_thresholds,
        )
        objects[:, rows] = np.where(best >= 0, candidates[best], -1)
    crowds = np.append(truth.is_crowd, False)  # row -1, "nothing", is no crowd
    unsure = truth.not_exhaustive @ np.array([num_classes, 1])
    unsure = np.isin(found.image_index * num_classes + found.classes, unsure)
    ignored = crowds[objects] | (unsure & (objects < 0))
    return Matches(np.asarray(iou_thresholds), objects, ignored, counted)


def _match_pair(ious: np.ndarray, *, num_real: int, iou_thresholds: np.ndarray) -> np.ndarray:
    """[T, D] column of `ious` [D, G] that each detection takes, or -1; crowds come last."""
    limits = np.minimum(iou_thresholds, 1 - 1e-10)[:, None]
    taken = np.zeros((len(limits), ious.shape[1]), bool)
    best = np.full((len(limits), len(ious)), -1, np.int64)
    thresholds = np.arange(len(limits))
    for row, values in enumerate(ious):
        if values.max() < limits.min():
            continue
        free = (values >= limits) & ~taken
        for part in (slice(num_real, None), slice(0, num_real)):  # the later one wins
            if part.start == ious.shape[1] or part.stop == 0:
                continue
            overlap = np.where(free[:, part], values[part], -1.0)
            last_best = overlap.shape[1] - 1 - np.argmax(overlap[:, ::-1], axis=1)
            hit = overlap[thresholds, last_best] >= 0
            best[hit, row] = last_best[hit] + part.start
        real = (best[:, row] >= 0) & (best[:, row] < num_real)
        taken[thresholds[real], best[real, row]] = True
    return best


def _group(keys: np.ndarray, *, within: np.ndarray) -> dict[int, np.ndarray]:
    """Key -> its rows, sorted by `within`; equal ones stay in order."""
    if not len(keys):
        return {}
    order = np.lexsort((np.arange(len(keys)), within, keys))
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    pieces = np.split(order, starts[1:])
    return dict(zip(keys[order][starts].tolist(), pieces, strict=True))
