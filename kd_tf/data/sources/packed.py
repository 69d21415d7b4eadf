"""The boxes of a whole data set in flat arrays, and the one place that judges a box."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from kd_tf.data import images
from kd_tf.data.items import Item, Labels, Reject
from kd_tf.data.rejects import CLIPPED
from kd_tf.errors import RejectedError, UserError

# Annotations are often rounded; what sticks out by less is clipped without being counted.
_ROUNDING_PX = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class RawBoxes:
    """Boxes as annotated, not yet checked, in the order of the annotation.

    Attributes:
        boxes: [N, 4] float32, xyxy pixels of the image as the annotation sees it.
        classes: [N] int32, indices into the class list.
        is_crowd: [N] bool.
        areas: [N] float32 square pixels; NaN where the annotation states none.
        ids: [N] int64, how a person finds the box: the annotation's id or its rank.
    """

    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    ids: np.ndarray

    def rows(self, rows: np.ndarray | slice) -> "RawBoxes":
        """The boxes of these rows."""
        fields = (self.boxes, self.classes, self.is_crowd, self.areas, self.ids)
        return RawBoxes(*(field[rows] for field in fields))


@dataclasses.dataclass(frozen=True, slots=True)
class PackedBoxes:
    """The boxes of all images: about 33 bytes a box, 8 an image.

    Attributes:
        raw: Boxes of all images, those of one image together.
        starts: [num_images + 1] int64: image i has the rows starts[i] to starts[i + 1].
        num_lost: [num_images] int64: objects of each image that listing left out.
    """

    raw: RawBoxes
    starts: np.ndarray
    num_lost: np.ndarray

    def of(self, index: int) -> RawBoxes:
        """The boxes of one image, in the order of the annotation."""
        return self.raw.rows(slice(self.starts[index], self.starts[index + 1]))


def pack(
    raw: RawBoxes,
    image_rows: np.ndarray,
    *,
    num_images: int,
    lost_rows: np.ndarray | Sequence[int] = (),
) -> PackedBoxes:
    """Brings the boxes of each image together and keeps their order.

    Args:
        raw: Boxes in any order.
        image_rows: [N] int, the image each belongs to.
        num_images: How many images there are.
        lost_rows: For each object that listing left out, the image it belongs to.
    """
    num_lost = np.bincount(np.asarray(lost_rows, np.int64), minlength=num_images)
    order = np.argsort(image_rows, kind="stable")
    counts = np.bincount(image_rows, minlength=num_images)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return PackedBoxes(raw.rows(order), starts, num_lost)


def raw_boxes(
    boxes: list | np.ndarray,
    classes: list | np.ndarray,
    *,
    is_crowd: list | np.ndarray | None = None,
    areas: list | np.ndarray | None = None,
    ids: list | np.ndarray | None = None,
) -> RawBoxes:
    """Raw boxes from lists; without areas and ids they are unknown and ranks from 0."""
    count = len(classes)
    with np.errstate(over="ignore"):
        corners = np.asarray(boxes, np.float64).reshape(-1, 4).astype(np.float32)
    return RawBoxes(
        corners,
        np.asarray(classes, np.int32).reshape(-1),
        np.zeros(count, bool) if is_crowd is None else np.asarray(is_crowd, bool),
        np.full(count, np.nan, np.float32) if areas is None else np.asarray(areas, np.float32),
        np.arange(count) if ids is None else np.asarray(ids, np.int64),
    )


def refuse_fractions(corners: np.ndarray, *, where: str) -> None:
    """Raises UserError where all boxes [N, 4] lie within 0..1: they are fractions, not pixels."""
    finite = corners[np.isfinite(corners).all(axis=1)]
    if len(finite) and finite.min() >= 0 and finite.max() <= 1 and (finite % 1 != 0).any():
        raise UserError(
            f"{where}: all {len(finite)} boxes lie within 0..1, such as {_show(finite[0])}: "
            "fractions of the image. This format gives pixels. Multiply them by width and height, "
            "or give the data as yolo:."
        )


def scaled(raw: RawBoxes, scale: np.ndarray) -> RawBoxes:
    """The boxes, given as fractions of the image, multiplied by scale [4]."""
    boxes = (raw.boxes.astype(np.float64) * scale).astype(np.float32)
    return dataclasses.replace(raw, boxes=boxes)


def to_labels(
    raw: RawBoxes,
    *,
    item: Item,
    header: images.Header,
    judged: np.ndarray | None,
    key: str,
    num_lost: int = 0,
) -> tuple[Labels, list[Reject]]:
    """Turns an image's boxes upright, checks and clips them.

    Args:
        raw: As annotated.
        item: Its height and width are what the annotation states; 0 means it states none.
        header: Of the image file.
        judged: As in `Labels`.
        key: The image, for rejects.
        num_lost: Objects of the image that listing left out already.

    Returns:
        The labels in pixels of the upright image, and one reject per box left out or clipped. An
        image that lost all its objects is judged for no class: it is not background.

    Raises:
        RejectedError: "size differs from the annotation": it matches the image neither
            upright nor as stored, so nobody knows where the boxes lie.
    """
    boxes = _upright(raw.boxes, item, header=header)
    height, width = header.upright_size
    reasons = _box_faults(boxes, height=height, width=width)
    good = reasons == ""
    rejects = [
        Reject(f"{key}: box {raw.ids[row]}", str(reasons[row]), _show(boxes[row]), False)
        for row in np.flatnonzero(~good)
    ]
    limit = np.array([width, height, width, height], np.float32)
    clipped = np.clip(boxes[good], 0.0, limit)
    rejects += _clipped_notes(boxes[good], clipped, ids=raw.ids[good], key=key)
    sizes = clipped[:, 2:] - clipped[:, :2]
    areas = raw.areas[good]
    areas = np.where(np.isfinite(areas) & (areas > 0), areas, sizes[:, 0] * sizes[:, 1])
    if not len(clipped) and (len(boxes) or num_lost):
        judged = np.zeros(0, np.int32)
    labels = Labels(
        clipped, raw.classes[good], raw.is_crowd[good], areas.astype(np.float32), judged
    )
    return labels, rejects


def _upright(boxes: np.ndarray, item: Item, *, header: images.Header) -> np.ndarray:
    """Boxes in pixels of the upright image.

    A size that fits both ways (a square image, or one that is only flipped) says nothing;
    such boxes count as drawn on the upright image, which is what annotation tools show.
    """
    stated = (item.height, item.width)
    if stated == (0, 0) or stated == header.upright_size:
        return boxes
    if stated == (header.height, header.width):
        return images.orient_boxes(boxes, header)
    upright = header.upright_size
    raise RejectedError(
        "size differs from the annotation",
        f"annotated {item.width}x{item.height}, the image is {upright[1]}x{upright[0]}",
    )


def _box_faults(boxes: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """The reason to leave out each box [N, 4], or "" for a good one; strings [N]."""
    x1, y1, x2, y2 = boxes.T
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    return np.select(
        [
            ~np.isfinite(boxes).all(axis=1),
            (x2 < x1) | (y2 < y1),
            (x2 == x1) | (y2 == y1),
            outside,
        ],
        ["box not finite", "box inverted", "box without area", "box outside the image"],
        default="",
    )


def _clipped_notes(
    before: np.ndarray, after: np.ndarray, *, ids: np.ndarray, key: str
) -> list[Reject]:
    moved = np.abs(before - after).max(axis=1, initial=0.0) > _ROUNDING_PX
    return [
        Reject(
            f"{key}: box {ids[row]}",
            CLIPPED,
            f"{_show(before[row])} to {_show(after[row])}",
            False,
        )
        for row in np.flatnonzero(moved)
    ]


def _show(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
