"""What a detector needs and what it gives: the one protocol of teachers, students and exports."""

import dataclasses
from typing import Literal, Protocol

import numpy as np

Resize = Literal["letterbox", "letterbox_top_left", "stretch", "none"]

# From this score on a detection is shown, of a model that brings no thresholds of its own.
DEFAULT_THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one image.

    Attributes:
        boxes: [N, 4] float32, xyxy, absolute pixels of the image that was given.
        scores: [N] float32 in [0, 1].
        classes: [N] int32, indices into the class list of whoever made them.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: np.ndarray | slice) -> "Detections":
        return Detections(self.boxes[rows], self.scores[rows], self.classes[rows])


def no_detections() -> Detections:
    """The detections of an image in which nothing was found."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """What a detector must be given.

    Attributes:
        class_names: Names of the classes it can find, in the order of its class indices.
        height: Rows of its input in pixels; None (with `resize="none"`) takes any size.
        width: Columns of its input in pixels, likewise.
        resize: How an image gets that size: "letterbox" keeps the aspect ratio and centres,
            "letterbox_top_left" keeps it and pads right and below, "stretch" does not keep it.
        pad_value: Grey level of the padding, 0..255.
        channels: "rgb" or "bgr".
    """

    class_names: tuple[str, ...]
    height: int | None
    width: int | None
    resize: Resize = "letterbox"
    pad_value: int = 114
    channels: Literal["rgb", "bgr"] = "rgb"


class Detector(Protocol):
    """Anything that finds objects: a teacher, a student, an exported model, a user's own class."""

    def needs(self) -> Needs:
        """What `detect` must be given; asked once."""
        ...

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in images [B, height, width, 3] uint8.

        Returns:
            One `Detections` per image, boxes in pixels of the input as given
            (the caller maps them back to the original image).
        """
        ...
