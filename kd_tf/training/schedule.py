"""The learning rate as a pure function of the step, so resuming needs no state."""

import math

import tensorflow as tf

from kd_tf.training.settings import TrainSettings

# Where the cosine ends, as a fraction of the peak.
FINAL = 0.01


def learning_rate(step: tf.Tensor, *, settings: TrainSettings) -> tf.Tensor:
    """The learning rate of one update: linear warm-up, the peak, then a cosine to a floor.

    The first update already moves (step 0 of a warm-up of W has 1/W of the peak),
    the update `warmup_steps - 1` is the first at the peak, and the last update is
    one cosine step above the floor. The cosine takes the last `decay_steps`; where the
    warm-up leaves less, it takes what is left.

    Args:
        step: Scalar integer tensor, 0 for the first update.
        settings: Uses steps, warmup_steps, decay_steps, learning_rate.

    Returns:
        Scalar float32 > 0.

    Source: SGDR (Loshchilov and Hutter 2017, eq. 5, one cycle); the warm-up is
    Goyal et al. 2017, section 2.2; a peak that is held, and a decay at the end, are
    Haegele et al. 2024, section 3, https://arxiv.org/abs/2405.18392.
    """
    step = tf.cast(step, tf.float32)
    peak = settings.learning_rate
    floor = peak * FINAL
    warm_up = (step + 1.0) / max(settings.warmup_steps, 1)
    after_warm_up = max(settings.steps - settings.warmup_steps, 1)
    length = min(settings.decay_steps or after_warm_up, after_warm_up)
    passed = tf.clip_by_value((step - settings.steps + length) / length, 0.0, 1.0)
    cosine = floor + (peak - floor) * 0.5 * (1.0 + tf.cos(math.pi * passed))
    return tf.where(step < settings.warmup_steps, peak * warm_up, cosine)
