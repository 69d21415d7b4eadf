"""Both losses against NumPy float64 (reference.py): values and gradients, case by case."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import element_weights, retinanet, yolo
from tests.detectors import cases, reference
from tests.detectors.conftest import compiled

CASES = pytest.mark.parametrize("name", list(cases.CASES))


def _double(outputs):
    return {key: values.astype(np.float64) for key, values in outputs.items()}


def _check_values(sums, expected):
    assert set(sums) == set(expected)
    for term, value in expected.items():
        np.testing.assert_allclose(sums[term], value, rtol=1e-5, atol=1e-6, err_msg=term)


def _check_gradients(loss, outputs, gradients):
    """Along random directions: (f(x + h d) - f(x - h d)) / 2h."""
    rng = np.random.default_rng(0)
    for _ in range(2):
        direction = {key: rng.normal(size=values.shape) for key, values in outputs.items()}
        moved = [
            {key: outputs[key] + sign * 1e-6 * direction[key] for key in outputs}
            for sign in (1, -1)
        ]
        expected = (loss(moved[0]) - loss(moved[1])) / 2e-6
        found = sum((gradients[key].numpy() * direction[key]).sum() for key in outputs)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def _total(sums):
    return sum(value for term, value in sums.items() if term != "normalizer")


@CASES
def test_yolo_loss_and_gradient_equal_the_reference(name, yolo_loss, yolo_outputs):
    labels = cases.CASES[name]
    points, strides = (array.astype(np.float64) for array in yolo.anchor_points(cases.SIZE))
    outputs = _double(yolo_outputs)
    matched, alphas = reference.match_yolo(outputs, labels, points, strides)

    def loss(outputs):
        return reference.yolo_loss(outputs, labels, points, strides, matched=matched, alphas=alphas)

    sums, gradients = yolo_loss(yolo_outputs, labels)
    _check_values(sums, loss(outputs))
    _check_gradients(lambda moved: _total(loss(moved)), outputs, gradients)


@CASES
def test_retinanet_loss_and_gradient_equal_the_reference(name, retinanet_loss, retinanet_outputs):
    labels, anchors = cases.CASES[name], retinanet.anchors(cases.SIZE)
    outputs = _double(retinanet_outputs)
    matched = reference.match_retinanet(outputs, labels, anchors)

    def loss(outputs):
        return reference.retinanet_loss(outputs, labels, anchors, matched=matched)

    sums, gradients = retinanet_loss(retinanet_outputs, labels)
    _check_values(sums, loss(outputs))
    _check_gradients(lambda moved: _total(loss(moved)), outputs, gradients)


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        pytest.param(yolo.YoloHead(cases.SIZE), "yolo_outputs", id="yolo"),
        pytest.param(retinanet.RetinaNetHead(cases.SIZE), "retinanet_outputs", id="retinanet"),
    ],
)
def test_class_loss_made_in_parts_is_that_of_the_whole(head, outputs, request, monkeypatch):
    outputs = request.getfixturevalue(outputs)
    whole, parts = compiled(head), compiled(head)
    for labels in cases.CASES.values():
        expected = whole(outputs, labels)
        with monkeypatch.context() as patched:
            # 84 anchors in 2 parts, 774 in 18; three classes.
            patched.setattr(element_weights, "MOST_SCORES", 130)
            found = parts(outputs, labels)
        for one, other in zip(*map(tf.nest.flatten, (found, expected)), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)
