"""YOLOv8: KerasCV's architecture, our own last layers, targets, loss and decoding."""

import dataclasses
import functools
import math

import keras
import keras_cv
import numpy as np
import tensorflow as tf

from kd_tf.detectors import element_weights, losses
from kd_tf.geometry import boxes as boxes_lib

STRIDES = (8, 16, 32)
# Bins of the distribution of each of the four distances, and the loss gains: as published
# with YOLOv8 (documentation of its `train` settings: box 7.5, cls 0.5, dfl 1.5).
NUM_BINS = 16
BOX_GAIN, CLASS_GAIN, DFL_GAIN = 7.5, 0.5, 1.5
# Objects per image that the class bias expects at first, as in published YOLO heads.
_PRIOR_OBJECTS = 5.0
# Bin k starts with weight exp(-k / 2): a mean distance of 1.54 strides to each side.
_INITIAL_DECAY = 2.0


def build_yolo(
    backbone: keras.Model, *, num_classes: int, neck_depth: int, image_size: tuple[int, int]
) -> keras.Model:
    """Puts KerasCV's YOLOv8 neck and head on a backbone.

    The model is cut before the head's last layers: ours give float32 logits whatever
    the precision (in bfloat16 a score near 1 rounds to 1 and has no gradient left),
    and start from a class prior, without which the first steps only unlearn
    thousands of false objects.

    Args:
        backbone: With attribute `pyramid_level_inputs` naming the layers "P3", "P4", "P5".
        num_classes: C.
        neck_depth: Blocks in each stage of the neck.
        image_size: (height, width) in pixels, multiples of 32.

    Returns:
        A model from images [B, H, W, 3] float32 RGB 0..255 to a dict of float32:
        "boxes" [B, A, 64], four times 16 logits of the distances left, top, right,
        bottom in strides, and "classes" [B, A, C] logits. A counts stride by stride,
        row by row.
    """
    detector = keras_cv.models.YOLOV8Detector(
        backbone=backbone,
        num_classes=num_classes,
        bounding_box_format="xyxy",
        fpn_depth=neck_depth,
    )
    boxes, classes = [], []
    for level, stride in enumerate(STRIDES, start=1):
        features = detector.get_layer(f"yolo_v8_head_{level}_box_2").output
        boxes.append(
            _last_layer(features, 4 * NUM_BINS, bias=distance_bias(), name=f"boxes_{stride}")
        )
        features = detector.get_layer(f"yolo_v8_head_{level}_class_2").output
        bias = class_prior_bias(stride, num_classes=num_classes, image_size=image_size)
        classes.append(_last_layer(features, num_classes, bias=bias, name=f"classes_{stride}"))
    join = functools.partial(keras.layers.Concatenate, axis=1, dtype="float32")
    return keras.Model(
        detector.inputs[0],
        {"boxes": join(name="boxes")(boxes), "classes": join(name="classes")(classes)},
    )


def narrowed(backbone: keras.Model, *, channels: tuple[int, int, int]) -> keras.Model:
    """The backbone with a 1x1 convolution on each level, for a neck of `channels` width.

    KerasCV's neck and head are as wide as the backbone's levels. On MobileNet (256, 512,
    1024) they would have 29 M parameters for a backbone of 2 M.
    """
    outputs, names = [], {}
    for (level, layer), width in zip(backbone.pyramid_level_inputs.items(), channels, strict=True):
        features = backbone.get_layer(layer).output
        features = keras.layers.Conv2D(width, 1, use_bias=False)(features)
        features = keras.layers.BatchNormalization()(features)
        names[level] = f"narrow_{level}"
        outputs.append(keras.layers.Activation("swish", name=names[level])(features))
    model = keras.Model(backbone.inputs, outputs)
    model.pyramid_level_inputs = names
    return model


def class_prior_bias(stride: int, *, num_classes: int, image_size: tuple[int, int]) -> float:
    """Logit at which a stride's anchors together expect five objects, shared by the classes."""
    num_anchors = image_size[0] * image_size[1] / stride**2
    probability = min(_PRIOR_OBJECTS / num_classes / num_anchors, 0.5)
    return math.log(probability / (1.0 - probability))


def distance_bias() -> np.ndarray:
    """Bias of the distance logits, [64] float32: every box starts about 3 strides wide.

    Without it the softmax is flat and every box starts 15 strides wide. Small objects then
    begin with an overlap near 0, and with it a target score and a loss weight near
    0: on 8 scenes (54 boxes, 32 below 16 px) 150 steps found 19 of the small ones
    without it and 31 with it.
    """
    return np.tile(-np.arange(NUM_BINS) / _INITIAL_DECAY, 4).astype(np.float32)


def anchor_points(image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centres (x, y) in pixels [A, 2] and strides [A], float32, in the order of the outputs."""
    points, strides = [], []
    for stride in STRIDES:
        rows, columns = image_size[0] // stride, image_size[1] // stride
        y, x = np.mgrid[:rows, :columns]
        points.append((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride)
        strides.append(np.full(rows * columns, stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class YoloHead:
    """What the outputs of `build_yolo` mean, for one input size.

    Attributes:
        image_size: (height, width) in pixels.
    """

    image_size: tuple[int, int]

    def boxes_and_logits(self, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, A, 4] float32 xyxy pixels, not clipped, and class logits [B, A, C]."""
        points, strides = anchor_points(self.image_size)
        logits = _distance_logits(outputs)
        bins = tf.range(NUM_BINS, dtype=tf.float32)
        distances = tf.reduce_sum(tf.nn.softmax(logits) * bins, axis=-1) * strides[:, None]
        boxes = tf.concat([points - distances[..., :2], points + distances[..., 2:]], axis=-1)
        return boxes, tf.cast(outputs["classes"], tf.float32)

    def loss(
        self, outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Sums of the loss terms over the batch, gains included, and their normaliser.

        Box weights enter the normaliser (the weighted sum of target scores): so the
        balance with the background and the size of the update stay the same
        whatever the weights' average; they say which box counts more than another.

        Returns:
            "class", "box", "dfl" and "normalizer": float32 scalars.
        """
        points, strides = anchor_points(self.image_size)
        predicted, logits = self.boxes_and_logits(outputs)
        assignment, hiding = element_weights.assign_labels(
            element_weights.scores_of_boxes(logits, labels),
            predicted,
            points=tf.constant(points),
            labels=labels,
        )
        class_loss = element_weights.class_loss(
            logits, labels, assignment, hiding=hiding, loss=losses.binary_cross_entropy
        )
        weights = assignment.target * element_weights.anchor_weights(labels, assignment)
        boxes = tf.gather(labels["boxes"], assignment.box, batch_dims=1)
        box_loss = 1.0 - boxes_lib.ciou(predicted, boxes)
        edges = tf.concat([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)
        dfl_loss = losses.distribution_focal(_distance_logits(outputs), edges / strides[:, None])
        return {
            "class": CLASS_GAIN * class_loss,
            "box": BOX_GAIN * tf.reduce_sum(weights * box_loss),
            "dfl": DFL_GAIN * tf.reduce_sum(weights * tf.reduce_mean(dfl_loss, axis=-1)),
            "normalizer": tf.stop_gradient(tf.reduce_sum(weights)),
        }


def _distance_logits(outputs: dict[str, tf.Tensor]) -> tf.Tensor:
    boxes = tf.cast(outputs["boxes"], tf.float32)
    return tf.reshape(boxes, [-1, boxes.shape[1], 4, NUM_BINS])


def _last_layer(features: keras.KerasTensor, channels: int, *, bias: float | np.ndarray, name: str):
    layer = keras.layers.Conv2D(
        channels,
        kernel_size=1,
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=f"{name}_logits",
    )
    reshape = keras.layers.Reshape((-1, channels), dtype="float32", name=name + "_rows")
    return reshape(layer(features))
