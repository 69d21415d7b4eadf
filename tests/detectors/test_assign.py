"""Assignments worked out by hand."""

import numpy as np
import tensorflow as tf

from kd_tf.detectors import assign


def _task_aligned(*, points, predicted, scores, boxes, classes, valid=None):
    valid = [True] * len(boxes) if valid is None else valid
    found = assign.task_aligned(
        tf.constant(np.array(scores)[None, :, classes].transpose(0, 2, 1), tf.float32),
        tf.constant([predicted], tf.float32),
        points=tf.constant(points, tf.float32),
        boxes=tf.constant([boxes], tf.float32),
        valid=tf.constant([valid]),
    )
    return found.positive[0].numpy(), found.box[0].numpy(), found.target[0].numpy()


def test_task_aligned_targets_by_hand():
    # Anchor 0 predicts the box: CIoU 1. Anchor 1 predicts its upper half: IoU .5, less the
    # centres' 25 / 800, less alpha v: v = 4 / pi^2 (atan 1 - atan 2)^2 = .041952 and
    # alpha = v / (.5 + v) = .077410: .465502, to the sixth power .010176. Both scores are
    # .25, which drops out. Anchor 2 is outside.
    positive, box, target = _task_aligned(
        points=[[4, 4], [12, 12], [30, 30]],
        predicted=[[0, 0, 20, 20], [0, 0, 20, 10], [0, 0, 20, 20]],
        scores=[[0.25], [0.25], [0.9]],
        boxes=[[0, 0, 20, 20]],
        classes=[0],
    )
    np.testing.assert_array_equal(positive, [True, True, False])
    np.testing.assert_array_equal(box, [0, 0, 0])
    np.testing.assert_allclose(target, [1.0, 0.010176, 0.0], atol=2e-6)


def test_task_aligned_score_counts_as_it_is():
    # Equal boxes; scores .8 and .2 of the box's class: a quarter of the best.
    _, _, target = _task_aligned(
        points=[[4, 4], [12, 12]],
        predicted=[[0, 0, 20, 20]] * 2,
        scores=[[0.1, 0.8], [0.9, 0.2]],
        boxes=[[0, 0, 20, 20]],
        classes=[1],
    )
    np.testing.assert_allclose(target, [1.0, 0.25], atol=1e-5)


def test_task_aligned_keeps_the_thirteen_best():
    # Fifteen anchors inside; number 3 and 7 have the lowest scores.
    scores = np.linspace(0.9, 0.8, 15)
    scores[[3, 7]] = 0.1
    positive, _, _ = _task_aligned(
        points=[[1 + i, 5] for i in range(15)],
        predicted=[[0, 0, 20, 10]] * 15,
        scores=scores[:, None],
        boxes=[[0, 0, 20, 10]],
        classes=[0],
    )
    np.testing.assert_array_equal(np.flatnonzero(~positive), [3, 7])


def test_task_aligned_equal_anchors_keep_the_first():
    positive, _, _ = _task_aligned(
        points=[[1 + i, 5] for i in range(15)],
        predicted=[[0, 0, 20, 10]] * 15,
        scores=[[0.5]] * 15,
        boxes=[[0, 0, 20, 10]],
        classes=[0],
    )
    np.testing.assert_array_equal(np.flatnonzero(~positive), [13, 14])


def test_task_aligned_negative_ciou_is_no_alignment():
    # Far apart, CIoU is about -.7; its sixth power would be +.11. Target 0, yet positive: the
    # box has no other anchor.
    positive, _, target = _task_aligned(
        points=[[5, 5]],
        predicted=[[100, 100, 101, 140]],
        scores=[[0.9]],
        boxes=[[0, 0, 10, 10]],
        classes=[0],
    )
    np.testing.assert_array_equal(positive, [True])
    np.testing.assert_array_equal(target, [0.0])


def test_task_aligned_shared_anchor_goes_to_the_higher_overlap():
    # Both boxes hold anchor 0, which predicts box 1 exactly. Box 0 keeps anchor 1.
    positive, box, _ = _task_aligned(
        points=[[10, 10], [30, 30]],
        predicted=[[5, 5, 15, 15], [0, 0, 38, 38]],
        scores=[[0.9, 0.1], [0.5, 0.5]],
        boxes=[[0, 0, 40, 40], [5, 5, 15, 15]],
        classes=[0, 1],
    )
    np.testing.assert_array_equal(positive, [True, True])
    np.testing.assert_array_equal(box, [1, 0])


def test_task_aligned_box_between_the_points_gets_the_nearest():
    # 3 px wide, between points at 12 and 20; its centre 15.5 is nearer to 12.
    positive, box, target = _task_aligned(
        points=[[12, 12], [20, 12], [4, 4]],
        predicted=[[14, 10, 17, 14], [0, 0, 30, 30], [0, 0, 30, 30]],
        scores=[[0.5]] * 3,
        boxes=[[14, 10, 17, 14]],
        classes=[0],
    )
    np.testing.assert_array_equal(positive, [True, False, False])
    np.testing.assert_array_equal(box, [0, 0, 0])
    np.testing.assert_allclose(target, [1.0, 0.0, 0.0], atol=1e-5)


def test_task_aligned_padding_gets_nothing():
    positive, _, target = _task_aligned(
        points=[[5, 5]],
        predicted=[[0, 0, 10, 10]],
        scores=[[0.5]],
        boxes=[[0, 0, 10, 10]],
        classes=[-1],
        valid=[False],
    )
    assert not positive.any()
    assert not target.any()


def test_task_aligned_box_with_negative_corner_is_learned():
    positive, _, target = _task_aligned(
        points=[[4, 4]],
        predicted=[[-8, -8, 10, 10]],
        scores=[[0.5]],
        boxes=[[-8, -8, 10, 10]],
        classes=[0],
    )
    np.testing.assert_array_equal(positive, [True])
    np.testing.assert_allclose(target, [1.0], atol=1e-5)


def test_serve_every_box_passes_a_lost_anchor_on():
    # Box 1 has none and prefers anchor 0, the only one of box 0, which then takes anchor 1.
    preference = tf.constant([[[0.9, 0.5, 0.1], [0.8, 0.2, 0.1]]])
    served = assign.serve_every_box(
        tf.constant([[0, -1, -1]]), preference=preference, valid=tf.constant([[True, True]])
    )
    np.testing.assert_array_equal(served, [[1, 0, -1]])


def test_serve_every_box_with_more_boxes_than_anchors_ends():
    served = assign.serve_every_box(
        tf.constant([[-1, -1]]), preference=tf.zeros((1, 3, 2)), valid=tf.ones((1, 3), tf.bool)
    )
    np.testing.assert_array_equal(np.sort(served[0]), [0, 1])
