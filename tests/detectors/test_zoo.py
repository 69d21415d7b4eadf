"""Networks by name: sizes, levels, seeds, precision, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_tf import names
from kd_tf.detectors import backbones, yolo, zoo
from kd_tf.detectors.network import count_parameters
from kd_tf.errors import UserError
from tests.detectors import cases


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # The counts that KerasCV's preset metadata state.
        pytest.param("yolov8_xs", 1_277_680, id="yolov8_xs"),
        pytest.param("yolov8_s", 5_089_760, id="yolov8_s"),
        pytest.param("resnet18", 11_186_112, id="resnet18"),
        # 939,120 = the constructor's own; the metadata's 933,502 is another version's.
        pytest.param("mobilenet_v3_small", 939_120, id="mobilenet_v3_small"),
        # The count of keras.applications without its top.
        pytest.param("mobilenet_v1", 3_228_864, id="mobilenet_v1"),
    ],
)
def test_backbone_has_the_published_size_and_levels(name, parameters):
    backbone = backbones.build_backbone(name, image_size=(64, 96))
    assert backbone.count_params() == parameters
    for level, stride in (("P3", 8), ("P4", 16), ("P5", 32)):
        features = backbone.get_layer(backbone.pyramid_level_inputs[level]).output
        assert features.shape[1:3] == (64 // stride, 96 // stride)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("yolov8_m", 11_872_464),
        ("yolov8_l", 19_831_744),
        ("yolov8_xl", 30_972_080),
        ("resnet34", 21_301_696),
        ("resnet50", 23_561_152),
        ("resnet101", 42_605_504),
        ("mobilenet_v3_large", 2_996_352),
        ("efficientnet_lite0", 3_413_024),
    ],
)
def test_large_backbone_has_the_published_size(name, parameters):
    backbone = backbones.build_backbone(name, image_size=(64, 64))
    assert backbone.count_params() == parameters
    keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("name", names.NAMES)
def test_every_name_builds(name):
    network = zoo.build(name, class_names=["a", "b"], image_size=(64, 64))
    outputs = network.model(tf.zeros((1, 64, 64, 3)), training=False)
    boxes, logits = network.head.boxes_and_logits(outputs)
    assert boxes.shape[1] == logits.shape[1] == (84 if name in names.YOLO_NAMES else 774)
    assert logits.shape[2] == 2
    assert np.isfinite(boxes).all()
    assert np.isfinite(logits).all()
    keras.backend.clear_session()


@pytest.mark.parametrize(
    ("network", "parameters"), [("yolo", 995_681), ("retinanet", 716_151)], indirect=["network"]
)
def test_smallest_networks_keep_their_size(network, parameters):
    assert count_parameters(network) == parameters


def test_same_seed_same_weights(network):
    build = {"class_names": network.class_names, "image_size": network.image_size}
    again = zoo.build(network.name, **build, seed=3)
    other = zoo.build(network.name, **build, seed=4)
    kernels = [
        [weight.numpy() for weight in one.model.weights if weight.path.endswith("kernel")]
        for one in (network, again, other)
    ]
    for first, second, third in zip(*kernels, strict=True):
        np.testing.assert_array_equal(first, second)
        assert (first != third).any()


def test_building_leaves_the_global_state_alone(network):
    import random

    random.seed(1)
    expected = [random.random() for _ in range(2)]
    random.seed(1)
    first = random.random()
    zoo.build(network.name, class_names=["a"], image_size=(32, 32), precision="mixed_bfloat16")
    assert [first, random.random()] == expected
    assert keras.config.dtype_policy().name == "float32"


def test_bfloat16_computes_in_it_and_gives_float32(network):
    half = zoo.build(
        network.name,
        class_names=network.class_names,
        image_size=network.image_size,
        precision="mixed_bfloat16",
        seed=3,
    )
    assert {weight.dtype for weight in half.model.weights} == {"float32"}
    middle = [layer for layer in half.model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in middle} == {"bfloat16", "float32"}
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)), tf.float32)
    outputs, expected = (one.model(images, training=True) for one in (half, network))
    for name, values in outputs.items():
        assert values.dtype == tf.float32
        # 8 bits of mantissa through some thirty layers.
        assert np.abs(values - expected[name]).mean() < 0.15
    labels = cases.CASES["random"]
    loss, reference = half.loss(outputs, labels), network.loss(expected, labels)
    for term, value in loss.items():
        assert value.dtype == tf.float32
        np.testing.assert_allclose(value, reference[term], rtol=0.1, err_msg=term)
    assert half.decode(outputs)["boxes"].dtype == tf.float32


def test_batch_norm_forgets_its_start(network):
    layers = [
        layer
        for layer in zoo._all_layers(network.model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(layers) > 10
    assert max(layer.momentum for layer in layers) <= 0.9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"name": "yolov8_tinny"}, "Did you mean 'yolov8_tiny'", id="name"),
        pytest.param({"precision": "float8"}, "one of float32, mixed_bfloat16", id="precision"),
        pytest.param(
            {"precision": "mixed_float16"},
            "got .mixed_float16",
            id="precision_without_loss_scaling",
        ),
        pytest.param({"class_names": []}, "at least one class", id="no_class"),
        pytest.param({"class_names": ["a", "a"]}, "none twice", id="class_twice"),
        pytest.param(
            {"image_size": (64, 100)}, r"multiples of 32 pixels, got \(64, 100\)", id="size"
        ),
        pytest.param({"image_size": (0, 32)}, "multiples of 32", id="no_size"),
    ],
)
def test_build_refuses(changed, message):
    arguments = {"name": "yolov8_tiny", "class_names": ["a"], "image_size": (64, 64)} | changed
    with pytest.raises(UserError, match=message):
        zoo.build(arguments.pop("name"), **arguments)


def test_narrowed_keeps_strides_and_sets_widths():
    backbone = backbones.build_backbone("mobilenet_v1", image_size=(64, 64))
    narrow = yolo.narrowed(backbone, channels=(64, 128, 256))
    shapes = [
        narrow.get_layer(narrow.pyramid_level_inputs[f"P{i}"]).output.shape for i in (3, 4, 5)
    ]
    assert shapes == [(None, 8, 8, 64), (None, 4, 4, 128), (None, 2, 2, 256)]
