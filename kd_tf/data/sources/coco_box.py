"""The box of a COCO annotation, from whatever it states."""

import math

from kd_tf.values import to_number


def box_xywh(entry: dict) -> list[float]:
    """The box, of its polygons or mask where none is stated; NaN where there is none."""
    box = entry.get("bbox")
    if box is None or box == []:
        return _box_of_shape(entry.get("segmentation"))
    if not isinstance(box, list) or len(box) != 4:
        return [math.nan] * 4
    return [to_float(value) for value in box]


def _box_of_shape(shape: object) -> list[float]:
    if isinstance(shape, dict):
        return _box_of_mask(shape)
    polygons = shape if isinstance(shape, list) else []
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]
    corners = [to_float(value) for polygon in polygons if isinstance(polygon, list)
               for value in polygon]  # fmt: skip
    if len(corners) < 4 or not all(map(math.isfinite, corners)):
        return [math.nan] * 4
    xs, ys = corners[::2], corners[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _box_of_mask(mask: dict) -> list[float]:
    """The box of a run-length mask, plain or compressed, by pycocotools."""
    from pycocotools import mask as masks

    size, counts = mask.get("size"), mask.get("counts")
    try:
        height, width = (int(side) for side in size)
        if isinstance(counts, list):
            # C code trusts the runs, so they must fit.
            if sum(counts) != height * width or min(counts) < 0:
                return [math.nan] * 4
            mask = masks.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return [float(side) for side in masks.toBbox(mask)]
    except (TypeError, ValueError, OverflowError):
        return [math.nan] * 4


def to_float(value: object) -> float:
    """A float, or NaN for what is no number or too large for one."""
    if type(value) in (int, float):
        return float(value) if -1e30 < value < 1e30 else math.nan
    found = to_number(value)
    return math.nan if found is None or abs(found) >= 1e30 else found
