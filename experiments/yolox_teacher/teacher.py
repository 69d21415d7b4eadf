"""A worked `python:` teacher: YOLOX-Nano (TFLite), which gives raw predictions, not detections.

    --teacher='python:experiments.yolox_teacher.teacher:load?model=yolox_nano.tflite&names=coco80_names.txt'

A teacher is any object with the two methods of `YoloxTeacher`. Options of the spec
arrive as strings.
"""

import os

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from kd_tf import documents, files
from kd_tf.geometry.detections import Detections, Needs

_MAX_DETECTIONS = 300


def load(
    *, model: str, names: str, iou_threshold: str = "0.65", score_floor: str = "0.01"
) -> "YoloxTeacher":
    """The factory that the spec names.

    Args:
        model: The TFLite file: [1, 416, 416, 3] float32 BGR in 0..255 to [1, A, 5 + C]: center
            x, center y, width, height in pixels of the input, objectness, C class scores.
        names: File of the C class names, one a line.
        iou_threshold: Of the class-wise non-maximum suppression.
        score_floor: Lowest score given.
    """
    interpreter = Interpreter(
        model_content=files.read_bytes(model), num_threads=os.cpu_count() or 1
    )
    interpreter.allocate_tensors()
    return YoloxTeacher(
        interpreter,
        class_names=tuple(documents.read_text(names).split("\n")[:80]),
        iou_threshold=float(iou_threshold),
        score_floor=float(score_floor),
    )


class YoloxTeacher:
    """Implements `kd_tf.geometry.detections.Detector`."""

    def __init__(
        self,
        interpreter: Interpreter,
        *,
        class_names: tuple[str, ...],
        iou_threshold: float,
        score_floor: float,
    ):
        self._interpreter = interpreter
        (self._input,) = interpreter.get_input_details()
        (self._output,) = interpreter.get_output_details()
        self._class_names = class_names
        self._iou_threshold = iou_threshold
        self._score_floor = score_floor

    def needs(self) -> Needs:
        """YOLOX was trained on BGR images, letterboxed into the top-left corner, grey 114."""
        _, height, width, _ = self._input["shape"].tolist()
        return Needs(
            self._class_names, height, width, "letterbox_top_left", pad_value=114, channels="bgr"
        )

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in images [B, 416, 416, 3] uint8 BGR; the network takes one at a time."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        self._interpreter.set_tensor(self._input["index"], image[None].astype(np.float32))
        self._interpreter.invoke()
        found = to_detections(
            self._interpreter.get_tensor(self._output["index"])[0], score_floor=self._score_floor
        )
        # Boxes of different classes are moved apart, so that one NMS serves all classes.
        apart = found.boxes + found.classes[:, None] * (4.0 * max(image.shape))
        kept = tf.image.non_max_suppression(
            apart, found.scores, _MAX_DETECTIONS, self._iou_threshold
        ).numpy()
        return found[kept]


def to_detections(outputs: np.ndarray, *, score_floor: float) -> Detections:
    """Each anchor's best class with score objectness * class score, before suppression.

    Args:
        outputs: [A, 5 + C] float32 as described at `load`.
        score_floor: Lowest score kept.
    """
    scores = outputs[:, 4] * outputs[:, 5:].max(axis=1)
    rows = scores >= score_floor
    centers, halves = outputs[rows, 0:2], outputs[rows, 2:4] / 2
    return Detections(
        np.concatenate([centers - halves, centers + halves], axis=1),
        np.minimum(scores[rows], 1.0),
        outputs[rows, 5:].argmax(axis=1).astype(np.int32),
    )
