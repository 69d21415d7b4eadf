"""RetinaNet's anchors, offsets and starting point."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import assign, retinanet
from kd_tf.geometry.overlaps import box_ious


def test_anchors_by_hand():
    anchors = retinanet.anchors((64, 96))
    # 8 x 12, 4 x 6, 2 x 3, 1 x 2, 1 x 1 places of nine.
    assert anchors.shape == (9 * (96 + 24 + 6 + 2 + 1), 4)
    # First place: centre (4, 4); aspect 1 of scale 1 is row 1, 8 x 8; aspect .5 is wide.
    np.testing.assert_allclose(anchors[1], [0, 0, 8, 8], atol=1e-5)
    width, height = 8 * 2**0.5, 8 / 2**0.5
    np.testing.assert_allclose(
        anchors[0], [4 - width / 2, 4 - height / 2, 4 + width / 2, 4 + height / 2], atol=1e-5
    )
    # Places run along x first.
    np.testing.assert_allclose(anchors[9 + 1], [8, 0, 16, 8], atol=1e-5)


@pytest.mark.parametrize(
    ("side", "smallest"), [(96, 8), (160, 8), (320, 16), (640, 32), (1280, 32)]
)
def test_anchors_grow_with_the_input(side, smallest):
    sides = retinanet.anchors((side, side))[1]
    np.testing.assert_allclose(sides[2] - sides[0], smallest, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (160, 160), (352, 416)])
def test_centres_are_the_middles_of_the_anchors(size):
    anchors, centres = retinanet.anchors(size), retinanet.centres(size)
    np.testing.assert_allclose((anchors[:, :2] + anchors[:, 2:]) / 2, centres, atol=1e-4)
    nine = centres.reshape(-1, 9, 2)
    assert (nine == nine[:, :1]).all()
    np.testing.assert_array_equal(nine[:2, 0], [[4, 4], [12, 4]])


def test_among_the_nine_of_a_place_the_objects_shape_has_the_highest_target():
    # At the start every anchor predicts itself, with one score for all.
    anchors, centres = retinanet.anchors((64, 64)), retinanet.centres((64, 64))
    wide = 9 * (3 * 8 + 4) + 6  # row 3, column 4: aspect .5 of the largest scale
    found = assign.task_aligned(
        tf.fill([1, 1, len(anchors)], 0.01),
        tf.constant(anchors[None]),
        points=tf.constant(centres),
        boxes=tf.constant(anchors[None, wide, None]),
        valid=tf.constant([[True]]),
    )
    positive, target = found.positive[0].numpy(), found.target[0].numpy()
    assert positive.sum() == 13
    assert target.argmax() == wide
    np.testing.assert_allclose(target[wide], 1.0, rtol=1e-4)
    x1, y1, x2, y2 = anchors[wide]
    assert ((centres[positive] > [x1, y1]) & (centres[positive] < [x2, y2])).all()


def test_anchors_fit_small_objects():
    # At the start boxes are the anchors, and their overlap with an object is the score it aims
    # at. Squares of 7 to 16 px anywhere in a 160 px image; with anchors of the paper's size,
    # four strides, the IoU is at most (16 / 32)^2 = .25.
    rng = np.random.default_rng(0)
    sizes = rng.uniform(7, 16, (200, 1))
    corners = rng.uniform(0, 144, (200, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    anchors = retinanet.anchors((160, 160))
    best = box_ious(boxes, anchors, is_crowd=np.zeros(len(anchors), bool)).max(axis=1)
    assert best.min() > 0.2
    assert np.median(best) > 0.45


def test_apply_offsets_by_hand():
    anchors = np.float32([[10, 20, 30, 60]])
    # Centre (20, 40) moves by half a width and a quarter of a height; width doubles.
    offsets = np.float32([[[0.5, 0.25, np.log(2), 0.0]]])
    found = retinanet.apply_offsets(offsets, anchors)
    np.testing.assert_allclose(found, [[[10, 30, 50, 70]]], atol=1e-4)


def test_apply_offsets_holds_growth():
    found = retinanet.apply_offsets(np.float32([[[0, 0, 100, 100]]]), np.float32([[0, 0, 16, 16]]))
    np.testing.assert_allclose(found, [[[-492, -492, 508, 508]]], rtol=1e-5)


@pytest.mark.parametrize("network", ["retinanet"], indirect=True)
def test_untrained_network_starts_at_the_prior_and_the_anchors(network):
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    boxes, logits = network.head.boxes_and_logits(network.model(images, training=False))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits.numpy())), 0.01, atol=0.003)
    anchors = retinanet.anchors((64, 64))
    size = (anchors[:, 2:] - anchors[:, :2]).max(axis=1)
    difference = np.abs(boxes.numpy() - anchors).max(axis=-1) / size
    assert difference.mean() < 0.1


@pytest.mark.parametrize("network", ["retinanet"], indirect=True)
def test_prior_lies_on_the_class_head_alone(network):
    biases = {
        name: network.model.get_layer(f"{name}_logits").bias.numpy()
        for name in ("boxes", "classes")
    }
    assert not biases["boxes"].any()
    np.testing.assert_allclose(biases["classes"], -np.log(99), rtol=1e-6)
