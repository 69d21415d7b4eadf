"""Fits score thresholds: to labelled images, or to how many objects an image holds."""

from collections.abc import Iterable, Sequence

import numpy as np

from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections
from kd_tf.teachers.scored import Scored
from kd_tf.teachers.thresholds import Thresholds, thresholds_of

# Below so many objects (or detections) of a class its own optimum is noise.
MIN_COUNT = 10


def fit_f1(
    scored: Scored, class_names: Sequence[str], *, ignore_ratio: float, min_count: int = MIN_COUNT
) -> Thresholds:
    """Per class the threshold at which the labels' F1 against people's is best.

    A class with fewer than `min_count` objects takes the threshold that is best for all
    classes together.

    Args:
        scored: On validation images.
        class_names: The run's classes.
        ignore_ratio: The ignore band begins at this fraction of a class's threshold.
        min_count: See above.
    """
    overall = _best_f1(scored.scores, scored.correct, int(scored.num_objects.sum()))
    values, reasons = [], []
    for index in range(len(class_names)):
        rows, num = scored.classes == index, int(scored.num_objects[index])
        if num >= min_count:
            value, f1 = _best_f1(scored.scores[rows], scored.correct[rows], num)
            reasons.append(f"best F1 {f1:.3f} on {num} objects")
        else:
            value, reasons = overall[0], [*reasons, f"only {num} objects: best for all classes"]
        values.append(value)
    values = np.array(values)
    return thresholds_of(class_names, score=values, ignore=values * ignore_ratio, reasons=reasons)


def fit_precision(
    scored: Scored,
    class_names: Sequence[str],
    *,
    precision: float,
    ignore_ratio: float,
    min_count: int = MIN_COUNT,
) -> Thresholds:
    """Per class the lowest threshold at which labels are right as often as wanted.

    A class that never gets there takes the threshold of its best precision; one with fewer
    than `min_count` detections takes that of all classes together. Args as `fit_f1`.
    """
    overall = _at_precision(scored.scores, scored.correct, precision)
    values, reasons = [], []
    for index in range(len(class_names)):
        rows = scored.classes == index
        num = int(rows.sum())
        if num >= min_count:
            value, reached = _at_precision(scored.scores[rows], scored.correct[rows], precision)
            reasons.append(f"precision {reached:.3f} of {num} detections")
        else:
            value, reasons = overall[0], [*reasons, f"only {num} detections: as all classes"]
        values.append(value)
    values = np.array(values)
    return thresholds_of(class_names, score=values, ignore=values * ignore_ratio, reasons=reasons)


def fit_prior(
    detections: Iterable[Detections],
    class_names: Sequence[str],
    *,
    boxes_per_image: float,
    ignore_ratio: float,
) -> Thresholds:
    """One threshold for all classes at which images have a wanted number of labels on average.

    For data without any labels: somebody can say how many objects an image holds, if not
    which scores are good.

    Args:
        detections: Fused, of a sample of the unlabelled images.
        class_names: The run's classes.
        boxes_per_image: Wanted mean.
        ignore_ratio: As `fit_f1`.

    Raises:
        UserError: No image, or a prior that is not above 0.
    """
    found = [np.asarray(one.scores, np.float64) for one in detections]
    if not found or not boxes_per_image > 0:
        raise UserError(
            f"Thresholds by a boxes-per-image prior need images and a prior above 0, got "
            f"{len(found)} images and {boxes_per_image}."
        )
    scores = np.sort(np.concatenate(found))[::-1]
    wanted = round(boxes_per_image * len(found))
    value = float(scores[min(max(wanted, 1), len(scores)) - 1]) if len(scores) else 1.0
    got = float((scores >= value).sum()) / len(found)
    reason = f"{got:.2f} boxes per image of {len(found)}, {boxes_per_image:g} wanted"
    num = len(class_names)
    values = np.full(num, value)
    return thresholds_of(
        class_names, score=values, ignore=values * ignore_ratio, reasons=[reason] * num
    )


def _best_f1(scores: np.ndarray, correct: np.ndarray, num_objects: int) -> tuple[float, float]:
    """(threshold, F1); with nothing found the threshold is 1."""
    if not len(scores):
        return 1.0, 0.0
    cut, hits, kept = _cuts(scores, correct)
    f1 = 2 * hits / (kept + num_objects)
    best = int(f1.argmax())
    return _between(cut, best), float(f1[best])


def _at_precision(scores: np.ndarray, correct: np.ndarray, precision: float) -> tuple[float, float]:
    if not len(scores):
        return 1.0, 0.0
    cut, hits, kept = _cuts(scores, correct)
    reached = hits / kept
    enough = np.flatnonzero(reached >= precision)
    best = int(enough[-1]) if len(enough) else int(reached.argmax())
    return _between(cut, best), float(reached[best])


def _cuts(scores: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores, descending, and how many right and how many at all are at or above each."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return scores[order][last], np.cumsum(correct[order])[last], last + 1


def _between(cut: np.ndarray, best: int) -> float:
    """Half-way to the next lower score: on other images scores differ a little."""
    lower = cut[best + 1] if best + 1 < len(cut) else cut[best]
    return float((cut[best] + lower) / 2)
