"""Fits score thresholds: to labelled images, or to how many objects an image holds."""

from collections.abc import Iterable, Sequence

import numpy as np

from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections
from kd_tf.teachers.scored import Scored
from kd_tf.teachers.thresholds import Thresholds, thresholds_of

# Below so many detections of a class its own precision is noise.
MIN_COUNT = 10
# Validation sets hold some tens of objects of a class; below this many added ones, thresholds of
# classes that behave alike scatter and cost F1 (experiments/thresholds).
PRIOR_COUNT = 100.0
_MAX_CANDIDATES = 1000


def fit_f1(
    scored: Scored,
    class_names: Sequence[str],
    *,
    ignore_ratio: float,
    prior_count: float = PRIOR_COUNT,
) -> Thresholds:
    """The thresholds, one per class, at which the F1 of all labels against people's is best.

    They are chosen together: a class where the teacher is weak does not get cheap labels just
    because its own F1 asks for them. Each class's counts are those of its objects and of
    `prior_count` more that behave like the average of all classes, so a rare class takes the
    threshold that is best for all, and a frequent one its own.

    Args:
        scored: On validation images.
        class_names: The run's classes.
        ignore_ratio: The ignore band begins at this fraction of a class's threshold.
        prior_count: See above; 0 trusts every class's own counts.

    Source: a ratio of sums is maximised as in Dinkelbach 1967, "On nonlinear fractional
    programming".
    """
    cuts = _candidates(scored.scores)
    rows_of = [scored.classes == index for index in range(len(class_names))]
    kept = np.stack([_at_or_above(scored.scores[rows], cuts) for rows in rows_of])
    hits = np.stack([_at_or_above(scored.scores[rows & scored.correct], cuts) for rows in rows_of])
    objects = scored.num_objects.astype(np.float64)
    share = prior_count / max(objects.sum(), 1.0)
    best = _best_together(
        hits + share * hits.sum(axis=0), kept + share * kept.sum(axis=0), objects + prior_count
    )
    values = cuts[best]
    rows = np.arange(len(class_names))
    f1 = 2 * hits[rows, best] / np.maximum(kept[rows, best] + objects, 1.0)
    reasons = [
        f"F1 {one:.3f} on {int(num)} objects; chosen for the F1 of all classes together"
        for one, num in zip(f1, objects, strict=True)
    ]
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
    than `min_count` detections takes that of all classes together. Other args as `fit_f1`.
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


def _candidates(scores: np.ndarray) -> np.ndarray:
    """Thresholds to choose from, descending: 1, and half-way between neighbouring scores."""
    distinct = np.unique(scores)[::-1]
    if len(distinct) > _MAX_CANDIDATES:
        places = np.linspace(0, len(distinct) - 1, _MAX_CANDIDATES).round().astype(int)
        distinct = distinct[places]
    return np.array([1.0, *(_between(distinct, place) for place in range(len(distinct)))])


def _at_or_above(scores: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """[J] float64: how many scores reach each of the cuts."""
    return (len(scores) - np.searchsorted(np.sort(scores), cuts)).astype(np.float64)


def _best_together(hits: np.ndarray, kept: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """[C] the column of `hits` and `kept` [C, J] for each row at which the joint F1 is best."""
    rows, f1 = np.arange(len(hits)), 0.0
    while True:
        columns = (2 * hits - f1 * kept).argmax(axis=1)
        total = kept[rows, columns].sum() + objects.sum()
        reached = 2 * hits[rows, columns].sum() / max(total, 1e-12)
        # By rounding, columns that are equally good may take turns for ever.
        if reached <= f1:
            return columns
        f1 = reached


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
