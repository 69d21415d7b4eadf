"""Checks what a detector gave for one image, at the border where foreign numbers come in."""

import numpy as np

from kd_tf.geometry.detections import Detections

# Networks may place a box partly outside their input, never by more than its size: those
# are wrong units. Inverted by more than rounding: xywh or yxyx taken for xyxy.
_INVERTED_PX = 1.0
# So many boxes that all lie within two pixels are coordinates in 0..1, not objects.
_UNIT_BOXES, _UNIT_PX = 5, 2.0
_SCORE_ROUNDING = 1e-4


class BadDetectionsError(ValueError):
    """What a detector gave is no set of detections; says what came and what is expected."""


def check_detections(found: Detections, *, num_classes: int, size: tuple[int, int]) -> Detections:
    """The same detections with the dtypes of `Detections`, if they can be right.

    Args:
        found: Of one image, boxes in pixels of the image given.
        num_classes: Number of classes the detector names.
        size: (height, width) of the image given, in pixels.

    Returns:
        boxes [N, 4] float32, scores [N] float32 in [0, 1], classes [N] int32.

    Raises:
        BadDetectionsError: Wrong shapes, values that are not finite, scores outside [0, 1],
            classes out of range, or boxes that are inverted, far outside, or in 0..1.
    """
    boxes, scores, classes = (np.asarray(part) for part in _parts(found))
    if boxes.shape != (len(scores), 4) or scores.ndim != 1 or classes.shape != scores.shape:
        raise BadDetectionsError(
            f"expected boxes [N, 4], scores [N] and classes [N], got {list(boxes.shape)}, "
            f"{list(scores.shape)} and {list(classes.shape)}."
        )
    if not len(scores):
        return Detections(
            boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int32)
        )
    if not np.isfinite(scores).all() or not np.isfinite(boxes).all():
        what = "score" if not np.isfinite(scores).all() else "box"
        raise BadDetectionsError(
            f"a {what} is NaN or infinite; the network or its input is broken."
        )
    if scores.min() < -_SCORE_ROUNDING or scores.max() > 1 + _SCORE_ROUNDING:
        raise BadDetectionsError(
            f"scores from {scores.min():.3g} to {scores.max():.3g}, expected [0, 1]; "
            "are they logits or percent?"
        )
    _check_classes(classes, num_classes)
    _check_boxes(boxes, size)
    return Detections(
        boxes.astype(np.float32),
        np.clip(scores, 0.0, 1.0).astype(np.float32),
        classes.astype(np.int32),
    )


def _parts(found: Detections) -> tuple:
    try:
        return found.boxes, found.scores, found.classes
    except AttributeError as error:
        raise BadDetectionsError(
            f"got a {type(found).__name__}; `detect` must return a list of "
            "kd_tf.geometry.detections.Detections."
        ) from error


def _check_classes(classes: np.ndarray, num_classes: int) -> None:
    if classes.dtype.kind not in "iu" and not np.array_equal(classes, np.rint(classes)):
        raise BadDetectionsError(f"classes must be whole numbers, got {classes[:3].tolist()}.")
    if classes.min() < 0 or classes.max() >= num_classes:
        wrong = classes[(classes < 0) | (classes >= num_classes)][0]
        raise BadDetectionsError(
            f"class {int(wrong)} is out of range: {num_classes} class names are known, so "
            f"0..{num_classes - 1}. Is the class list the network's own, is an offset missing?"
        )


def _check_boxes(boxes: np.ndarray, size: tuple[int, int]) -> None:
    height, width = size
    sides = boxes[:, 2:] - boxes[:, :2]
    if sides.min() < -_INVERTED_PX:
        wrong = boxes[(sides < -_INVERTED_PX).any(axis=1)][0]
        raise BadDetectionsError(
            f"box {wrong.tolist()} ends before it begins; expected x1, y1, x2, y2 in pixels."
        )
    limit = np.array([width, height, width, height], np.float64)
    if (boxes < -limit).any() or (boxes > 2 * limit).any():
        wrong = boxes[((boxes < -limit) | (boxes > 2 * limit)).any(axis=1)][0]
        raise BadDetectionsError(
            f"box {wrong.tolist()} lies far outside the image of {width}x{height} pixels; "
            "are the units right?"
        )
    if len(boxes) >= _UNIT_BOXES and boxes.max() <= _UNIT_PX < min(size) / 8:
        raise BadDetectionsError(
            f"all {len(boxes)} boxes lie within {_UNIT_PX:.0f} pixels; they look like "
            "coordinates in 0..1. Expected pixels of the image given."
        )
