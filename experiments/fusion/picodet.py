"""PicoDet-S (ONNX, PaddleDetection) as a `python:` teacher for this experiment.

--teacher='python:experiments.fusion.picodet:load?model=picodet.onnx&names=coco80_names.txt'
"""

import numpy as np
import onnxruntime
import tensorflow as tf

from kd_tf import documents, files
from kd_tf.geometry.detections import Detections, Needs

_SIDE = 416
_STRIDES = (8, 16, 32, 64)
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)
_MAX_DETECTIONS = 300


def load(
    *, model: str, names: str, iou_threshold: str = "0.6", score_floor: str = "0.01"
) -> "Picodet":
    """The factory that the spec names; options arrive as text."""
    session = onnxruntime.InferenceSession(
        files.read_bytes(model), providers=["CPUExecutionProvider"]
    )
    class_names = tuple(documents.read_lines(names))
    return Picodet(session, class_names, float(iou_threshold), float(score_floor))


class Picodet:
    """Gives boxes after class-wise suppression; the first four outputs are scores, then sides."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        class_names: tuple[str, ...],
        iou_threshold: float,
        score_floor: float,
    ):
        self._session = session
        self._class_names = class_names
        self._iou_threshold = iou_threshold
        self._score_floor = score_floor

    def needs(self) -> Needs:
        """Images are stretched to 416x416."""
        return Needs(self._class_names, _SIDE, _SIDE, "stretch")

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in images [B, 416, 416, 3] uint8 RGB, one at a time."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        pixels = ((image.astype(np.float32) - _MEAN) / _STD).transpose(2, 0, 1)[None]
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        scores = np.concatenate([part[0] for part in outputs[:4]])
        boxes = np.concatenate(
            [_boxes(s[0], stride) for s, stride in zip(outputs[4:], _STRIDES, strict=True)]
        )
        rows, classes = np.nonzero(scores >= self._score_floor)
        found = Detections(boxes[rows], scores[rows, classes], classes.astype(np.int32))
        # Boxes of different classes are moved apart, so that one suppression serves all classes.
        apart = found.boxes + found.classes[:, None] * (4.0 * _SIDE)
        kept = tf.image.non_max_suppression(
            apart, found.scores, _MAX_DETECTIONS, self._iou_threshold
        ).numpy()
        return found[kept]


def _boxes(sides: np.ndarray, stride: int) -> np.ndarray:
    """xyxy pixels [A, 4] from sides [A, 32]: four times the mean of eight bins."""
    bins = sides.reshape(-1, 4, 8)
    weights = np.exp(bins - bins.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    left, top, right, bottom = (weights @ np.arange(8, dtype=np.float32) * stride).T
    cells = -(-_SIDE // stride)
    y, x = (axis.ravel() for axis in np.mgrid[0:cells, 0:cells])
    x, y = (x + 0.5) * stride, (y + 0.5) * stride
    return np.stack([x - left, y - top, x + right, y + bottom], axis=1)
