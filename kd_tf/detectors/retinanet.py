"""RetinaNet: a feature pyramid on a KerasCV backbone, its targets, loss and decoding."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from kd_tf.detectors import assign, element_weights, losses
from kd_tf.geometry import boxes as boxes_lib

STRIDES = (8, 16, 32, 64, 128)
# Nine anchors at each place: Lin et al. 2017, section 4.
_SCALES = (2 ** (0 / 3), 2 ** (1 / 3), 2 ** (2 / 3))
_ASPECTS = (0.5, 1.0, 2.0)
NUM_ANCHORS = len(_SCALES) * len(_ASPECTS)
# The probability of an object that every anchor starts from, ibid. section 4.1.
PRIOR = 0.01
# As in Feng et al. 2021, "TOOD", section 4, https://arxiv.org/abs/2108.07755.
BOX_GAIN = 2.0
# A box grows at most this much over its anchor: keeps exp() finite while weights are random.
_MAX_LOG_GROWTH = math.log(1000.0 / 16.0)


def build_retinanet(
    backbone: keras.Model, *, num_classes: int, channels: int = 256, head_depth: int = 3
) -> keras.Model:
    """Puts a feature pyramid and two heads, shared by its levels, on a backbone.

    The architecture is KerasCV's RetinaNet, layer for layer, with the last layers in
    float32 whatever the precision, the focal prior on the class head (and only
    there), and a width to choose.

    Args:
        backbone: With attribute `pyramid_level_inputs` naming the layers "P3", "P4", "P5".
        num_classes: C.
        channels: Width of the pyramid and the heads.
        head_depth: Convolutions in each head before its last one.

    Returns:
        A model from images [B, H, W, 3] float32 RGB 0..255 to a dict of float32:
        "boxes" [B, A, 4], offsets (dx, dy, log dw, log dh) from `anchors`, and
        "classes" [B, A, C] logits. A counts level by level, row by row, nine at a place.
    """
    features = [
        backbone.get_layer(backbone.pyramid_level_inputs[level]).output
        for level in ("P3", "P4", "P5")
    ]
    pyramid = _pyramid(features, channels=channels)
    boxes = _head("boxes", 4, bias=0.0, channels=channels, depth=head_depth)
    bias = -math.log((1.0 - PRIOR) / PRIOR)
    classes = _head("classes", num_classes, bias=bias, channels=channels, depth=head_depth)
    outputs = {"boxes": boxes(pyramid), "classes": classes(pyramid)}
    return keras.Model(backbone.inputs[0], outputs)


def anchors(image_size: tuple[int, int]) -> np.ndarray:
    """All anchors of an input size in the order of the outputs: [A, 4] float32 xyxy pixels.

    The smallest has the side of its stride, 8 px, up to an input of 160 px and grows
    with the input to the paper's 32 px at 640 px: the five levels then reach from a
    twentieth of the input to all of it. They are where boxes start from; what they learn
    is decided by the boxes predicted (`assign.task_aligned`).
    """
    base = min(max(max(image_size) / 160.0, 1.0), 4.0)
    # aspect = height / width, at constant area.
    ratios = np.sqrt(np.array(_ASPECTS))
    levels = []
    for stride, places in zip(STRIDES, _places(image_size), strict=True):
        sides = np.array([base * stride * scale for scale in _SCALES])
        sizes = np.stack([sides[:, None] / ratios, sides[:, None] * ratios], axis=-1)
        half = sizes.reshape(1, NUM_ANCHORS, 2) / 2.0
        corners = np.concatenate([places[:, None] - half, places[:, None] + half], axis=-1)
        levels.append(corners.reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def centres(image_size: tuple[int, int]) -> np.ndarray:
    """The middles (x, y) of all anchors in pixels, [A, 2] float32; nine equal ones at a place."""
    return np.repeat(np.concatenate(_places(image_size)), NUM_ANCHORS, axis=0).astype(np.float32)


def _places(image_size: tuple[int, int]) -> list[np.ndarray]:
    """Of each level the middles (x, y) of its places in pixels, row by row: [P, 2] float64."""
    levels = []
    for stride in STRIDES:
        rows, columns = (-(-side // stride) for side in image_size)
        y, x = np.mgrid[:rows, :columns]
        levels.append((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride)
    return levels


@dataclasses.dataclass(frozen=True)
class RetinaNetHead:
    """What the outputs of `build_retinanet` mean, for one input size.

    Attributes:
        image_size: (height, width) in pixels.
    """

    image_size: tuple[int, int]

    def boxes_and_logits(self, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, A, 4] float32 xyxy pixels, not clipped, and class logits [B, A, C]."""
        offsets = tf.cast(outputs["boxes"], tf.float32)
        boxes = apply_offsets(offsets, tf.constant(anchors(self.image_size)))
        return boxes, tf.cast(outputs["classes"], tf.float32)

    def loss(
        self, outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Sums of the loss terms over the batch, gains included, and their normaliser.

        The normaliser is the sum of the target scores, each with its box's weight; without
        positives it is 0 and the background is learned all the same.

        Returns:
            "class", "box" and "normalizer": float32 scalars.

        Source: Feng et al. 2021, "TOOD", section 3.2, https://arxiv.org/abs/2108.07755.
        """
        predicted, logits = self.boxes_and_logits(outputs)
        scores = element_weights.scores_of_boxes(logits, labels)
        assignment, hiding = self._assign(scores, predicted, labels)
        class_loss = element_weights.class_loss(
            logits, labels, assignment, hiding=hiding, loss=losses.quality_focal
        )
        weights = assignment.target * element_weights.anchor_weights(labels, assignment)
        boxes = tf.gather(labels["boxes"], assignment.box, batch_dims=1)
        box_loss = 1.0 - boxes_lib.giou(predicted, boxes)
        return {
            "class": class_loss,
            "box": BOX_GAIN * tf.reduce_sum(weights * box_loss),
            "normalizer": tf.stop_gradient(tf.reduce_sum(weights)),
        }

    def _assign(
        self, scores: tf.Tensor, predicted: tf.Tensor, labels: dict[str, tf.Tensor]
    ) -> tuple[assign.Assignment, tf.Tensor]:
        """What `element_weights.assign_labels` gives.

        Image by image: every box against 76,725 anchors (640 px) is 30 MB a tensor.
        """
        points = tf.constant(centres(self.image_size))

        def of_one(image: tuple) -> tuple[tf.Tensor, ...]:
            scores, predicted, labels = tf.nest.map_structure(lambda part: part[None], image)
            assignment, hiding = element_weights.assign_labels(
                scores, predicted, points=points, labels=labels
            )
            return assignment.positive[0], assignment.box[0], assignment.target[0], hiding[0]

        # Stopped before the loop: a tape would keep what every turn of it computes.
        images = (scores, tf.stop_gradient(predicted), labels)
        *found, hiding = tf.map_fn(
            of_one,
            images,
            fn_output_signature=(tf.bool, tf.int32, tf.float32, tf.bool),
            parallel_iterations=1,
        )
        return assign.Assignment(*found), hiding


def apply_offsets(offsets: tf.Tensor, anchor_boxes: tf.Tensor) -> tf.Tensor:
    """Boxes xyxy pixels from anchors [A, 4] xyxy pixels and offsets [..., A, 4].

    Centres move by (dx, dy) anchor sizes, sizes are multiplied by exp(dw), exp(dh).

    Source: Girshick et al. 2014, "Rich feature hierarchies", appendix C.
    """
    size = anchor_boxes[:, 2:] - anchor_boxes[:, :2]
    centre = (anchor_boxes[:, :2] + anchor_boxes[:, 2:]) / 2.0 + offsets[..., :2] * size
    half = size * tf.exp(tf.minimum(offsets[..., 2:], _MAX_LOG_GROWTH)) / 2.0
    return tf.concat([centre - half, centre + half], axis=-1)


def _pyramid(features: list[keras.KerasTensor], *, channels: int) -> list[keras.KerasTensor]:
    """Levels at strides 8 to 128 from features at 8, 16, 32; Lin et al. 2017, section 4."""
    conv = keras.layers.Conv2D
    merged = [
        conv(channels, 1, name=f"pyramid_{level}_lateral")(feature)
        for level, feature in zip((3, 4, 5), features, strict=True)
    ]
    for level in (1, 0):
        above = keras.layers.UpSampling2D(2)(merged[level + 1])
        merged[level] = keras.layers.Add()([merged[level], above])
    smooth = [
        conv(channels, 3, padding="same", name=f"pyramid_{level}")(feature)
        for level, feature in zip((3, 4, 5), merged, strict=True)
    ]
    sixth = conv(channels, 3, strides=2, padding="same", name="pyramid_6")(features[-1])
    seventh = conv(channels, 3, strides=2, padding="same", name="pyramid_7")(
        keras.layers.ReLU()(sixth)
    )
    return [*smooth, sixth, seventh]


def _head(name: str, num_outputs: int, *, bias: float, channels: int, depth: int):
    """A function from pyramid levels to [B, A, num_outputs] float32, one set of weights."""
    hidden = [
        keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            activation="relu",
            kernel_initializer="orthogonal",
            name=f"{name}_{i}",
        )
        for i in range(depth)
    ]
    # Small weights: every anchor starts at the prior and at its own box.
    last = keras.layers.Conv2D(
        NUM_ANCHORS * num_outputs,
        3,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=f"{name}_logits",
    )
    reshape = keras.layers.Reshape((-1, num_outputs), dtype="float32")
    join = keras.layers.Concatenate(axis=1, dtype="float32", name=name)

    def apply(levels: list[keras.KerasTensor]) -> keras.KerasTensor:
        rows = []
        for features in levels:
            for layer in hidden:
                features = layer(features)
            rows.append(reshape(last(features)))
        return join(rows)

    return apply
