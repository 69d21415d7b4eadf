"""Makes one set of detections out of those of several teachers, many images at a time."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections
from kd_tf.teachers.clusters import Clusters, Groups, cluster, soft_suppress, to_groups

Method = Literal["nms", "soft_nms", "wbf", "vote"]


@dataclasses.dataclass(frozen=True, slots=True)
class FusionSettings:
    """How detections of several teachers become one set.

    Attributes:
        method: "nms" keeps the best box of each cluster; "soft_nms" lowers the scores of
            boxes that overlap better ones; "wbf" (weighted boxes fusion) averages a cluster;
            "vote" keeps clusters that more than half of the teachers support.
        iou_threshold: Boxes of one class that overlap more are one object.
        sigma: Width of soft-NMS' Gaussian.
        score_floor: Fused detections below it are left out.
        max_detections: Most fused detections of one image, best first.
    """

    method: Method = "wbf"
    iou_threshold: float = 0.55
    sigma: float = 0.5
    score_floor: float = 0.01
    max_detections: int = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Fused:
    """The fused detections of one image.

    Attributes:
        detections: Scores descending.
        teachers: [N] int32, the teacher whose box counted most.
    """

    detections: Detections
    teachers: np.ndarray


def fuse(
    images: Sequence[Sequence[Detections]],
    *,
    weights: np.ndarray,
    settings: FusionSettings,
) -> list[Fused]:
    """Fuses, in each image and class, the detections of all teachers.

    A class is scored over the teachers that know it: a class that one of two teachers
    knows keeps its score. Where every teacher knows every class the result is that of
    ensemble-boxes 1.0.9 (`weighted_boxes_fusion`, conf_type="avg"; `nms`; `soft_nms`).

    Args:
        images: For each image the detections of every teacher, in the run's classes.
        weights: [T, C] how much a teacher counts in a class; 0 where it does not know the
            class. Only the proportions within a class matter.
        settings: Method and limits.

    Returns:
        One `Fused` per image.

    Raises:
        UserError: A teacher found a class in which its weight is 0, or a weight is negative.

    Source:
        Solovyev, Wang, Gabruseva: Weighted boxes fusion, arXiv 1910.13302; Bodla et al.:
        Soft-NMS, arXiv 1704.04503. Coverage-aware scoring is ours.
    """
    shares, num_known = _shares(np.asarray(weights, np.float64))
    flat = _flatten(images)
    if not len(flat.scores):
        return _split(flat, num_images=len(images), settings=settings)
    share = shares[flat.teachers, flat.classes]
    if (share <= 0).any():
        teacher, class_index = flat.teachers[share <= 0][0], flat.classes[share <= 0][0]
        raise UserError(f"Teacher {teacher} found class {class_index}, in which its weight is 0.")
    groups = to_groups(
        flat.boxes,
        flat.scores * share,
        groups=flat.images * shares.shape[1] + flat.classes,
    )
    fused = _METHODS[settings.method](flat, groups, shares, num_known, settings)
    return _split(fused, num_images=len(images), settings=settings)


@dataclasses.dataclass(frozen=True, slots=True)
class _Flat:
    """Detections of many images: boxes [N, 4], scores, classes, teachers, images [N]."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    teachers: np.ndarray
    images: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "_Flat":
        return _Flat(
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            self.teachers[rows],
            self.images[rows],
        )


def _shares(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [T, C] with mean 1 over the teachers that know a class, and how many know it [C]."""
    if (weights < 0).any():
        raise UserError("A teacher's weight must be at least 0.")
    num_known = (weights > 0).sum(axis=0)
    total = weights.sum(axis=0)
    return weights * num_known / np.where(total > 0, total, 1.0), num_known


def _flatten(images: Sequence[Sequence[Detections]]) -> _Flat:
    parts = [found for teachers in images for found in teachers]
    teachers = [t for teachers in images for t in range(len(teachers))]
    numbers = [i for i, teachers in enumerate(images) for _ in teachers]
    sizes = [len(found.scores) for found in parts]
    if not sum(sizes):
        empty = np.zeros(0, np.int64)
        return _Flat(np.zeros((0, 4), np.float32), np.zeros(0), empty, empty, empty)
    return _Flat(
        np.concatenate([found.boxes for found in parts]).astype(np.float32),
        np.concatenate([found.scores for found in parts]).astype(np.float64),
        np.concatenate([found.classes for found in parts]).astype(np.int64),
        np.repeat(teachers, sizes),
        np.repeat(numbers, sizes),
    )


def _cluster(flat: _Flat, groups: Groups, settings: FusionSettings, *, average: bool) -> Clusters:
    return cluster(
        groups, teachers=flat.teachers, iou_threshold=settings.iou_threshold, average=average
    )


def _nms(
    flat: _Flat, groups: Groups, shares: np.ndarray, num_known: np.ndarray, settings: FusionSettings
) -> _Flat:
    """The best box of each cluster, with the score its teacher gave."""
    clusters = _cluster(flat, groups, settings, average=False)
    return flat[clusters.first]


def _soft_nms(
    flat: _Flat, groups: Groups, shares: np.ndarray, num_known: np.ndarray, settings: FusionSettings
) -> _Flat:
    """Every box; its score is multiplied by exp(-iou^2 / sigma) for each better one."""
    decay = soft_suppress(groups, sigma=settings.sigma)
    return dataclasses.replace(flat, scores=flat.scores * decay)


def _wbf(
    flat: _Flat, groups: Groups, shares: np.ndarray, num_known: np.ndarray, settings: FusionSettings
) -> _Flat:
    """The mean box of each cluster; its score suffers from teachers that did not see it.

    Support and mean count teachers, not boxes: what one teacher left over beside its own best box
    neither lowers the score nor stands for a second teacher.
    """
    clusters = _cluster(flat, groups, settings, average=True)
    best = flat[clusters.first]
    known = num_known[best.classes]
    # The mean over its teachers, times the share of the teachers that know the class. A heavy
    # teacher alone can exceed 1, as in the original.
    scores = np.minimum(clusters.score_sums / known, 1.0)
    return dataclasses.replace(best, boxes=clusters.boxes, scores=scores)


def _vote(
    flat: _Flat, groups: Groups, shares: np.ndarray, num_known: np.ndarray, settings: FusionSettings
) -> _Flat:
    """The best box of each cluster that teachers with more than half of the weight support."""
    clusters = _cluster(flat, groups, settings, average=False)
    best = flat[clusters.first]
    support = np.zeros(len(clusters.first))
    supports = np.zeros((len(clusters.first), len(shares)), bool)
    supports[clusters.members, flat.teachers] = True
    support = (supports * shares[:, best.classes].T).sum(axis=1)
    return best[support > num_known[best.classes] / 2]


_METHODS: dict[str, Callable[[_Flat, Groups, np.ndarray, np.ndarray, FusionSettings], _Flat]] = {
    "nms": _nms,
    "soft_nms": _soft_nms,
    "wbf": _wbf,
    "vote": _vote,
}


def _split(fused: _Flat, *, num_images: int, settings: FusionSettings) -> list[Fused]:
    """Per image, best first, at most `max_detections`, none below the floor."""
    fused = fused[fused.scores >= settings.score_floor]
    # Classes and corners break ties, so that the order never depends on the batch.
    order = np.lexsort((fused.boxes[:, 0], fused.classes, -fused.scores, fused.images))
    fused = fused[order]
    ends = np.searchsorted(fused.images, np.arange(num_images + 1))
    boxes, scores = fused.boxes.astype(np.float32), fused.scores.astype(np.float32)
    classes, teachers = fused.classes.astype(np.int32), fused.teachers.astype(np.int32)
    result = []
    for start, end in itertools.pairwise(ends):
        rows = slice(start, min(end, start + settings.max_detections))
        result.append(Fused(Detections(boxes[rows], scores[rows], classes[rows]), teachers[rows]))
    return result
