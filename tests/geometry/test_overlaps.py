"""COCO's overlaps by hand."""

import numpy as np
import pytest

from kd_tf.geometry.overlaps import box_ious


def test_box_ious_by_hand():
    boxes = np.array([[0, 0, 10, 10]])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 20, 20]])
    # 100/100; 50/150; the crowd holds all of the box.
    expected = [[1.0, 1 / 3, 1.0]]
    assert box_ious(boxes, others, is_crowd=np.array([0, 0, 1])) == pytest.approx(
        np.array(expected)
    )


def test_box_ious_without_boxes_are_empty():
    nothing = np.zeros((0, 4))
    assert box_ious(nothing, np.ones((3, 4)), is_crowd=np.zeros(3, bool)).shape == (0, 3)
    assert box_ious(np.ones((3, 4)), nothing, is_crowd=np.zeros(0, bool)).shape == (3, 0)
