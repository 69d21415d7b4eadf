"""Networks by name, built offline."""

import contextlib
import difflib
import random
from collections.abc import Iterator, Sequence

import keras

from kd_tf.detectors import backbones, retinanet, weights, yolo
from kd_tf.detectors.network import Head, Network
from kd_tf.errors import UserError
from kd_tf.names import NAMES, YOLO_NAMES

PRECISIONS = ("float32", "mixed_bfloat16")
# Blocks per stage of the neck: KerasCV's documentation for l and xl, its PascalVOC preset
# for m, its examples for xs and s.
_YOLO_NECK_DEPTH = {"yolov8_m": 2, "yolov8_l": 3, "yolov8_xl": 3}
# The width of yolov8_xs, whose backbone has about as many parameters.
_YOLO_NECK_CHANNELS = {"yolov8_mobilenet_v1": (64, 128, 256)}
# Moving statistics start at 0 and 1. At Keras' 0.99 (KerasCV: 0.97 to 0.999) that start still
# outweighs the stem's small variance after 150 steps, and a network that has learned finds
# nothing: recall 0.02 instead of 0.74 on 8 scenes. 0.9 is PyTorch's default.
_MAX_BATCH_NORM_MOMENTUM = 0.9
# For CPUs: the full pyramid and heads cost ten times such a backbone.
_RETINANET_BACKBONES = {"retinanet_tiny": "yolov8_tiny"}
_RETINANET_WIDTHS = {"retinanet_tiny": {"channels": 64, "head_depth": 2}}


def build(
    name: str,
    *,
    class_names: Sequence[str],
    image_size: tuple[int, int],
    precision: str = "float32",
    seed: int = 0,
    backbone_weights: str | None = None,
    allow_missing: Sequence[str] = (),
) -> Network:
    """Builds a network; the same arguments give the same weights.

    Args:
        name: One of `kd_tf.names.NAMES`.
        class_names: In the order of the class indices.
        image_size: (height, width) of the input in pixels, multiples of 32.
        precision: Keras' policy of the layers; outputs are float32 whatever it is.
        seed: Of the random weights.
        backbone_weights: File (or `kerascv:PRESET`) for the backbone, see `weights`.
        allow_missing: Names of backbone weights that the file need not have.

    Raises:
        UserError: An unknown name or precision, no class or a class twice, a size that
            is no multiple of 32, or weights that do not fit.
    """
    _check(name, class_names=class_names, image_size=image_size, precision=precision)
    with _construction(seed=seed, precision=precision):
        backbone = backbones.build_backbone(_backbone_name(name), image_size=image_size)
        family = _build_yolo if name in YOLO_NAMES else _build_retinanet
        model, head = family(
            name, backbone, num_classes=len(class_names), image_size=tuple(image_size)
        )
    if backbone_weights:
        weights.load_backbone_weights(backbone, backbone_weights, allow_missing=allow_missing)
    for layer in _all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, _MAX_BATCH_NORM_MOMENTUM)
    return Network(name, tuple(class_names), tuple(image_size), precision, model, head)


def _backbone_name(name: str) -> str:
    if name in YOLO_NAMES and name != "yolov8_mobilenet_v1":
        return name
    return _RETINANET_BACKBONES.get(name, name.partition("_")[2])


def _build_yolo(
    name: str, backbone: keras.Model, *, num_classes: int, image_size: tuple[int, int]
) -> tuple[keras.Model, Head]:
    if name in _YOLO_NECK_CHANNELS:
        backbone = yolo.narrowed(backbone, channels=_YOLO_NECK_CHANNELS[name])
    model = yolo.build_yolo(
        backbone,
        num_classes=num_classes,
        neck_depth=_YOLO_NECK_DEPTH.get(name, 1),
        image_size=image_size,
    )
    return model, yolo.YoloHead(image_size)


def _build_retinanet(
    name: str, backbone: keras.Model, *, num_classes: int, image_size: tuple[int, int]
) -> tuple[keras.Model, Head]:
    widths = _RETINANET_WIDTHS.get(name, {})
    model = retinanet.build_retinanet(backbone, num_classes=num_classes, **widths)
    return model, retinanet.RetinaNetHead(image_size)


def _all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


@contextlib.contextmanager
def _construction(*, seed: int, precision: str) -> Iterator[None]:
    """Policy and seed for the layers built inside; both are as before afterwards.

    Keras draws the seed of every initialiser from Python's own generator.
    """
    policy, state = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(precision)
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(policy)


def _check(
    name: str, *, class_names: Sequence[str], image_size: tuple[int, int], precision: str
) -> None:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"No network is called {name!r}. Known: {', '.join(NAMES)}.{hint}")
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    if not class_names or len(set(class_names)) != len(class_names):
        raise UserError(f"A network needs at least one class, none twice, got {class_names!r}.")
    if len(image_size) != 2 or any(side < 32 or side % 32 for side in image_size):
        raise UserError(
            f"image_size must be (height, width) in multiples of 32 pixels, got {image_size!r}."
        )
