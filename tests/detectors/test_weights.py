"""Weights for backbones: what fits, what is missing, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import backbones, weights
from kd_tf.errors import UserError


@pytest.fixture
def backbone():
    return backbones.build_backbone("yolov8_tiny", image_size=(32, 32))


@pytest.fixture
def arrays(backbone):
    """Other weights of the same backbone, by name."""
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=weight.shape).astype(np.float32)
        for name, weight in weights._names(backbone).items()
    }


def _saved(arrays, path):
    np.savez(path, **arrays)
    return str(path)


def test_npz_sets_every_weight(backbone, arrays, tmp_path):
    report = weights.load_backbone_weights(backbone, _saved(arrays, tmp_path / "w.npz"))
    assert set(report.loaded) == set(arrays)
    assert (report.missing, report.unused) == ((), ())
    for name, weight in weights._names(backbone).items():
        np.testing.assert_array_equal(weight, arrays[name])


@pytest.mark.parametrize(
    "name",
    ["yolov8_tiny", pytest.param("mobilenet_v3_small", marks=pytest.mark.slow)],
)
def test_weights_h5_sets_every_weight(name, tmp_path):
    source, target = (backbones.build_backbone(name, image_size=(32, 32)) for _ in "ab")
    for weight in source.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    source.save_weights(tmp_path / "w.weights.h5")
    report = weights.load_backbone_weights(target, str(tmp_path / "w.weights.h5"))
    assert len(report.loaded) == len(source.weights)
    assert (report.missing, report.unused) == ((), ())
    for one, other in zip(target.weights, source.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_missing_weight_is_refused_and_nothing_is_set(backbone, arrays, tmp_path):
    before = [weight.numpy() for weight in backbone.weights]
    del arrays["stem_1_conv__kernel"]
    path = _saved(arrays, tmp_path / "w.npz")
    with pytest.raises(UserError, match=r"lacks 1 of the 115 weights.*stem_1_conv__kernel"):
        weights.load_backbone_weights(backbone, path)
    for weight, values in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, values)


@pytest.mark.parametrize("allowed", ["stem_1_conv__kernel", "stem_1_conv"])
def test_missing_weight_allowed_by_name_stays_as_it_was(backbone, arrays, tmp_path, allowed):
    before = backbone.get_layer("stem_1_conv").kernel.numpy()
    del arrays["stem_1_conv__kernel"]
    arrays["head__kernel"] = np.zeros(3, np.float32)
    report = weights.load_backbone_weights(
        backbone, _saved(arrays, tmp_path / "w.npz"), allow_missing=[allowed]
    )
    assert report.missing == ("stem_1_conv__kernel",)
    assert report.unused == ("head__kernel",)
    assert str(report) == ("114 loaded; 1 missing: stem_1_conv__kernel; 1 unused: head__kernel")
    np.testing.assert_array_equal(backbone.get_layer("stem_1_conv").kernel, before)


def test_another_shape_is_refused(backbone, arrays, tmp_path):
    arrays["stem_1_conv__kernel"] = np.zeros((3, 3, 3, 5), np.float32)
    with pytest.raises(UserError, match=r"shape \[3, 3, 3, 5\], the backbone wants \[3, 3, 3, 8\]"):
        weights.load_backbone_weights(backbone, _saved(arrays, tmp_path / "w.npz"))


def test_unknown_allowed_name_is_refused(backbone, arrays, tmp_path):
    with pytest.raises(UserError, match=r"is called: stem_9\. Its names look like: stem_1_conv"):
        weights.load_backbone_weights(
            backbone, _saved(arrays, tmp_path / "w.npz"), allow_missing=["stem_9"]
        )


@pytest.mark.parametrize(
    ("path", "message"),
    [("w.ckpt", "must be FILE.npz or FILE.weights.h5"), ("w.npz", "no weights file at")],
)
def test_no_such_file_is_refused(backbone, path, message):
    with pytest.raises(UserError, match=message):
        weights.load_backbone_weights(backbone, path)


def test_pickled_objects_are_refused(backbone, tmp_path):
    np.savez(tmp_path / "w.npz", stem_1_conv__kernel=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="not a file of plain arrays"):
        weights.load_backbone_weights(backbone, str(tmp_path / "w.npz"))


def test_imagenet_mobilenet_gives_the_features_of_a_plain_keras_model(real_data):
    path = real_data / "weights" / "mobilenet_v1_imagenet_notop.npz"
    backbone = backbones.build_backbone("mobilenet_v1", image_size=(64, 64))
    report = weights.load_backbone_weights(backbone, str(path))
    assert report.missing == ("conv_pw_13__kernel",)
    assert report.unused == ("conv_preds__bias", "conv_preds__kernel")

    plain = keras.applications.MobileNet(input_shape=(64, 64, 3), include_top=False, weights=None)
    with np.load(path) as arrays:
        for layer in plain.layers[: plain.layers.index(plain.get_layer("conv_pw_12_relu"))]:
            names = [weight.name for weight in layer.weights]
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                names = ["depthwise_kernel"]
            layer.set_weights([arrays[f"{layer.name}__{name}"] for name in names])
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    levels = ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_12_relu")
    assert tuple(backbone.pyramid_level_inputs[f"P{i}"] for i in (3, 4, 5)) == levels
    expected = _features(plain, levels)(images / 127.5 - 1.0)
    found = _features(backbone, levels)(images)
    for one, other in zip(found, expected, strict=True):
        assert np.asarray(other).std() > 0.1
        np.testing.assert_allclose(one, other, atol=1e-4)


def _features(model, levels):
    outputs = [model.get_layer(level).output for level in levels]
    return tf.function(keras.Model(model.inputs, outputs))
