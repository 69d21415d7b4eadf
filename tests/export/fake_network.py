"""A network small enough to trace in a second, with the interface of the real ones."""

import keras
import numpy as np
import tensorflow as tf

from kd_tf.geometry import nms

CLASS_NAMES = ("circle", "square", "star")
STRIDE = 16


class FakeHead:
    """Anchor-free: distances of the four edges from each cell's centre, in pixels."""

    def __init__(self, image_size):
        rows, columns = (length // STRIDE for length in image_size)
        y, x = np.mgrid[:rows, :columns]
        self.points = ((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * STRIDE).astype(np.float32)

    def boxes_and_logits(self, outputs):
        edges = outputs["boxes"]
        boxes = tf.concat([self.points - edges[..., :2], self.points + edges[..., 2:]], -1)
        return boxes, outputs["classes"]


class FakeNetwork:
    """Random but fixed weights; its answers depend on every pixel."""

    def __init__(self, image_size=(64, 96), *, seed=0):
        self.name = "fake"
        self.image_size, self.class_names = image_size, CLASS_NAMES
        self.head = FakeHead(image_size)
        self.model = _model(image_size, seed=seed)

    def decode(self, outputs, *, score_floor, iou_threshold, max_detections):
        boxes, logits = self.head.boxes_and_logits(outputs)
        height, width = self.image_size
        return nms.detections(
            tf.clip_by_value(boxes, 0.0, [width, height, width, height]),
            tf.sigmoid(logits),
            score_floor=score_floor,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )


def _model(image_size, *, seed):
    keras.utils.set_random_seed(seed)
    images = keras.Input([*image_size, 3])
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    x = keras.layers.Conv2D(16, 5, strides=4, padding="same", activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(24, 5, strides=4, padding="same", activation="relu")(x)
    distances = keras.layers.Conv2D(4, 1, activation="softplus", bias_initializer="ones")(x)
    logits = keras.layers.Conv2D(len(CLASS_NAMES), 1, kernel_initializer="he_normal")(x)
    return keras.Model(
        images,
        {
            "boxes": keras.layers.Reshape([-1, 4])(keras.layers.Rescaling(12.0)(distances)),
            "classes": keras.layers.Reshape([-1, len(CLASS_NAMES)])(logits),
        },
    )
