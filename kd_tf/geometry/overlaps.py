"""Overlaps of boxes in NumPy, as COCO defines them."""

import numpy as np
from pycocotools import mask as coco_mask


def box_ious(boxes: np.ndarray, others: np.ndarray, *, is_crowd: np.ndarray) -> np.ndarray:
    """How much every box overlaps every other one.

    Args:
        boxes: [N, 4] xyxy, any unit.
        others: [M, 4] xyxy, the same unit.
        is_crowd: [M] bool, which of `others` are crowds.

    Returns:
        [N, M] float64 in [0, 1]: IoU; with a crowd, the share of the box inside it.
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return coco_mask.iou(_to_xywh(boxes), _to_xywh(others), is_crowd.astype(np.uint8))


def _to_xywh(boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
