import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.training import schedule
from kd_tf.training.settings import TrainSettings

SETTINGS = TrainSettings(steps=24, batch_size=1, learning_rate=0.8, warmup_steps=4)


# Peak 0.8, floor 0.008, a hundredth; the cosine runs over steps 4..24, its middle is step 14.
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(0, 0.2, id="first_update_moves"),
        pytest.param(1, 0.4, id="second"),
        pytest.param(3, 0.8, id="last_of_warm_up_is_the_peak"),
        pytest.param(4, 0.8, id="cosine_starts_at_the_peak"),
        pytest.param(9, 0.008 + 0.792 * (1 + 2**-0.5) / 2, id="quarter"),
        pytest.param(14, 0.404, id="half_way_is_the_mean"),
        pytest.param(24, 0.008, id="floor"),
        pytest.param(99, 0.008, id="stays_at_the_floor"),
    ],
)
def test_learning_rate(step, expected):
    got = schedule.learning_rate(tf.constant(step, tf.int64), settings=SETTINGS)
    assert got.dtype == tf.float32
    assert float(got) == pytest.approx(expected, rel=1e-6)


# The cosine runs over steps 16..24, its middle is step 20.
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(3, 0.8, id="last_of_warm_up"),
        pytest.param(10, 0.8, id="peak_is_held"),
        pytest.param(16, 0.8, id="cosine_starts_at_the_peak"),
        pytest.param(18, 0.008 + 0.792 * (1 + 2**-0.5) / 2, id="quarter"),
        pytest.param(20, 0.404, id="half_way_is_the_mean"),
        pytest.param(24, 0.008, id="floor"),
    ],
)
def test_peak_is_held_until_the_last_decay_steps(step, expected):
    settings = dataclasses.replace(SETTINGS, decay_steps=8)
    got = schedule.learning_rate(tf.constant(step), settings=settings)
    assert float(got) == pytest.approx(expected, rel=1e-6)


def test_decay_longer_than_what_the_warm_up_leaves_starts_after_it():
    settings = dataclasses.replace(SETTINGS, decay_steps=1000)
    steps = tf.range(30)
    np.testing.assert_array_equal(
        schedule.learning_rate(steps, settings=settings),
        schedule.learning_rate(steps, settings=SETTINGS),
    )


@pytest.mark.parametrize("warmup_steps", [0, 10, 12])
def test_learning_rate_of_a_run_is_never_zero(warmup_steps):
    settings = TrainSettings(steps=10, batch_size=1, warmup_steps=warmup_steps)
    rates = schedule.learning_rate(tf.range(10), settings=settings).numpy()
    assert rates.min() > 0.0
    assert rates.max() <= np.float32(settings.learning_rate)
