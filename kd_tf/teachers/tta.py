"""A detector that looks at an image several times: mirrored, at other sizes, tile by tile.

Each wrapper is a `geometry.detections.Detector` around another one, so they can be nested.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Detector, Needs
from kd_tf.geometry.letterbox import boxes_to_original, resize_image
from kd_tf.teachers.fusion import FusionSettings, fuse


class FlippedToo:
    """Fuses what a detector says about an image and about its mirror image."""

    def __init__(self, detector: Detector, *, fusion: FusionSettings):
        self._detector = detector
        self._fusion = fusion

    def needs(self) -> Needs:
        """As the detector's own."""
        return self._detector.needs()

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Detects twice; the cost is twice that of the detector."""
        width = images.shape[2]
        mirrored = self._detector.detect(np.ascontiguousarray(images[:, :, ::-1]))
        back = [_mirror(found, width) for found in mirrored]
        views = [self._detector.detect(images), back]
        return _fuse_views(views, num_classes=len(self.needs().class_names), fusion=self._fusion)


class Scaled:
    """Fuses what a detector says at several sizes of the image, its input staying as it is.

    Below 1 the image fills only a part of the input (large objects, context); above 1 it is
    looked at in overlapping parts (small objects): up to nine for scale 2.
    """

    def __init__(self, detector: Detector, *, scales: Sequence[float], fusion: FusionSettings):
        needs = detector.needs()
        if needs.height is None:
            raise UserError("Scales need a teacher with an input size of its own.")
        if not scales or any(not 0.1 <= scale <= 4.0 for scale in scales):
            raise UserError(f"Scales must lie in [0.1, 4], got {list(scales)}.")
        self._detector = detector
        self._scales = tuple(scales)
        self._fusion = fusion

    def needs(self) -> Needs:
        """As the detector's own, but large enough for the greatest scale."""
        needs, most = self._detector.needs(), max(1.0, *self._scales)
        return dataclasses.replace(
            needs, height=round(needs.height * most), width=round(needs.width * most)
        )

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Detects at each scale; boxes in pixels of the larger input that `needs` asks for."""
        own = self._detector.needs()
        tiled = Tiled(self._detector, overlap=0.25, fusion=self._fusion, whole=False)
        given = images.shape[1:3]
        views = []
        for scale in self._scales:
            size = (round(own.height * scale), round(own.width * scale))
            smaller = _resize_all(images, size)
            found = tiled.detect(smaller)
            views.append([_scale_back(one, size, given) for one in found])
        return _fuse_views(views, num_classes=len(own.class_names), fusion=self._fusion)


class Tiled:
    """Looks at overlapping tiles of an image in full size: for images far larger than the input.

    Boxes that a tile's edge cuts are dropped where a neighbouring tile sees more of them.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        fusion: FusionSettings,
        overlap: float = 0.25,
        whole: bool = True,
        batch_size: int = 8,
    ):
        """Wraps a detector.

        Args:
            detector: It sees the tiles; its input size is the size of a tile.
            fusion: Joins what tiles say; use "nms" or "wbf".
            overlap: Share of a tile that its neighbour sees too, in [0, 0.9].
            whole: Look at the whole image, letterboxed, as well: for objects larger than a tile.
            batch_size: Tiles the detector sees at once.

        Raises:
            UserError: The detector has no input size, or `overlap` is out of range.
        """
        if detector.needs().height is None or not 0 <= overlap <= 0.9:
            raise UserError(
                "Tiling needs a teacher with an input size and an overlap in [0, 0.9], "
                f"got {overlap}."
            )
        self._detector = detector
        self._fusion = fusion
        self._overlap = overlap
        self._whole = whole
        self._batch_size = batch_size

    def needs(self) -> Needs:
        """Images of any size, as they are."""
        needs = self._detector.needs()
        return dataclasses.replace(needs, height=None, width=None, resize="none")

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Detects in the tiles of each image [B, H, W, 3]."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        needs = self._detector.needs()
        size = image.shape[:2]
        places = [
            (top, left)
            for top in tile_starts(size[0], needs.height, overlap=self._overlap)
            for left in tile_starts(size[1], needs.width, overlap=self._overlap)
        ]
        parts = []
        for start in range(0, len(places), self._batch_size):
            group = places[start : start + self._batch_size]
            tiles = np.stack([_tile(image, place, needs) for place in group])
            found = self._detector.detect(tiles)
            parts += [
                _untile(one, place, size, needs) for one, place in zip(found, group, strict=True)
            ]
        if self._whole and len(places) > 1:
            parts.append(self._look_at_whole(image))
        return _join(parts, num_classes=len(needs.class_names), fusion=self._fusion)

    def _look_at_whole(self, image: np.ndarray) -> Detections:
        needs = self._detector.needs()
        target, size = (needs.height, needs.width), image.shape[:2]
        small = resize_image(
            tf.constant(image), target, resize=needs.resize, pad_value=needs.pad_value
        ).numpy()
        (found,) = self._detector.detect(small[None])
        boxes = boxes_to_original(found.boxes, size, target, resize=needs.resize)
        return Detections(boxes, found.scores, found.classes)


def tile_starts(length: int, tile: int, *, overlap: float) -> list[int]:
    """Where tiles begin along one side, in pixels: evenly spread, the last ends at the edge."""
    if length <= tile:
        return [0]
    step = tile * (1 - overlap)
    num = int(np.ceil((length - tile) / step)) + 1
    return np.rint(np.linspace(0, length - tile, num)).astype(int).tolist()


def _tile(image: np.ndarray, place: tuple[int, int], needs: Needs) -> np.ndarray:
    part = image[place[0] : place[0] + needs.height, place[1] : place[1] + needs.width]
    tile = np.full((needs.height, needs.width, 3), needs.pad_value, np.uint8)
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


def _untile(
    found: Detections, place: tuple[int, int], size: tuple[int, int], needs: Needs
) -> Detections:
    """Boxes in pixels of the image, without those that an inner edge of the tile cuts."""
    top, left = place
    boxes = np.asarray(found.boxes, np.float32)
    cut = (left > 0) & (boxes[:, 0] <= 1) | (top > 0) & (boxes[:, 1] <= 1)
    cut |= (left + needs.width < size[1]) & (boxes[:, 2] >= needs.width - 1)
    cut |= (top + needs.height < size[0]) & (boxes[:, 3] >= needs.height - 1)
    moved = np.clip(
        boxes + np.array([left, top, left, top], np.float32), 0.0, [size[1], size[0]] * 2
    ).astype(np.float32)
    seen = (moved[:, 2:] > moved[:, :2]).all(axis=1)
    return Detections(moved, found.scores, found.classes)[~cut & seen]


def _mirror(found: Detections, width: int) -> Detections:
    x1, y1, x2, y2 = np.asarray(found.boxes, np.float32).reshape(-1, 4).T
    boxes = np.stack([width - x2, y1, width - x1, y2], axis=1)
    return Detections(boxes, found.scores, found.classes)


def _resize_all(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if images.shape[1:3] == size:
        return images
    resized = tf.image.resize(tf.constant(images), size, antialias=True)
    return tf.cast(tf.round(resized), tf.uint8).numpy()


def _scale_back(found: Detections, size: tuple[int, int], given: tuple[int, int]) -> Detections:
    boxes = boxes_to_original(found.boxes, given, size, resize="stretch")
    return Detections(boxes, found.scores, found.classes)


def _fuse_views(
    views: Sequence[Sequence[Detections]], *, num_classes: int, fusion: FusionSettings
) -> list[Detections]:
    """Each view counts as a teacher that knows every class."""
    images = list(zip(*views, strict=True))
    fused = fuse(images, weights=np.ones((len(views), num_classes)), settings=fusion)
    return [one.detections for one in fused]


def _join(parts: Sequence[Detections], *, num_classes: int, fusion: FusionSettings) -> Detections:
    """Tiles see different places, so their boxes are one teacher's: no score is shared out."""
    together = Detections(
        np.concatenate([one.boxes for one in parts]),
        np.concatenate([one.scores for one in parts]),
        np.concatenate([one.classes for one in parts]),
    )
    settings = dataclasses.replace(fusion, method="nms")
    (fused,) = fuse([[together]], weights=np.ones((1, num_classes)), settings=settings)
    return fused.detections
