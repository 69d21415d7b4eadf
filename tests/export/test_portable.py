"""Letterbox and suppression without TensorFlow, against the TensorFlow ones."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.export.portable import letterbox, suppress
from kd_tf.geometry import nms
from kd_tf.geometry.letterbox import placement, resize_image
from tests.export import images

TARGET = (64, 96)


@pytest.mark.parametrize(
    ("height", "width"), [(64, 96), (120, 160), (31, 500), (1, 1), (700, 9), (33, 50)]
)
def test_letterbox_differs_from_tensorflow_by_a_grey_level_at_most(height, width):
    image = images.pixels(height, width)
    letterboxed, scale_xy, offset_xy = letterbox(image, TARGET)
    expected = resize_image(tf.constant(image), TARGET, resize="letterbox").numpy()
    assert np.abs(letterboxed.astype(int) - expected.astype(int)).max() <= 1
    assert (*scale_xy, *offset_xy) == placement((height, width), TARGET, resize="letterbox")


@pytest.mark.parametrize("iou_threshold", [0.3, 0.65])
@pytest.mark.parametrize("num_classes", [1, 4])
def test_suppress_keeps_what_the_graph_keeps(iou_threshold, num_classes):
    rng = np.random.default_rng(7)
    for _ in range(5):
        corners = rng.uniform(0, 60, (50, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(1, 30, (50, 2))], 1)
        boxes = boxes.astype(np.float32)
        scores = rng.uniform(0, 1, (50, num_classes)).astype(np.float32)
        rules = {"score_floor": 0.2, "iou_threshold": iou_threshold, "max_detections": 20}
        found = suppress(boxes, scores, **rules)
        expected = nms.detections(boxes[np.newaxis], scores[np.newaxis], **rules)
        count = int(expected["num_detections"][0])
        assert len(found) == count
        np.testing.assert_array_equal(found.boxes, expected["boxes"][0, :count])
        np.testing.assert_array_equal(found.scores, expected["scores"][0, :count])
        np.testing.assert_array_equal(found.classes, expected["classes"][0, :count])


BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]], np.float32)


@pytest.mark.parametrize(
    ("scores", "iou_threshold", "kept"),
    [
        # The first two share 80 of 100 pixels: IoU 0.8.
        pytest.param([[0.9], [0.8], [0.7]], 0.79, [0.9, 0.7], id="overlap_above_threshold_falls"),
        pytest.param([[0.9], [0.8], [0.7]], 0.8, [0.9, 0.8, 0.7], id="overlap_at_threshold_stays"),
        pytest.param([[0.9, 0], [0, 0.8], [0, 0]], 0.5, [0.9, 0.8], id="other_class_stays"),
        pytest.param([[0.1], [0.1], [0.09]], 0.9, [0.1, 0.1], id="floor_is_inclusive"),
        pytest.param([[0.0], [0.0], [0.0]], 0.5, [], id="nothing_above_the_floor"),
    ],
)
def test_suppress_by_hand(scores, iou_threshold, kept):
    found = suppress(
        BOXES,
        np.array(scores, np.float32),
        score_floor=np.float32(0.1),
        iou_threshold=iou_threshold,
        max_detections=5,
    )
    np.testing.assert_allclose(found.scores, kept)


def test_suppress_of_no_anchors_gives_no_detections():
    found = suppress(
        np.zeros((0, 4), np.float32),
        np.zeros((0, 3), np.float32),
        score_floor=0.1,
        iou_threshold=0.5,
        max_detections=5,
    )
    assert (found.boxes.shape, found.scores.shape) == ((0, 4), (0,))
