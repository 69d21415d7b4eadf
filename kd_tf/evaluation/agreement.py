"""How far detectors agree with each other, without any ground truth."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kd_tf.geometry.detections import Detections
from kd_tf.geometry.overlaps import box_ious

IOU_THRESHOLD = 0.5


def agreement(
    images: Iterable[Mapping[str, Detections]],
    *,
    names: Sequence[str],
    score_thresholds: Mapping[str, np.ndarray],
) -> dict:
    """Share of boxes that two detectors have in common, for every pair.

    Two boxes of one class are the same object at IoU >= 0.5, greedily, highest IoU
    first. The share is the Dice coefficient, 2 * common / (boxes of a + boxes of b):
    the F1 of one taken as the truth for the other, whichever way round.

    Args:
        images: For every image, what each detector found, classes in the run's list;
            a detector that did not see the image is missing. Read once.
        names: The detectors, in the order of the matrix.
        score_thresholds: Name -> [C] threshold of each class, inclusive.

    Returns:
        "names", "matrix" [N][N] of shares (None where neither found anything in the
        images that both saw), "num_boxes" {name: boxes above its thresholds}.
    """
    size = len(names)
    common, boxes, num_boxes = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    for found in images:
        kept = {
            name: one[one.scores >= np.asarray(score_thresholds[name])[one.classes]]
            for name, one in found.items()
        }
        for i, a in enumerate(names):
            num_boxes[i] += len(kept.get(a, ()))
            for j, b in enumerate(names):
                if i <= j and a in kept and b in kept:
                    common[i, j] += count_common(kept[a], kept[b])
                    boxes[i, j] += len(kept[a]) + len(kept[b])
    matrix = [
        [_share(common[min(i, j), max(i, j)], boxes[min(i, j), max(i, j)]) for j in range(size)]
        for i in range(size)
    ]
    return {
        "names": list(names),
        "matrix": matrix,
        "num_boxes": dict(zip(names, num_boxes.astype(int).tolist(), strict=True)),
    }


def count_common(a: Detections, b: Detections) -> int:
    """How many boxes of `a` are also in `b`: one to one, same class, IoU >= 0.5."""
    if not len(a) or not len(b):
        return 0
    ious = box_ious(a.boxes, b.boxes, is_crowd=np.zeros(len(b), bool))
    ious[a.classes[:, None] != b.classes[None]] = 0
    rows, columns = np.nonzero(ious >= IOU_THRESHOLD)
    order = np.argsort(-ious[rows, columns], kind="stable")
    used_a, used_b = set(), set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_a and column not in used_b:
            used_a.add(row)
            used_b.add(column)
    return len(used_a)


def disagreement(a: Detections, b: Detections) -> int:
    """Boxes that only one of the two has: what the gallery of disagreements is sorted by."""
    return len(a) + len(b) - 2 * count_common(a, b)


def _share(common: float, boxes: float) -> float | None:
    return float(2 * common / boxes) if boxes else None
