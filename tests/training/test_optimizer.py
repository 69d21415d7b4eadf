import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_tf.training import optimizer
from kd_tf.training.settings import TrainSettings

RATES = (0.1, 0.3, 0.05, 0.2)


@pytest.mark.parametrize(
    ("settings", "reference", "scale"),
    [
        pytest.param(
            {"optimizer": "adamw", "weight_decay": 0.1},
            lambda: keras.optimizers.AdamW(1.0, weight_decay=0.1),
            1.0,
            id="adamw",
        ),
        pytest.param(
            {"optimizer": "adamw", "weight_decay": 0.0},
            lambda: keras.optimizers.AdamW(1.0, weight_decay=0.0),
            1e-6,
            id="adamw_epsilon_counts",
        ),
        pytest.param(
            {"optimizer": "sgd", "weight_decay": 0.1, "momentum": 0.8},
            lambda: keras.optimizers.SGD(1.0, momentum=0.8, weight_decay=0.1),
            1.0,
            id="sgd",
        ),
        pytest.param(
            {"optimizer": "sgd", "momentum": 0.0},
            lambda: keras.optimizers.SGD(1.0),
            1.0,
            id="plain_sgd",
        ),
    ],
)
def test_apply_equals_keras_on_one_replica(settings, reference, scale):
    """Expected values: keras.optimizers 3.15.1; its decay leaves the bias out on request."""
    random = np.random.default_rng(5)
    start = [random.normal(size=(3, 2)).astype("float32"), np.ones(2, "float32")]
    theirs = [keras.Variable(value) for value in start]
    kernel_only = reference()
    if settings.get("weight_decay"):
        kernel_only.exclude_from_weight_decay([theirs[1]])
    ours = [tf.Variable(value) for value in start]
    built = optimizer.build(ours, settings=TrainSettings(steps=9, batch_size=1, **settings))
    for step, rate in enumerate(RATES):
        gradients = [tf.constant(scale * random.normal(size=v.shape), tf.float32) for v in start]
        optimizer.apply(
            built,
            gradients,
            learning_rate=tf.constant(rate),
            step=tf.constant(step),
        )
        kernel_only.learning_rate = rate
        kernel_only.apply(gradients, theirs)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our.numpy(), their.numpy(), rtol=0, atol=5e-6)


def test_apply_adam_first_step_is_the_learning_rate():
    # After one update mean / sqrt(square) = gradient / |gradient|, whatever its size.
    variable = tf.Variable([[1.0, 1.0]])
    built = optimizer.build([variable], settings=TrainSettings(steps=1, batch_size=1))
    optimizer.apply(
        built,
        [tf.constant([[1.0, -50.0]])],
        learning_rate=tf.constant(0.25),
        step=tf.constant(0, tf.int64),
    )
    np.testing.assert_allclose(variable.numpy(), [[0.75, 1.25]], rtol=1e-5)


def test_weight_decay_spares_vectors():
    kernel, bias = tf.Variable([[2.0]]), tf.Variable([2.0])
    settings = TrainSettings(steps=1, batch_size=1, optimizer="sgd", weight_decay=0.5)
    built = optimizer.build([kernel, bias], settings=settings)
    gradients = [tf.zeros([1, 1]), tf.zeros([1])]
    optimizer.apply(built, gradients, learning_rate=tf.constant(0.1), step=tf.constant(0))
    assert kernel.numpy()[0, 0] == pytest.approx(1.9)  # 2 - 0.1 * 0.5 * 2
    assert bias.numpy()[0] == 2.0
