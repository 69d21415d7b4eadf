"""Letterbox and suppression in NumPy and Pillow, for runtimes without TensorFlow."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from kd_tf.export.meta import ExportMeta
from kd_tf.geometry.detections import Detections, Needs

PAD_VALUE = 114
# Pairs (box, class) that enter the suppression, as in kd_tf.geometry.nms.
NUM_CANDIDATES = 400


class PortableDetector:
    """A detector around any runtime that gives boxes and scores of every anchor.

    Implements `kd_tf.geometry.detections.Detector`.

    Attributes:
        meta: What the file says about itself.
    """

    def __init__(
        self, run: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], *, meta: ExportMeta
    ):
        """Wraps a runtime.

        Args:
            run: From images [1, H, W, 3] float32 RGB 0..255 of `meta.image_size` to boxes
                [1, A, 4] xyxy pixels and scores [1, A, C] in [0, 1].
            meta: Class names, sizes and thresholds.
        """
        self.meta = meta
        self._run = run

    def needs(self) -> Needs:
        """Letterboxed images of the network's size."""
        height, width = self.meta.image_size
        return Needs(self.meta.class_names, height, width, "letterbox", PAD_VALUE)

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in letterboxed images [B, height, width, 3] uint8 RGB."""
        return [self._detect_row(row) for row in images[:, np.newaxis]]

    def detect_image(self, image: np.ndarray) -> Detections:
        """Finds objects in one image [H, W, 3] uint8 RGB of any size, boxes in its pixels."""
        letterboxed, scale_xy, offset_xy = letterbox(image, tuple(self.meta.image_size))
        found = self._detect_row(letterboxed[np.newaxis])
        boxes = (found.boxes - np.tile(offset_xy, 2)) / np.tile(scale_xy, 2)
        limit = np.array([image.shape[1], image.shape[0]] * 2)
        return Detections(np.clip(boxes, 0, limit).astype(np.float32), found.scores, found.classes)

    def _detect_row(self, image: np.ndarray) -> Detections:
        boxes, scores = self._run(image.astype(np.float32))
        height, width = self.meta.image_size
        return suppress(
            np.clip(boxes[0], 0, [width, height, width, height]),
            scores[0],
            score_floor=self.meta.score_floor,
            iou_threshold=self.meta.iou_threshold,
            max_detections=self.meta.max_detections,
        )


def letterbox(
    image: np.ndarray, target: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits an image [H, W, 3] uint8 into `target` (height, width), centred on grey.

    Pillow's bilinear filter antialiases as `kd_tf.geometry.letterbox` does and differs from it
    by a grey level here and there.

    Returns:
        The input [height, width, 3] uint8; scale and offset, each (x, y) float64: a point of
        the image at x lies at x * scale + offset in the input.
    """
    original = np.array(image.shape[:2])
    scale = np.min(np.array(target) / original)
    resized = np.clip(np.rint(original * scale), 1, target).astype(int)
    top, left = (np.array(target) - resized) // 2
    small = Image.fromarray(image).resize((resized[1], resized[0]), Image.Resampling.BILINEAR)
    canvas = np.full((*target, 3), PAD_VALUE, np.uint8)
    canvas[top : top + resized[0], left : left + resized[1]] = np.asarray(small)
    return canvas, (resized / original)[::-1], np.array([left, top], np.float64)


def suppress(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    score_floor: float,
    iou_threshold: float,
    max_detections: int,
) -> Detections:
    """Greedy suppression within each class, with the rules of `kd_tf.geometry.nms`.

    Args:
        boxes: [A, 4] float32 xyxy pixels.
        scores: [A, C] float32 in [0, 1].
        score_floor: Lowest score reported, inclusive.
        iou_threshold: A box is dropped if it overlaps a better one of its class by more.
        max_detections: Most rows of the result.

    Returns:
        The detections, best first; equal scores keep their order.
    """
    flat = scores.reshape(-1)
    best = np.argsort(-flat, kind="stable")[:NUM_CANDIDATES]
    best = best[flat[best] >= score_floor]
    anchors, classes = np.divmod(best, scores.shape[1])
    candidates = boxes[anchors]
    rivals = pairwise_iou(candidates, candidates) > iou_threshold
    rivals &= classes[:, np.newaxis] == classes
    alive, kept = np.ones(len(best), bool), []
    for row in range(len(best)):
        if alive[row] and len(kept) < max_detections:
            kept.append(row)
            alive &= ~rivals[row]
    return Detections(
        boxes[anchors[kept]].astype(np.float32),
        flat[best[kept]].astype(np.float32),
        classes[kept].astype(np.int32),
    )


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Overlaps [N, M] in [0, 1] of xyxy boxes [N, 4] and [M, 4]; 0 where both are empty."""
    boxes = boxes[:, np.newaxis]
    corner = np.minimum(boxes[..., 2:], others[:, 2:]) - np.maximum(boxes[..., :2], others[:, :2])
    shared = np.prod(np.maximum(corner, 0), axis=-1)
    areas, other_areas = (np.prod(b[..., 2:] - b[..., :2], axis=-1) for b in (boxes, others))
    total = areas + other_areas - shared
    return np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
