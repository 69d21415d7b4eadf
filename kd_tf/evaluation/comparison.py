"""Which of several models is better, and whether the images could have decided otherwise."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from kd_tf.evaluation.average_precision import Ranking, average_precision, rank
from kd_tf.evaluation.collected import Collected
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.evaluation.matching import match

NUM_RESAMPLES = 1000
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Scores:
    """AP of one model on the images as they are and on resampled ones.

    Attributes:
        ap: [S, 1 + B] float64: one row per seed; column 0 is the data set itself, the
            others are resamples of its images.
        ap50: [S, 1 + B], likewise at IoU 0.5.
    """

    ap: np.ndarray
    ap50: np.ndarray


def compare(
    truth: GroundTruth,
    models: Mapping[str, Sequence[Collected]],
    *,
    num_resamples: int = NUM_RESAMPLES,
) -> dict:
    """Mean and spread over seeds, and paired differences with an interval over images.

    All models see the same resampled images, so what makes an image hard for all of
    them cancels in a difference. Detections are matched once; a resample only counts
    each image's matches as often as it was drawn.

    Args:
        truth: What people marked in the images that all models saw.
        models: Model name -> its detections, one entry per training seed.
        num_resamples: How many times images are drawn with replacement.

    Returns:
        "models" {name: {"AP", "AP50": each {"mean", "std" (over seeds, None for one),
        "seeds" [..], "interval" [low, high]}}}; "differences": a list of {"a", "b",
        "AP", "AP50": each {"mean" of a - b, "interval", "share_above_0": of the
        resamples}} for every pair; "num_resamples", "level", "num_images".

    Source: the percentile bootstrap, B. Efron and R. Tibshirani, "An Introduction to the
    Bootstrap", 1993, section 13.3.
    """
    weights = _image_weights(truth.num_images, num_resamples=num_resamples)
    scores = {name: _score(truth, runs, image_weights=weights) for name, runs in models.items()}
    names = list(scores)
    return {
        "models": {
            name: {"AP": _describe(one.ap), "AP50": _describe(one.ap50)}
            for name, one in scores.items()
        },
        "differences": [
            {
                "a": a,
                "b": b,
                "AP": difference(scores[a].ap, scores[b].ap),
                "AP50": difference(scores[a].ap50, scores[b].ap50),
            }
            for row, a in enumerate(names)
            for b in names[row + 1 :]
        ],
        "num_resamples": num_resamples,
        "level": _LEVEL,
        "num_images": truth.num_images,
    }


def resampled_ap(
    truth: GroundTruth, run: Collected, *, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """AP of one training run on the images as they are and on resampled ones.

    The draws are always the same, so that rows of two models, or of the same model on two
    machines, are paired.

    Args:
        truth: What people marked in the images.
        run: Its detections.
        num_resamples: As for `compare`.

    Returns:
        [1 + B] float64, column 0 of the images as they are.
    """
    weights = _image_weights(truth.num_images, num_resamples=num_resamples)
    return _score(truth, [run], image_weights=weights).ap[0]


def difference(a: np.ndarray, b: np.ndarray) -> dict:
    """Mean over seeds of a - b and its interval over images.

    Args:
        a, b: [S, 1 + B], [R, 1 + B] AP or AP50, one row per seed as `resampled_ap` gives it.

    Returns:
        {"mean", "interval" [low, high], "share_above_0": of the resamples}.
    """
    differences = a.mean(axis=0) - b.mean(axis=0)
    resampled = differences[1:][~np.isnan(differences[1:])]
    return {
        "mean": _number(differences[0]),
        "interval": _interval(differences[1:]),
        "share_above_0": float(np.mean(resampled > 0)) if resampled.size else None,
    }


def _image_weights(num_images: int, *, num_resamples: int) -> np.ndarray:
    """[1 + B, I] int64: how often each image was drawn; row 0 is every image once."""
    rng = np.random.default_rng(0)
    weights = np.ones((1 + num_resamples, num_images), np.int64)
    for row in range(1, len(weights)):
        drawn = rng.integers(num_images, size=num_images)
        weights[row] = np.bincount(drawn, minlength=num_images)
    return weights


def _score(truth: GroundTruth, runs: Sequence[Collected], *, image_weights: np.ndarray) -> Scores:
    tables = [
        _mean_over_classes(rank(truth, run, match(truth, run)), image_weights=image_weights)
        for run in runs
    ]
    return Scores(
        ap=np.array([table.mean(axis=1) for table in tables]),
        ap50=np.array([table[:, 0] for table in tables]),
    )


def _mean_over_classes(rankings: Sequence[Ranking], *, image_weights: np.ndarray) -> np.ndarray:
    """[B, T]; a class without an object in a resample does not count in it."""
    total = np.zeros((len(image_weights), len(rankings[0].hits)))
    measured = np.zeros((len(image_weights), 1))
    for ranking in rankings:
        values = average_precision(ranking, image_weights=image_weights)
        total += np.nan_to_num(values)
        measured += ~np.isnan(values[:, :1])
    with np.errstate(invalid="ignore"):  # 0 / 0: no class has an object, so there is no AP
        return total / measured


def _describe(table: np.ndarray) -> dict:
    """`table` [S, 1 + B] as mean, spread and interval."""
    seeds = table[:, 0]
    return {
        "mean": _number(seeds.mean()),
        "std": _number(seeds.std(ddof=1)) if len(seeds) > 1 else None,
        "seeds": [_number(value) for value in seeds],
        "interval": _interval(table.mean(axis=0)[1:]),
    }


def _interval(values: np.ndarray) -> list[float] | None:
    values = values[~np.isnan(values)]
    if not values.size:
        return None
    tail = (1 - _LEVEL) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
