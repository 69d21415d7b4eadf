"""Overlaps against values by hand, torchvision's losses and finite differences."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.export import portable
from kd_tf.geometry import boxes as boxes_lib
from kd_tf.geometry.overlaps import box_ious

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "losses.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        pytest.param([0, 0, 10, 10], [0, 0, 10, 10], 1.0, id="same"),
        # 5 x 10 common, 100 + 100 - 50 together.
        pytest.param([0, 0, 10, 10], [5, 0, 15, 10], 50 / 150, id="half_beside"),
        pytest.param([0, 0, 10, 10], [10, 0, 20, 10], 0.0, id="touching"),
        pytest.param([-10, -10, 0, 0], [-5, -5, 5, 5], 25 / 175, id="negative_coordinates"),
        pytest.param([5, 5, 5, 5], [0, 0, 10, 10], 0.0, id="no_area"),
        pytest.param([5, 5, 5, 5], [5, 5, 5, 5], 0.0, id="both_without_area"),
        pytest.param([10, 10, 0, 0], [0, 0, 10, 10], 0.0, id="turned_inside_out"),
    ],
)
def test_iou_by_hand(a, b, iou):
    a, b = np.float32([a]), np.float32([b])
    np.testing.assert_allclose(boxes_lib.iou(a, b), [iou], atol=1e-6)
    np.testing.assert_allclose(portable.pairwise_iou(a, b), [[iou]], atol=1e-6)


def test_ciou_by_hand():
    # Common 10 x 10 of 20 x 20: IoU 1/4. Centres (5, 5) and (10, 10): 50 of a hull's diagonal
    # 800. Same aspect: nothing more.
    value = boxes_lib.ciou(np.float32([0, 0, 10, 10]), np.float32([0, 0, 20, 20]))
    np.testing.assert_allclose(value, 0.25 - 50 / 800, atol=1e-6)


def test_giou_by_hand():
    # Apart by 10: union 200, hull 300.
    value = boxes_lib.giou(np.float32([0, 0, 10, 10]), np.float32([20, 0, 30, 10]))
    np.testing.assert_allclose(value, -100 / 300, atol=1e-6)


@pytest.mark.parametrize("name", ["ciou", "giou"])
def test_loss_and_gradient_equal_torchvision(golden, name):
    first = tf.constant(golden["boxes_a"])
    with tf.GradientTape() as tape:
        tape.watch(first)
        loss = 1.0 - getattr(boxes_lib, name)(first, golden["boxes_b"])
    np.testing.assert_allclose(loss, golden[f"{name}_loss"], rtol=1e-5, atol=1e-6)
    expected = golden[f"{name}_gradient"]
    # Row 20 holds equal boxes: min and max tie there, and libraries share the gradient out
    # in different ways.
    rows = np.arange(len(expected)) != 20
    gradient = tape.gradient(loss, first)
    np.testing.assert_allclose(gradient.numpy()[rows], expected[rows], rtol=1e-3, atol=1e-6)


def test_ciou_of_a_box_without_height_has_a_finite_gradient():
    box = tf.constant([[5.0, 5.0, 9.0, 5.0], [5.0, 5.0, 5.0, 5.0]])
    with tf.GradientTape() as tape:
        tape.watch(box)
        value = boxes_lib.ciou(box, tf.constant([[0.0, 0.0, 10.0, 10.0]]))
    assert np.isfinite(value.numpy()).all()
    assert np.isfinite(tape.gradient(value, box).numpy()).all()


def test_iou_is_symmetric_and_equals_coco(golden):
    a, b = golden["boxes_a"][:30], golden["boxes_b"][:40]
    expected = box_ious(a, b, is_crowd=np.zeros(len(b), bool))
    assert expected.shape == (30, 40)
    assert ((expected >= 0) & (expected <= 1)).all()
    np.testing.assert_allclose(boxes_lib.iou(a[:, None], b), expected, atol=1e-5)
    np.testing.assert_allclose(boxes_lib.iou(b[:, None], a).numpy().T, expected, atol=1e-5)
