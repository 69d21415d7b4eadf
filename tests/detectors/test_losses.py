"""Losses per element against torchvision's golden values and values by hand."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import losses
from tests.detectors import reference

GOLDEN = pathlib.Path(__file__).parent.parent / "geometry" / "golden" / "losses.npz"


def test_quality_focal_equals_torchvision():
    with np.load(GOLDEN) as golden:
        logits = tf.constant(golden["focal_logits"])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            targets = tf.constant(golden["focal_targets"])
            # torchvision's weight alpha of the positives, which ours has not.
            weights = 0.25 * targets + 0.75 * (1.0 - targets)
            loss = weights * losses.quality_focal(logits, targets)
        gradient = tape.gradient(loss, logits)
        np.testing.assert_allclose(loss, golden["focal"], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(gradient, golden["focal_gradient"], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("target", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_quality_focal_of_soft_targets_equals_the_formula(target):
    logits = np.linspace(-30, 30, 61)
    loss = losses.quality_focal(tf.constant(logits, tf.float32), tf.fill([61], target))
    expected = reference.focal(logits, np.float64(np.float32(target)))
    np.testing.assert_allclose(loss, expected, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("target", [0.1, 0.5, 0.8])
def test_quality_focal_is_zero_at_a_soft_target(target):
    logit = np.float32(np.log(target / (1 - target)))
    around = tf.constant([logit - 0.1, logit, logit + 0.1])
    loss = losses.quality_focal(around, tf.fill([3], target)).numpy()
    assert loss[1] < 1e-9 < min(loss[0], loss[2])


@pytest.mark.parametrize("logit", [-100.0, 0.0, 100.0])
def test_losses_at_large_logits_are_finite_with_their_gradients(logit):
    for loss in (losses.quality_focal, losses.binary_cross_entropy):
        x = tf.constant([logit, logit])
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x, tf.constant([0.0, 1.0]))
        assert np.isfinite(value).all()
        assert np.isfinite(tape.gradient(value, x)).all()


def test_binary_cross_entropy_by_hand():
    # p = 1/2: log 2 whatever the target; a confident miss costs its logit.
    found = losses.binary_cross_entropy(tf.constant([0.0, 0.0, 50.0]), tf.constant([1.0, 0.3, 0.0]))
    np.testing.assert_allclose(found, [np.log(2), np.log(2), 50.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("distance", "weights"),
    [
        pytest.param(0.0, {0: 1.0}, id="zero"),
        pytest.param(2.25, {2: 0.75, 3: 0.25}, id="between_bins"),
        pytest.param(3.0, {3: 1.0}, id="on_a_bin"),
        # Held to 3.99 with bins 0 to 4.
        pytest.param(9.0, {3: 0.01, 4: 0.99}, id="beyond_the_last"),
        pytest.param(-2.0, {0: 1.0}, id="negative"),
    ],
)
def test_distribution_focal_by_hand(distance, weights):
    logits = np.array([0.1, -0.4, 1.0, 2.0, 0.3])
    log_p = logits - np.log(np.exp(logits).sum())
    found = losses.distribution_focal(tf.constant(logits, tf.float32), tf.constant(distance))
    expected = -sum(weight * log_p[k] for k, weight in weights.items())
    np.testing.assert_allclose(found, expected, rtol=1e-5)
