"""KerasCV's own detectors, with the first weights of ours, trained by KerasCV's own `fit`.

Not a benchmark: what `training_vs_kerascv` compares with. Architecture, label encoder, losses,
gains and training step are KerasCV's. From us come the first weights (all but the biases
of the last layers, where each side keeps its own, and RetinaNet's last layers as a whole), the
batches, and decoding, so that both sides are judged by the same rule.
"""

import dataclasses

import keras
import keras_cv
import tensorflow as tf

from kd_tf.detectors import backbones, retinanet
from kd_tf.detectors.network import Network
from kd_tf.detectors.yolo import STRIDES, YoloHead

# KerasCV's RetinaNet multiplies its offsets by these (`BOX_VARIANCE` in its retinanet.py), and
# counts them y, x, height, width.
_VARIANCE = (0.1, 0.1, 0.2, 0.2)
_TO_XY = (1, 0, 3, 2)
# The losses, gains and clipping of KerasCV's documentation; the optimizer of its YOLOV8 guide.
_LOSSES = {
    "yolo": {"box_loss": "ciou", "classification_loss": "binary_crossentropy"},
    "retinanet": {"box_loss": "smoothl1", "classification_loss": "focal"},
}
_CLIP_NORM = 10.0


@dataclasses.dataclass(frozen=True)
class StockYoloHead(YoloHead):
    """KerasCV's outputs mean what ours mean, but its classes are scores, not logits."""

    def boxes_and_logits(self, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, A, 4] xyxy pixels, from softmax over 16 bins, and class logits [B, A, C]."""
        scores = tf.clip_by_value(tf.cast(outputs["classes"], tf.float32), 1e-7, 1.0 - 1e-7)
        logits = tf.math.log(scores) - tf.math.log1p(-scores)
        return super().boxes_and_logits({"boxes": outputs["boxes"], "classes": logits})


@dataclasses.dataclass(frozen=True)
class StockRetinaNetHead:
    """KerasCV's outputs with its own anchors.

    Attributes:
        image_size: (height, width) in pixels.
        anchor_generator: The detector's.
    """

    image_size: tuple[int, int]
    anchor_generator: keras.layers.Layer

    def boxes_and_logits(self, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, A, 4] xyxy pixels, not clipped, and class logits [B, A, C]."""
        levels = self.anchor_generator(image_shape=(*self.image_size, 3))
        anchors = tf.concat(list(levels.values()), axis=0)
        offsets = tf.gather(outputs["box"] * tf.constant(_VARIANCE), _TO_XY, axis=-1)
        return retinanet.apply_offsets(offsets, anchors), outputs["classification"]


def build_stock(ours: Network, *, family: str, small_anchors: bool) -> Network:
    """KerasCV's detector of the same architecture, with the weights of `ours` in it.

    Args:
        ours: Freshly built.
        family: "yolo" (with a neck of depth 1) or "retinanet".
        small_anchors: RetinaNet's smallest anchor has 8 px, as ours at 160 px and below,
            instead of KerasCV's 32 px.
    """
    build = {"yolo": _build_yolo, "retinanet": _build_retinanet}[family]
    model, head = build(ours, small_anchors)
    # KerasCV's detectors also count the end of the backbone, which they never run.
    unused = model.backbone.count_params() - _levels(model.backbone).count_params()
    counts = ours.model.count_params(), model.count_params() - unused
    if counts[0] != counts[1]:
        raise ValueError(f"Not the same network: {counts[0]} parameters and {counts[1]}.")
    return Network(f"stock_{ours.name}", ours.class_names, ours.image_size, "float32", model, head)


def compile_stock(stock: Network, *, family: str, learning_rate: float) -> None:
    """Gets KerasCV's detector ready for `fit`."""
    stock.model.compile(
        **_LOSSES[family],
        optimizer=keras.optimizers.Adam(learning_rate, global_clipnorm=_CLIP_NORM),
        jit_compile=False,
    )


def to_stock(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """One of our batches as KerasCV wants it: padding is -1 in boxes and classes."""
    real = batch["classes"] >= 0
    boxes = tf.where(real[..., None], batch["boxes"], -1.0)
    labels = {"boxes": boxes, "classes": tf.cast(batch["classes"], tf.float32)}
    return tf.cast(batch["images"], tf.float32), labels


def _build_yolo(ours: Network, small_anchors: bool) -> tuple[keras.Model, StockYoloHead]:
    assert not small_anchors
    model = keras_cv.models.YOLOV8Detector(
        backbone=backbones.build_backbone(ours.name, image_size=ours.image_size),
        num_classes=len(ours.class_names),
        bounding_box_format="xyxy",
        fpn_depth=1,
    )
    _copy_weights(_yolo_body(ours.model), _yolo_body(model))
    for level, stride in enumerate(STRIDES, start=1):
        for kind, name in (("box", "boxes"), ("class", "classes")):
            source = ours.model.get_layer(f"{name}_{stride}_logits")
            model.get_layer(f"yolo_v8_head_{level}_{kind}_3_conv").kernel.assign(source.kernel)
    return model, StockYoloHead(ours.image_size)


def _yolo_body(model: keras.Model) -> keras.Model:
    """All but the last layers."""
    names = [f"yolo_v8_head_{level}_{kind}_2" for level in (1, 2, 3) for kind in ("box", "class")]
    return keras.Model(model.inputs, [model.get_layer(name).output for name in names])


def _build_retinanet(ours: Network, small_anchors: bool) -> tuple[keras.Model, StockRetinaNetHead]:
    backbone = backbones.build_backbone(ours.name.partition("_")[2], image_size=ours.image_size)
    anchors = None
    if small_anchors:
        anchors = keras_cv.layers.AnchorGenerator(
            bounding_box_format="xyxy",
            sizes=[float(stride) for stride in retinanet.STRIDES],
            aspect_ratios=[0.5, 1.0, 2.0],
            scales=[2**x for x in (0, 1 / 3, 2 / 3)],
            strides=list(retinanet.STRIDES),
            clip_boxes=True,
        )
    model = keras_cv.models.RetinaNet(
        backbone=backbone,
        num_classes=len(ours.class_names),
        bounding_box_format="xyxy",
        anchor_generator=anchors,
    )
    _copy_weights(_pyramid_inputs(ours.model), _levels(backbone))
    for source, target in _shared_layers(ours.model, model):
        target.set_weights(source.get_weights())
    return model, StockRetinaNetHead(ours.image_size, model.anchor_generator)


def _pyramid_inputs(model: keras.Model) -> keras.Model:
    laterals = [model.get_layer(f"pyramid_{level}_lateral") for level in (3, 4, 5)]
    return keras.Model(model.inputs, [layer.input for layer in laterals])


def _levels(backbone: keras.Model) -> keras.Model:
    names = [backbone.pyramid_level_inputs[level] for level in ("P3", "P4", "P5")]
    return keras.Model(backbone.inputs, [backbone.get_layer(name).output for name in names])


def _shared_layers(
    ours: keras.Model, stock: keras.Model
) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Pairs of layers that do the same in both: the pyramid, and the heads up to the last layer."""
    pairs, pyramid = [], stock.feature_pyramid
    for level in (3, 4, 5):
        lateral, smooth = f"pyramid_{level}_lateral", f"pyramid_{level}"
        pairs.append((ours.get_layer(lateral), getattr(pyramid, f"conv_c{level}_1x1")))
        pairs.append((ours.get_layer(smooth), getattr(pyramid, f"conv_c{level}_3x3")))
    for level in (6, 7):
        pairs.append((ours.get_layer(f"pyramid_{level}"), getattr(pyramid, f"conv_c{level}_3x3")))
    for name, head in (("boxes", stock.box_head), ("classes", stock.classification_head)):
        pairs += [(ours.get_layer(f"{name}_{i}"), one) for i, one in enumerate(head.conv_layers)]
    return pairs


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies in order: both are the same graph, built in the same order."""
    for old, new in zip(source.weights, target.weights, strict=True):
        if old.shape != new.shape or old.path.split("/")[-1] != new.path.split("/")[-1]:
            raise ValueError(f"Not the same network: {old.path} and {new.path}.")
        new.assign(old)
