import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_tf.training import flat, train_step
from kd_tf.training.settings import TrainSettings
from tests.training import fakes

STEP = tf.constant(0, tf.int64)


def _settings(**changes) -> TrainSettings:
    plain = {"optimizer": "sgd", "momentum": 0.0, "clip_norm": 0.0, "ema_decay": 0.0}
    return TrainSettings(**{"steps": 4, "batch_size": 8, "learning_rate": 0.1} | plain | changes)


def _batch(step: int = 0, **changes) -> dict[str, tf.Tensor]:
    batch = {n: v for n, v in fakes.batch(step, batch_size=8).items() if n != "ids"} | changes
    return {name: tf.constant(value) for name, value in batch.items()}


def _update(settings, batch, **network) -> tuple[dict, list[np.ndarray], list[np.ndarray]]:
    """Metrics, weights before and weights after one eager update of a fresh network."""
    state = train_step.build_state(fakes.build(**network), settings=settings)
    before = fakes.weights(state.network)
    metrics = train_step.build_train_step(state, settings=settings)(batch, STEP)
    values = {name: float(value) for name, value in metrics.items()}
    return values, before, fakes.weights(state.network)


def _norm(before, after) -> float:
    squares = [
        np.sum(np.square(a.astype(np.float64) - b)) for a, b in zip(after, before, strict=True)
    ]
    return float(np.sqrt(sum(squares)))


def test_train_step_equals_the_gradient_of_the_mean_loss():
    batch = _batch()
    metrics, before, after = _update(_settings(), batch, batch_norm=False)
    network = fakes.build(batch_norm=False)
    with tf.GradientTape() as tape:
        value = network.model(tf.cast(batch["images"], tf.float32))["value"][:, 0]
        square = tf.reduce_sum(tf.square(value - batch["target"]) * batch["weights"])
        size = 0.01 * tf.reduce_sum(tf.abs(value) * batch["weights"])
        mean = (square + size) / tf.reduce_sum(batch["weights"])
    gradients = tape.gradient(mean, [v.value for v in network.model.trainable_variables])
    for old, new, gradient in zip(before, after, gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient.numpy(), atol=1e-6)
    assert metrics["loss"] == pytest.approx(float(mean), rel=1e-6)
    assert metrics["loss"] == pytest.approx(metrics["square"] + metrics["size"], rel=1e-6)
    assert metrics["normalizer"] == batch["weights"].numpy().sum()
    assert metrics["gradient_norm"] == pytest.approx(float(tf.linalg.global_norm(gradients)), 1e-5)
    assert metrics["learning_rate"] == pytest.approx(0.1)


def test_train_step_with_all_weights_zero_changes_nothing():
    batch = _batch(weights=np.zeros(8, np.float32))
    metrics, before, after = _update(_settings(), batch, batch_norm=False)
    assert (metrics["loss"], metrics["normalizer"], metrics["gradient_norm"]) == (0.0, 0.0, 0.0)
    assert _norm(before, after) == 0.0


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_one_large_batch(parts):
    """The micro-batches have unequal weights, so a mean of their means would differ."""
    batch = _batch(weights=np.array([9, 0, 1, 1, 0, 0, 0, 2], np.float32))
    whole, _, expected = _update(_settings(), batch, batch_norm=False)
    pieces, _, got = _update(_settings(accumulate=parts), batch, batch_norm=False)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert pieces == pytest.approx(whole, rel=1e-5)


def test_clipping_bounds_the_step_of_the_averaged_gradient():
    batch = _batch()
    free, before, after = _update(_settings(), batch, batch_norm=False)
    limit = free["gradient_norm"] / 3
    clipped, _, shorter = _update(_settings(clip_norm=limit, accumulate=2), batch, batch_norm=False)
    # Accumulated, then averaged, then clipped: a third of the free step, in its direction.
    for old, long, short in zip(before, after, shorter, strict=True):
        np.testing.assert_allclose(short - old, (long - old) / 3, atol=1e-6)
    assert clipped["gradient_norm"] == pytest.approx(free["gradient_norm"], rel=1e-5)


def test_clipping_leaves_a_smaller_gradient_bit_for_bit():
    _, _, free = _update(_settings(), _batch())
    _, _, bounded = _update(_settings(clip_norm=1e6), _batch())
    for one, other in zip(free, bounded, strict=True):
        np.testing.assert_array_equal(one, other)


def test_freeze_batch_norm_leaves_all_four_arrays():
    settings = _settings(freeze_batch_norm=True, weight_decay=0.1)
    state = train_step.build_state(fakes.build(), settings=settings)
    (layer,) = [
        x for x in state.network.model.layers if isinstance(x, keras.layers.BatchNormalization)
    ]
    before = [np.array(v.value) for v in layer.variables]
    train_step.build_train_step(state, settings=settings)(_batch(), STEP)
    assert len(before) == 4
    for old, variable in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(old, variable.value.numpy())


@pytest.mark.parametrize(
    ("settings", "num_replicas", "network", "images"),
    [
        pytest.param({"batch_size": 8}, 2, {}, None, id="4"),
        pytest.param({"batch_size": 6}, 2, {}, 3, id="3_in_a_replica"),
        pytest.param({"batch_size": 8, "accumulate": 4}, 1, {}, 2, id="2_in_a_micro_batch"),
        pytest.param({"batch_size": 8, "accumulate": 4}, 2, {}, 1, id="1_in_both"),
        pytest.param({"batch_size": 1}, 1, {"frozen": True}, None, id="frozen"),
        pytest.param({"batch_size": 1}, 1, {"batch_norm": False}, None, id="no_batch_norm"),
    ],
)
def test_few_images_for_batch_norm_are_told(caplog, settings, num_replicas, network, images):
    train_step.warn_of_few_images(
        fakes.build(**network).model, settings=_settings(**settings), num_replicas=num_replicas
    )
    said = f"its mean and variance from {images} images at a time"
    assert (said in caplog.text) if images else not caplog.text


def test_train_step_moves_statistics_and_averages():
    settings = _settings(ema_decay=0.999)
    state = train_step.build_state(fakes.build(), settings=settings)
    start = [v.numpy() for v in state.averaged]
    train_step.build_train_step(state, settings=settings)(_batch(), STEP)
    moved = [v.numpy() for v in state.averaged]
    # Kernel, bias, gamma, beta, moving mean, moving variance, kernel, bias.
    assert len(moved) == 8
    assert all(_norm([a], [b]) > 0 for a, b in zip(start, moved, strict=True))
    averages = flat.cut(tf.convert_to_tensor(state.average), state.averaged)
    for old, new, average in zip(start, moved, averages, strict=True):
        np.testing.assert_allclose(average.numpy(), 0.1 * old + 0.9 * new, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "ema_decay", "count"),
    [
        # 8 model variables, 6 of them trained; the averages are one vector.
        pytest.param("adamw", 0.9, 8 + 2 * 6 + 1, id="adamw_two_slots_and_averages"),
        pytest.param("sgd", 0.0, 8 + 6, id="sgd_one_slot_no_averages"),
    ],
)
def test_named_variables_are_all_there_are(optimizer, ema_decay, count):
    settings = _settings(optimizer=optimizer, ema_decay=ema_decay)
    state = train_step.build_state(fakes.build(), settings=settings)
    named = state.named_variables()
    assert len(named) == count
    assert len({id(variable) for variable in named.values()}) == count
    held = {id(v) for v in named.values()}
    assert {id(v.value) for v in state.network.model.variables} <= held


def test_named_variables_sees_layers_in_lists():
    """tf.train.Checkpoint(model=...) loses these (keras issue 18398)."""

    class Heads(keras.Model):
        def __init__(self):
            super().__init__()
            self.heads = {"a": [keras.layers.Dense(1), keras.layers.Dense(2)]}

        def call(self, images):
            return [head(images) for head in self.heads["a"]]

    model = Heads()
    model(np.zeros((1, 3), np.float32))
    state = train_step.build_state(fakes.TinyNetwork(model), settings=_settings(optimizer="sgd"))
    shapes = [tuple(v.shape) for v in state.model_variables().values()]
    assert shapes == [(3, 1), (1,), (3, 2), (2,)]


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain_sgd"),
        pytest.param({"momentum": 0.9, "weight_decay": 0.1, "clip_norm": 0.5}, id="sgd"),
        pytest.param(
            {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 0.5, "ema_decay": 0.9},
            id="adamw",
        ),
    ],
)
def test_compiled_updates_equal_eager_ones(changes, jit_compile):
    """Two updates: what the first leaves in slots and averages counts in the second."""
    settings = _settings(**changes)
    states = [
        train_step.build_state(fakes.build(batch_norm=False), settings=settings) for _ in range(2)
    ]
    eager = train_step.build_train_step(states[0], settings=settings)
    settings = dataclasses.replace(settings, jit_compile=jit_compile)
    compiled = tf.function(train_step.build_train_step(states[1], settings=settings))
    for step in range(2):
        wanted = eager(_batch(step), STEP + step)
        got = compiled(_batch(step), STEP + step)
        for name, value in wanted.items():
            assert float(got[name]) == pytest.approx(float(value), rel=1e-4), name
    for name, variable in states[0].named_variables().items():
        other = states[1].named_variables()[name]
        np.testing.assert_allclose(other.numpy(), variable.numpy(), atol=1e-5, err_msg=name)
