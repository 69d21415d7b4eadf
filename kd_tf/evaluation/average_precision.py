"""Average precision from matches, for the data set as it is and for resampled images."""

import dataclasses

import numpy as np

from kd_tf.evaluation.collected import Collected
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.evaluation.matching import Matches

RECALLS = np.linspace(0.0, 1.0, 101)
# Elements of one array in flight while images are resampled: 16 MB of float64.
_MAX_ELEMENTS = 2_000_000


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The counted detections of one class, best score first.

    Attributes:
        images: [d] int64, row of the image of each.
        scores: [d] float64, descending.
        hits: [T, d] bool: found an object.
        misses: [T, d] bool: found nothing; neither hit nor miss is ignored.
        num_objects: [I] int64, objects of the class in each image, without crowds.
    """

    images: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    num_objects: np.ndarray


def rank(truth: GroundTruth, found: Collected, matches: Matches) -> list[Ranking]:
    """One ranking per class, in the order of `truth.class_names`."""
    hits, misses = matches.true_positives(), matches.false_positives()
    rankings = []
    for index in range(len(truth.class_names)):
        rows = np.flatnonzero((found.classes == index) & matches.counted)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        real = (truth.classes == index) & ~truth.is_crowd
        rankings.append(
            Ranking(
                images=found.image_index[rows],
                scores=found.scores[rows],
                hits=hits[:, rows],
                misses=misses[:, rows],
                num_objects=np.bincount(truth.image_index[real], minlength=truth.num_images),
            )
        )
    return rankings


def average_precision(ranking: Ranking, *, image_weights: np.ndarray) -> np.ndarray:
    """COCO's AP of one class.

    Args:
        ranking: The detections of the class.
        image_weights: [B, I] int64, how often each image counts in each of B resamples.
            Counting an image twice equals having two copies of it: copies stand side
            by side in the ranking, and interpolated precision looks at the better end.

    Returns:
        [B, T] float64; NaN where a resample holds no object of the class.

    Source: pycocotools 2.0.11, `COCOeval.accumulate`.
    """
    num_resamples, num_thresholds = len(image_weights), len(ranking.hits)
    result = np.full((num_resamples, num_thresholds), np.nan)
    num_objects = image_weights @ ranking.num_objects
    step = max(_MAX_ELEMENTS // max(ranking.hits.size, 1), 1)
    for first in range(0, num_resamples, step):
        weights = image_weights[first : first + step, None, ranking.images]
        rows = np.flatnonzero(num_objects[first : first + step])
        hits = np.cumsum((weights * ranking.hits)[rows], axis=-1, dtype=np.float64)
        misses = np.cumsum((weights * ranking.misses)[rows], axis=-1, dtype=np.float64)
        shape = (len(rows) * num_thresholds, hits.shape[-1])
        precisions = _interpolate(
            hits.reshape(shape),
            misses.reshape(shape),
            num_objects=np.repeat(num_objects[first + rows], num_thresholds),
        )
        result[first + rows] = precisions.mean(axis=-1).reshape(-1, num_thresholds)
    return result


def precision_at_recalls(ranking: Ranking) -> np.ndarray | None:
    """[T, 101] interpolated precision at `RECALLS`; None where the class has no object."""
    num_objects = int(ranking.num_objects.sum())
    if not num_objects:
        return None
    hits = np.cumsum(ranking.hits, axis=-1, dtype=np.float64)
    misses = np.cumsum(ranking.misses, axis=-1, dtype=np.float64)
    return _interpolate(hits, misses, num_objects=num_objects)


def _interpolate(
    hits: np.ndarray, misses: np.ndarray, *, num_objects: int | np.ndarray
) -> np.ndarray:
    """[R, 101]: the best precision at this recall or beyond; 0 beyond what was reached."""
    if not len(hits):
        return np.zeros((0, len(RECALLS)))
    recall = hits / np.reshape(num_objects, (-1, 1))
    precision = hits / (hits + misses + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    at = np.stack([np.searchsorted(one, RECALLS, side="left") for one in recall])
    return np.take_along_axis(best, at, axis=1)
