"""A labelled image in memory: everything that people and teachers said about it."""

import dataclasses

import numpy as np

HUMAN = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Objects:
    """Everything that was said about one image, in the order it was said.

    Attributes:
        boxes: [N, 4] float32, xyxy, absolute pixels of the upright image.
        scores: [N] float32 in [0, 1]; 1 for a person's box.
        classes: [N] int32, indices into `Record.class_names`.
        teachers: [N] int32, index of the teacher; `HUMAN` for a person's box.
        is_crowd: [N] bool.
        areas: [N] float32, square pixels (a mask's area where there is one).
        working: [N] bool, whether the object is among the standard labels.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    teachers: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    working: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image with its labels.

    Attributes:
        source_id: The image's identity, "<source>/<original id>".
        image_id: The source's integer id.
        encoded: File bytes that a plain decode turns into the upright image; may be empty
            (raw predictions keep no pixels).
        format: "jpeg", "png", ...
        height, width: Pixels of the upright image.
        filename: Name of the original file.
        sha256: Hex digest of the original file.
        objects: All labels and detections.
        class_names: The class list that the indices refer to.
        judged: [K] int32 indices of the classes somebody could have marked; None means all.
    """

    source_id: str
    image_id: int
    encoded: bytes
    format: str
    height: int
    width: int
    filename: str
    sha256: str
    objects: Objects
    class_names: tuple[str, ...]
    judged: np.ndarray | None = None


def pseudo_objects(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    classes: np.ndarray,
    teachers: np.ndarray,
    score_threshold: np.ndarray,
) -> Objects:
    """Detections as objects; those at or above their class's threshold are the working labels.

    Args:
        boxes: [N, 4] xyxy pixels.
        scores: [N] in [0, 1].
        classes: [N] int32.
        teachers: [N] int32.
        score_threshold: [C], one per class.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    scores = np.asarray(scores, np.float32)
    return Objects(
        boxes,
        scores,
        np.asarray(classes, np.int32),
        np.asarray(teachers, np.int32),
        np.zeros(len(boxes), bool),
        sides[:, 0] * sides[:, 1],
        scores >= np.asarray(score_threshold, np.float32)[np.asarray(classes, np.int32)],
    )


def human_objects(
    boxes: np.ndarray, classes: np.ndarray, *, is_crowd: np.ndarray, areas: np.ndarray
) -> Objects:
    """A person's labels as objects: score 1, all of them working labels."""
    num = len(classes)
    return Objects(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.ones(num, np.float32),
        np.asarray(classes, np.int32),
        np.full(num, HUMAN, np.int32),
        np.asarray(is_crowd, bool),
        np.asarray(areas, np.float32),
        np.ones(num, bool),
    )
