"""YOLO's anchor points, biases and boxes."""

import numpy as np
import pytest

from kd_tf.detectors import yolo


def test_anchor_points_by_hand():
    points, strides = yolo.anchor_points((32, 64))
    # 4 x 8 at stride 8, 2 x 4 at 16, 1 x 2 at 32; row by row, x first.
    assert points.shape == (32 + 8 + 2, 2)
    np.testing.assert_array_equal(points[[0, 1, 8, 31]], [[4, 4], [12, 4], [4, 12], [60, 28]])
    np.testing.assert_array_equal(points[[32, 40, 41]], [[8, 8], [16, 16], [48, 16]])
    np.testing.assert_array_equal(strides[[0, 31, 32, 39, 40]], [8, 8, 16, 16, 32])


def test_class_prior_bias_expects_five_objects():
    # 640 x 640 at stride 32: 400 anchors, 80 classes: p = 5 / 32000.
    bias = yolo.class_prior_bias(32, num_classes=80, image_size=(640, 640))
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), 5 / 32000, rtol=1e-9)


def test_class_prior_bias_of_a_tiny_input_is_at_most_even():
    assert yolo.class_prior_bias(32, num_classes=1, image_size=(32, 32)) == 0.0


def test_boxes_and_logits_by_hand():
    # Certain of the distances 1, 2, 0, 3 (left, top, right, bottom), in strides.
    logits = np.full((1, 21, 4, 16), -100.0, np.float32)
    for side, distance in enumerate((1, 2, 0, 3)):
        logits[:, :, side, distance] = 100.0
    outputs = {"boxes": logits.reshape(1, 21, 64), "classes": np.zeros((1, 21, 2), np.float32)}
    boxes, _ = yolo.YoloHead((32, 32)).boxes_and_logits(outputs)
    # Point (12, 4) at stride 8; point (16, 16) at stride 32.
    np.testing.assert_allclose(boxes[0, 1], [4, -12, 12, 28], atol=1e-4)
    np.testing.assert_allclose(boxes[0, 20], [-16, -48, 16, 112], atol=1e-4)


def test_distance_bias_starts_boxes_three_strides_wide():
    bias = yolo.distance_bias().reshape(4, 16)
    distances = (np.exp(bias) / np.exp(bias).sum(-1, keepdims=True) * np.arange(16)).sum(-1)
    np.testing.assert_allclose(distances, 1.536, atol=1e-3)


@pytest.mark.parametrize("network", ["yolo"], indirect=True)
def test_untrained_network_starts_at_the_priors(network):
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    boxes, logits = network.head.boxes_and_logits(network.model(images, training=False))
    _, strides = yolo.anchor_points((64, 64))
    for stride in yolo.STRIDES:
        bias = yolo.class_prior_bias(stride, num_classes=3, image_size=(64, 64))
        np.testing.assert_allclose(logits.numpy()[:, strides == stride].mean(), bias, atol=0.3)
    sizes = (boxes[..., 2:] - boxes[..., :2]).numpy() / strides[:, None]
    np.testing.assert_allclose(sizes.mean(), 3.07, atol=0.3)
