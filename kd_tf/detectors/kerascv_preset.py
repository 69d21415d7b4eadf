"""KerasCV's own pretrained detectors and backbones: fetched, or from a file of weights."""

import dataclasses

import keras
import keras_cv
import tensorflow as tf

from kd_tf import files
from kd_tf.detectors import backbones, replicas
from kd_tf.detectors.network import IOU_THRESHOLD, Network
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Needs

# Both detectors were trained on Pascal VOC 2012, whose names in its own order these are, on
# 640 x 640 inputs, padded right and below with 0 (KerasCV's `Resizing` with
# pad_to_aspect_ratio=True, examples/training/object_detection/pascal_voc at v0.9.0).
_CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
_IMAGE_SIZE = (640, 640)
_YOLO, _RETINANET = "yolo_v8_m_pascalvoc", "retinanet_resnet50_pascalvoc"
_BACKBONES = (
    keras_cv.models.YOLOV8Backbone,
    keras_cv.models.ResNetBackbone,
    keras_cv.models.MobileNetV3Backbone,
    keras_cv.models.EfficientNetLiteBackbone,
)
DETECTOR_PRESETS = (_YOLO, _RETINANET)


def load_preset(
    preset: str,
    *,
    weights: str | None = None,
    batch_size: int = 8,
    score_floor: float = 0.01,
    iou_threshold: float = IOU_THRESHOLD,
    max_detections: int = 100,
    strategy: tf.distribute.Strategy | None = None,
) -> NetworkDetector:
    """A detector that KerasCV's authors trained, with our suppression behind it.

    Args:
        preset: One of DETECTOR_PRESETS.
        weights: Its `.weights.h5`; without it the preset is fetched.
        batch_size: Images at a time.
        score_floor: Lowest score reported.
        iou_threshold: Overlap above which the worse box of a class falls.
        max_detections: Most detections of an image.
        strategy: Whose replicas share the images; None is one device.

    Raises:
        UserError: An unknown preset, no network, or a file that does not fit.
    """
    if preset not in DETECTOR_PRESETS:
        raise UserError(f"No detector preset {preset!r}. Known: {', '.join(DETECTOR_PRESETS)}.")
    with replicas.scope(strategy):
        network = _load_network(preset, weights)
    return NetworkDetector(
        network,
        batch_size=batch_size,
        score_floor=score_floor,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        needs=Needs(_CLASS_NAMES, *_IMAGE_SIZE, resize="letterbox_top_left", pad_value=0),
        strategy=strategy,
    )


def load_preset_backbone(preset: str) -> keras.Model:
    """A backbone with the weights of a KerasCV preset; always fetched.

    Raises:
        UserError: An unknown preset, or no network.
    """
    families = {name: family for family in _BACKBONES for name in family.presets}
    if preset not in families:
        raise UserError(f"No backbone preset {preset!r}. Known: {', '.join(sorted(families))}.")
    return _fetch(preset, families[preset])


class _Undecided(keras.layers.Layer):
    """Stands where KerasCV suppresses boxes (regardless of class) and passes all of them on."""

    bounding_box_format = "xyxy"

    def __init__(self):
        super().__init__(name="undecided")

    def call(self, boxes, classes, images=None, image_shape=None):
        return {"boxes": boxes, "classes": classes}


@dataclasses.dataclass(frozen=True)
class _PresetHead:
    """KerasCV's own decoding of its outputs; a preset is run, never trained."""

    model: keras.Model
    gives_scores: bool

    def boxes_and_logits(self, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, A, 4] float32 xyxy pixels and class logits [B, A, C]."""
        decoded = self.model.decode_predictions(outputs, tf.zeros((1, *_IMAGE_SIZE, 3)))
        classes = tf.cast(decoded["classes"], tf.float32)
        if self.gives_scores:
            classes = tf.clip_by_value(classes, 1e-7, 1.0 - 1e-7)
            classes = tf.math.log(classes / (1.0 - classes))
        return tf.cast(decoded["boxes"], tf.float32), classes

    def loss(self, outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]):
        """Not to be had. Raises UserError."""
        raise UserError("A KerasCV preset can label images, not be trained; use --teacher_model.")


def _load_network(preset: str, weights: str | None) -> Network:
    if weights:
        model = _build(preset)
        _load_weights(model, weights)
    else:
        model = _fetch(preset, _family(preset), bounding_box_format="xyxy")
        model._prediction_decoder = _Undecided()
    return Network(
        preset,
        _CLASS_NAMES,
        _IMAGE_SIZE,
        "float32",
        # RetinaNet names its one input and wants a dict.
        keras.Model(model.inputs[0], model.output),
        _PresetHead(model, preset == _YOLO),
    )


def _family(preset: str) -> type:
    if preset == _YOLO:
        return keras_cv.models.YOLOV8Detector
    return keras_cv.models.RetinaNet


def _build(preset: str) -> keras.Model:
    common = {
        "num_classes": len(_CLASS_NAMES),
        "bounding_box_format": "xyxy",
        "prediction_decoder": _Undecided(),
    }
    name = "yolov8_m" if preset == _YOLO else "resnet50"
    backbone = backbones.build_backbone(name, image_size=_IMAGE_SIZE)
    if preset == _YOLO:
        return _family(preset)(backbone=backbone, fpn_depth=2, **common)
    return _family(preset)(backbone=backbone, **common)


def _load_weights(model: keras.Model, path: str) -> None:
    if not files.exists(path):
        raise UserError(f"There is no weights file at {path}.")
    try:
        with files.local_to_read(path) as local:
            model.load_weights(local)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} does not hold the weights of {model.name}: {error}") from error


def _fetch(preset: str, family: type, **arguments: str) -> keras.Model:
    """KerasCV's download, its errors turned into one that says what to do instead."""
    handle = family.presets.get(preset, {}).get("kaggle_handle", preset)
    try:
        return family.from_preset(preset, **arguments)
    except (OSError, ImportError, ValueError) as error:
        raise UserError(
            f"The preset {preset!r} could not be fetched from {handle} (files config.json and "
            f"model.weights.h5): {error}. Without a network, get model.weights.h5 elsewhere and "
            "name it: --backbone_weights=FILE.weights.h5 for a backbone, "
            f"kerascv:{preset}?weights=FILE.weights.h5 for a teacher."
        ) from error
