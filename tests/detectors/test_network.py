"""A canary per family: build, one step, predict, save, load, the same outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import saving, zoo
from kd_tf.detectors.network import count_parameters
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.errors import UserError
from tests.detectors import cases
from tests.detectors.conftest import FAMILIES


@pytest.fixture(scope="module")
def images():
    """[2, 64, 64, 3] uint8: noise with a white and a black square."""
    made = np.random.default_rng(1).integers(60, 190, (2, 64, 64, 3), np.uint8)
    made[0, 10:42, 8:40], made[1, 20:36, 24:50] = 255, 0
    return made


@pytest.fixture(scope="module")
def trained(network, images):
    """A copy of the family's network after a few steps on two images, and the losses seen."""
    copy = zoo.build(
        network.name, class_names=network.class_names, image_size=network.image_size, seed=3
    )
    labels = cases.labels([([8, 10, 40, 42], 0)], [([24, 20, 50, 36], 2)])
    optimizer = keras.optimizers.Adam(2e-3)
    weights = copy.model.trainable_weights
    optimizer.build(weights)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            sums = copy.loss(copy.model(tf.cast(images, tf.float32), training=True), labels)
            normalizer = tf.maximum(sums.pop("normalizer"), 1.0)
            loss = sum(sums.values()) / normalizer
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    # After 60 a RetinaNet's boxes are up to 12 px off or 3, as rounding has it; after 140, 1.5.
    return copy, [float(step()) for _ in range(140)]


@pytest.fixture(scope="module")
def detector(trained):
    return NetworkDetector(trained[0], batch_size=3, score_floor=0.3)


def test_every_weight_gets_a_gradient(network, images):
    labels = cases.labels([([8, 10, 40, 42], 0)], [([24, 20, 50, 36], 2)])
    with tf.GradientTape() as tape:
        sums = network.loss(network.model(tf.cast(images, tf.float32), training=True), labels)
        loss = sum(value for name, value in sums.items() if name != "normalizer")
    weights = network.model.trainable_weights
    gradients = tape.gradient(loss, weights)
    assert [w.path for w, g in zip(weights, gradients, strict=True) if g is None] == []


def test_training_lowers_the_loss_and_finds_the_objects(trained, detector, images):
    _, seen = trained
    assert seen[-1] < 0.35 * seen[0]
    found = detector.detect(images)
    np.testing.assert_allclose(found[0].boxes[0], [8, 10, 40, 42], atol=6)
    np.testing.assert_allclose(found[1].boxes[0], [24, 20, 50, 36], atol=6)
    assert [int(d.classes[0]) for d in found] == [0, 2]


def test_saved_and_loaded_gives_the_same_outputs(trained, images, tmp_path):
    network, _ = trained
    path = str(tmp_path / "deep" / "model.keras")
    saving.save_network(network, path, meta={"score_threshold": 0.4})
    loaded = saving.load_network(path)
    assert loaded.name == network.name
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.image_size == (64, 64)
    assert loaded.meta == {"score_threshold": 0.4}
    assert saving.read_spec(path)["class_names"] == ["a", "b", "c"]
    pixels = tf.cast(images, tf.float32)
    expected = network.model(pixels, training=False)
    for name, values in loaded.model(pixels, training=False).items():
        np.testing.assert_array_equal(values, expected[name])
    # Moving statistics included.
    assert len(loaded.model.weights) == len(network.model.weights)
    for one, other in zip(loaded.model.weights, network.model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_detector_gives_the_same_for_any_number_of_images(detector, images):
    whole = detector.detect(np.concatenate([images, images, images])[:5])
    assert len(whole) == 5
    for i, found in enumerate(whole):
        alone = detector.detect(images[i % 2 : i % 2 + 1])[0]
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        assert (np.diff(found.scores) <= 0).all()
        assert ((found.boxes >= 0) & (found.boxes <= 64)).all()
    assert detector.detect(images[:0]) == []


def test_detector_refuses_another_size(detector, images):
    with pytest.raises(ValueError, match=r"uint8 \[B, 64, 64, 3\], got uint8 \[2, 32, 64, 3\]"):
        detector.detect(images[:, :32])
    with pytest.raises(ValueError, match="got float32"):
        detector.detect(images.astype(np.float32))


def test_detector_needs(detector):
    needs = detector.needs()
    assert (needs.class_names, needs.height, needs.width) == (("a", "b", "c"), 64, 64)
    assert (needs.resize, needs.pad_value, needs.channels) == ("letterbox", 114, "rgb")


def test_count_parameters_counts_every_number(network):
    expected = sum(np.size(weight.numpy()) for weight in network.model.weights)
    assert count_parameters(network) == expected == network.model.count_params()


def test_load_network_refuses_what_is_none(tmp_path):
    with pytest.raises(UserError, match="no network at"):
        saving.load_network(str(tmp_path / "missing.keras"))
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(UserError, match="not a network written by kd_tf"):
        saving.load_network(str(tmp_path / "text.keras"))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_step_compiled_with_xla_gives_the_same_loss(family, images):
    network = zoo.build(FAMILIES[family], class_names=("a", "b", "c"), image_size=cases.SIZE)
    weights = network.model.trainable_weights

    def step(labels):
        with tf.GradientTape() as tape:
            sums = network.loss(network.model(tf.cast(images, tf.float32), training=True), labels)
            loss = sums["class"] + sums["box"] + sums.get("dfl", 0.0)
        return loss, sums["normalizer"], tf.linalg.global_norm(tape.gradient(loss, weights))

    labels = {name: tf.constant(value) for name, value in cases.CASES["random"].items()}
    plain, compiled = tf.function(step)(labels), tf.function(step, jit_compile=True)(labels)
    np.testing.assert_allclose(compiled[:2], plain[:2], rtol=1e-4)
    np.testing.assert_allclose(compiled[2], plain[2], rtol=1e-2)


@pytest.mark.slow
def test_detection_compiled_with_xla_gives_the_same(trained, images):
    # A TPU runs nothing else.
    network, _ = trained

    def infer(images):
        outputs = network.model(tf.cast(images, tf.float32), training=False)
        return network.decode(outputs, score_floor=0.3)

    plain, compiled = tf.function(infer)(images), tf.function(infer, jit_compile=True)(images)
    assert (plain["num_detections"].numpy() > 0).all()
    for name, rows in plain.items():
        np.testing.assert_allclose(compiled[name], rows, atol=1e-3)
