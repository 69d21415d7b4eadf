"""What a detector's errors cost it: the AP gained by mending each of six kinds."""

import dataclasses

import numpy as np

from kd_tf.evaluation.average_precision import Ranking, average_precision
from kd_tf.evaluation.collected import Collected
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.evaluation.matching import MAX_DETECTIONS, Matches, match
from kd_tf.geometry.overlaps import box_ious

KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
_CLS, _LOC, _BOTH, _DUPE, _BKG = range(5)
_RIGHT, _NO_ERROR = -1, -2


@dataclasses.dataclass(frozen=True)
class Errors:
    """Every detection's kind of error.

    Attributes:
        kinds: [D] int8, an index into `KINDS`, -1 for a true positive.
        mended: [D] int64, the object that a Cls or Loc error would find, where this
            detection is the best one to find it; else -1.
        missed: [G] bool, objects that no mended detection would find.
        ignored: [D] bool, detections on a crowd; they count in no AP, unless mended.
    """

    kinds: np.ndarray
    mended: np.ndarray
    missed: np.ndarray
    ignored: np.ndarray


def tide(truth: GroundTruth, found: Collected) -> dict[str, float | None]:
    """AP gained at IoU 0.5 by mending each kind of error, alone, and nothing else.

    Cls: right place, wrong class. Loc: right class, IoU between 0.1 and 0.5. Both: both
    wrong. Dupe: the object was found already. Bkg: nothing is there. Miss: an object
    that no detection comes near. Mending moves, deletes or (Miss) forgives.

    Returns:
        `KINDS` -> gain in AP50 (0 to 1), and "AP50" with at most 100 detections an
        image, which the gains start from. None where nothing can be measured.

    Source: D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
    Errors", ECCV 2020, sections 2.2 and 2.3. Ties between kinds are broken as in the
    authors' tidecv 1.0.1, so numbers can be compared with published ones; as there, a
    detection on a crowd can be mended, and a negative gain is shown as 0.
    """
    best = found.take(_best_of_each_image(found))
    matches = match(truth, best, iou_thresholds=np.array([FOREGROUND_IOU]))
    errors = classify(truth, best, matches)
    before = _mean_ap(truth, best, errors, mend=None)
    gains = {"AP50": before}
    for kind, name in enumerate(KINDS):
        after = _mean_ap(truth, best, errors, mend=kind)
        gains[name] = None if before is None or after is None else max(after - before, 0.0)
    return gains


def classify(truth: GroundTruth, found: Collected, matches: Matches) -> Errors:
    """Names the error of every detection; `matches` at IoU 0.5 only."""
    right = matches.true_positives()[0]
    used = np.zeros(truth.num_objects, bool)
    used[matches.objects[0][right]] = True
    kinds = np.where(right, _RIGHT, _BKG).astype(np.int8)
    target = np.full(len(found), -1, np.int64)
    for image in np.unique(found.image_index[~right]):
        rows = found.rows(image)
        rows = rows.start + np.flatnonzero(~right[rows])
        objects = truth.rows(image)
        objects = objects.start + np.flatnonzero(~truth.is_crowd[objects])
        if len(objects):
            kinds[rows], target[rows] = _classify_image(
                truth, found, rows, objects=objects, used=used
            )
    taken = np.append(used, False)[target]  # row -1, "nothing", is free
    mended = _best_for_each(found, np.where(taken | (target < 0), -1, target))
    usable = used.copy()
    usable[mended[mended >= 0]] = True
    return Errors(kinds, mended, ~usable & ~truth.is_crowd, matches.ignored[0])


def _classify_image(
    truth: GroundTruth,
    found: Collected,
    rows: np.ndarray,
    *,
    objects: np.ndarray,
    used: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(kinds, object that mending would find or -1) of the wrong detections of one image."""
    no_crowd = np.zeros(len(objects), bool)
    ious = box_ious(found.boxes[rows], truth.boxes[objects], is_crowd=no_crowd)
    same = found.classes[rows][:, None] == truth.classes[objects][None]
    own, other = ious * same, ious * ~same
    own_best, other_best = own.max(axis=1), other.max(axis=1)
    conditions = [
        (own_best >= BACKGROUND_IOU) & (own_best <= FOREGROUND_IOU),
        other_best >= FOREGROUND_IOU,
        (own * used[objects]).max(axis=1) >= FOREGROUND_IOU,
        ious.max(axis=1) <= BACKGROUND_IOU,
    ]
    kinds = np.select(conditions, [_LOC, _CLS, _DUPE, _BKG], default=_BOTH)
    target = np.select(
        [kinds == _LOC, kinds == _CLS],
        [objects[own.argmax(axis=1)], objects[other.argmax(axis=1)]],
        default=-1,
    )
    return kinds.astype(np.int8), target


def _best_for_each(found: Collected, target: np.ndarray) -> np.ndarray:
    """Keeps for each object only the detection with the highest score, else -1."""
    rows = np.flatnonzero(target >= 0)
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    _, first = np.unique(target[rows], return_index=True)
    result = np.full(len(target), -1, np.int64)
    result[rows[first]] = target[rows[first]]
    return result


def _mean_ap(
    truth: GroundTruth, found: Collected, errors: Errors, *, mend: int | None
) -> float | None:
    """AP50 over classes with objects, with one kind of error mended."""
    wrong_kind = errors.kinds == (_NO_ERROR if mend is None else mend)
    hits = (errors.kinds == _RIGHT) | (wrong_kind & (errors.mended >= 0))
    keep = hits | ~(wrong_kind | errors.ignored)
    classes = np.where(
        wrong_kind & (errors.mended >= 0), _classes_of(truth, errors.mended), found.classes
    )
    objects = ~truth.is_crowd
    if mend == KINDS.index("Miss"):
        objects &= ~errors.missed
    values = []
    for index in range(len(truth.class_names)):
        if not np.any((truth.classes == index) & ~truth.is_crowd):
            continue
        rows = np.flatnonzero(keep & (classes == index))
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        num_objects = np.bincount(
            truth.image_index[objects & (truth.classes == index)], minlength=truth.num_images
        )
        ranking = Ranking(
            found.image_index[rows],
            found.scores[rows],
            hits[rows][None],
            ~hits[rows][None],
            num_objects,
        )
        weights = np.ones((1, truth.num_images), np.int64)
        values.append(np.nan_to_num(average_precision(ranking, image_weights=weights)[0, 0]))
    return float(np.mean(values)) if values else None


def _classes_of(truth: GroundTruth, objects: np.ndarray) -> np.ndarray:
    return np.append(truth.classes, 0)[objects]


def _best_of_each_image(found: Collected) -> np.ndarray:
    """[D] mask of the `MAX_DETECTIONS` highest scores of every image."""
    order = np.lexsort((np.arange(len(found)), -found.scores, found.image_index))
    images = found.image_index[order]
    rank_in_image = np.arange(len(order)) - np.searchsorted(images, images)
    keep = np.zeros(len(found), bool)
    keep[order] = rank_in_image < MAX_DETECTIONS
    return keep
