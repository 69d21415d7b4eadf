"""Suppression against OpenCV's golden rows, TensorFlow's kernel and a loop in NumPy."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.geometry import nms
from kd_tf.geometry.overlaps import box_ious

GOLDEN = pathlib.Path(__file__).parent / "golden"


def _greedy(boxes, classes, valid, iou_threshold):
    """The definition: best first, a box stays unless a kept one of its class overlaps it."""
    overlaps = box_ious(boxes, boxes, is_crowd=np.zeros(len(boxes), bool))
    kept = []
    for i in np.flatnonzero(valid):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if not any(overlaps[i, j] > iou_threshold for j in rivals):
            kept.append(i)
    return kept


def _crowded(rng, num, *, num_classes):
    corners = rng.uniform(0, 40, (num, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (num, 2))], axis=1)
    return boxes.astype(np.float32), rng.integers(0, num_classes, num).astype(np.int32)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_detections_equal_opencv(threshold):
    with np.load(GOLDEN / "suppression.npz") as golden:
        boxes, scores, classes = golden["boxes"], golden["scores"], golden["classes"]
        expected = golden[f"kept_{threshold}"]
    per_class = np.where(np.arange(3) == classes[:, None], scores[:, None], 0.0)
    found = nms.detections(
        boxes[None],
        per_class[None].astype(np.float32),
        score_floor=0.01,
        iou_threshold=threshold,
        max_detections=150,
    )
    count = int(found["num_detections"][0])
    assert count == len(expected)
    np.testing.assert_array_equal(found["boxes"][0, :count], boxes[expected])
    np.testing.assert_array_equal(found["scores"][0, :count], scores[expected])
    np.testing.assert_array_equal(found["classes"][0, :count], classes[expected])


@pytest.mark.parametrize("iou_threshold", [0.0, 0.2, 0.5, 0.95])
def test_kept_equals_the_greedy_definition(iou_threshold):
    rng = np.random.default_rng(1)
    boxes, classes = zip(*(_crowded(rng, 60, num_classes=2) for _ in range(4)), strict=True)
    boxes, classes = np.stack(boxes), np.stack(classes)
    valid = rng.random((4, 60)) < 0.8
    kept = nms.kept(boxes, classes, valid=tf.constant(valid), iou_threshold=iou_threshold)
    for i in range(4):
        expected = _greedy(boxes[i], classes[i], valid[i], iou_threshold)
        np.testing.assert_array_equal(np.flatnonzero(kept[i]), expected)


def test_kept_equals_tensorflow():
    boxes, _ = _crowded(np.random.default_rng(2), 100, num_classes=1)
    scores = np.linspace(1.0, 0.1, 100).astype(np.float32)
    expected = tf.image.non_max_suppression(boxes[:, [1, 0, 3, 2]], scores, 100, 0.4)
    kept = nms.kept(
        boxes[None],
        tf.zeros((1, 100), tf.int32),
        valid=tf.ones((1, 100), tf.bool),
        iou_threshold=0.4,
    )
    np.testing.assert_array_equal(np.flatnonzero(kept[0]), expected)


def test_kept_follows_a_long_chain():
    # Each box overlaps its neighbours only (6 of 14 px: IoU 3/7): every other one falls.
    x = 4.0 * np.arange(50)
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1).astype(np.float32)[None]
    kept = nms.kept(
        boxes, tf.zeros((1, 50), tf.int32), valid=tf.ones((1, 50), tf.bool), iou_threshold=0.4
    )
    np.testing.assert_array_equal(np.flatnonzero(kept[0]), np.arange(0, 50, 2))


def test_detections_report_one_box_for_two_classes():
    boxes = np.float32([[[0, 0, 10, 10], [50, 50, 60, 60]]])
    scores = np.float32([[[0.9, 0.8], [0.05, 0.2]]])
    found = nms.detections(
        boxes, scores, score_floor=0.2, iou_threshold=0.5, max_detections=5, num_candidates=10
    )
    np.testing.assert_array_equal(found["num_detections"], [3])
    np.testing.assert_allclose(found["scores"], [[0.9, 0.8, 0.2, 0.0, 0.0]])
    np.testing.assert_array_equal(found["classes"], [[0, 1, 1, -1, -1]])
    np.testing.assert_array_equal(found["boxes"][0, 2], [50, 50, 60, 60])
    np.testing.assert_array_equal(found["boxes"][0, 3:], np.zeros((2, 4)))


def test_detections_of_nothing_are_none():
    found = nms.detections(
        np.zeros((2, 3, 4), np.float32),
        np.zeros((2, 3, 2), np.float32),
        score_floor=0.01,
        iou_threshold=0.5,
        max_detections=4,
    )
    np.testing.assert_array_equal(found["num_detections"], [0, 0])
    np.testing.assert_array_equal(found["classes"], -np.ones((2, 4)))


def test_best_pairs_equal_a_full_sort():
    rng = np.random.default_rng(3)
    scores = rng.random((2, 50, 6)).astype(np.float32)
    boxes = rng.random((2, 50, 4)).astype(np.float32)
    found_boxes, found_scores, found_classes = nms.best_pairs(boxes, scores, num_candidates=20)
    for i in range(2):
        order = np.argsort(-scores[i].reshape(-1), kind="stable")[:20]
        np.testing.assert_array_equal(found_scores[i], scores[i].reshape(-1)[order])
        np.testing.assert_array_equal(found_classes[i], order % 6)
        np.testing.assert_array_equal(found_boxes[i], boxes[i][order // 6])


def test_best_pairs_of_equal_scores_keep_their_order():
    boxes = np.arange(20, dtype=np.float32).reshape(1, 5, 4)
    found_boxes, _, classes = nms.best_pairs(
        boxes, np.ones((1, 5, 2), np.float32), num_candidates=4
    )
    np.testing.assert_array_equal(found_boxes[0, :, 0], [0, 0, 4, 4])
    np.testing.assert_array_equal(classes[0], [0, 1, 0, 1])


def test_detections_with_xla_are_the_same():
    rng = np.random.default_rng(4)
    boxes, _ = _crowded(rng, 80, num_classes=1)
    scores = rng.random((1, 80, 3)).astype(np.float32)

    def run(boxes, scores):
        return nms.detections(boxes, scores, score_floor=0.3, iou_threshold=0.5, max_detections=40)

    plain = run(boxes[None], scores)
    compiled = tf.function(run, jit_compile=True)(boxes[None], scores)
    for name, values in plain.items():
        np.testing.assert_allclose(compiled[name], values, rtol=1e-6, err_msg=name)
