"""One teacher's share in the labels: its classes mapped, its scores calibrated, its weight."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from kd_tf.data.predict import Recaller
from kd_tf.geometry.detections import Detections, Detector, Needs
from kd_tf.teachers.fusion import Fused, FusionSettings, fuse

Calibration = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Labeller:
    """One teacher's share in the labels.

    Attributes:
        name: The teacher's name.
        folder: Where its raw predictions lie.
        class_map: [K] int32, the run's class of each of the teacher's classes; -1 is dropped.
        weights: [C] float, how much it counts in each class of the run; 0 where it does not
            know the class.
        calibrate: (scores [N], run classes [N]) -> scores [N] comparable between teachers;
            None leaves them as they are.
    """

    name: str
    folder: str
    class_map: np.ndarray
    weights: np.ndarray
    calibrate: Calibration | None = None

    def in_run_classes(self, found: Detections) -> Detections:
        """The teacher's detections with the run's classes and comparable scores."""
        classes = self.class_map[found.classes].astype(np.int32)
        keep = classes >= 0
        scores = found.scores[keep]
        if self.calibrate is not None:
            scores = np.asarray(self.calibrate(scores, classes[keep]), np.float32)
        return Detections(found.boxes[keep], scores, classes[keep])


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """How the labels are made.

    Attributes:
        class_names: The run's class list.
        fusion: How several teachers become one; one teacher is left as it is.
        score_thresholds: [C] lowest score of a working label, per class.
    """

    class_names: tuple[str, ...]
    fusion: FusionSettings
    score_thresholds: np.ndarray


def fuse_teachers(
    images: Sequence[Sequence[Detections]],
    labellers: Sequence[Labeller],
    *,
    fusion: FusionSettings,
) -> list[Fused]:
    """The labels of many images from what every teacher said, in the run's classes.

    Args:
        images: For each image the raw detections of each labeller, in its own classes.
        labellers: The teachers.
        fusion: How several become one; a single teacher's boxes stay as they are.
    """
    mapped = [
        [who.in_run_classes(found) for found, who in zip(teachers, labellers, strict=True)]
        for teachers in images
    ]
    if len(labellers) == 1:
        return [_only(teachers[0], fusion) for teachers in mapped]
    return fuse(mapped, weights=np.stack([who.weights for who in labellers]), settings=fusion)


def judged_classes(labellers: Sequence[Labeller]) -> np.ndarray:
    """The classes [K] int32, ascending, that at least one of the teachers could have marked."""
    known = np.stack([who.weights > 0 for who in labellers]).any(axis=0)
    return np.flatnonzero(known).astype(np.int32)


def _only(found: Detections, settings: FusionSettings) -> Fused:
    """One teacher's detections, limited as fused ones are."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= settings.score_floor][: settings.max_detections]
    return Fused(found[order], np.zeros(len(order), np.int32))


class InRunClasses:
    """A detector, or one that knows its answers already, that speaks in the run's classes."""

    def __init__(
        self, detector: Detector | Recaller, who: Labeller, *, class_names: tuple[str, ...]
    ):
        self._detector = detector
        self._who = who
        self._needs = dataclasses.replace(detector.needs(), class_names=class_names)
        if hasattr(detector, "recall"):
            self.recall = lambda item: who.in_run_classes(detector.recall(item))

    def needs(self) -> Needs:
        """What the detector needs; the classes are the run's."""
        return self._needs

    def detect(self, images: np.ndarray) -> list[Detections]:
        """What the detector finds, classes mapped; those the run does not have are left out."""
        return [self._who.in_run_classes(found) for found in self._detector.detect(images)]
