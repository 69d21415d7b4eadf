"""Score thresholds per class: given, read from a file, or fitted; a person can edit them."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.values import Json, show, to_number

FILE_NAME = "thresholds.json"
_DEFAULT = "default"


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Per class, from which score a detection is a label, and from which it is ignored.

    Attributes:
        class_names: The run's C classes.
        score: [C] float64: a detection at or above is a pseudo label.
        ignore: [C] float64, at most `score`: from here to `score` it is neither object nor
            background.
        reasons: [C] how each came about, for a person who looks at the file.
    """

    class_names: tuple[str, ...]
    score: np.ndarray
    ignore: np.ndarray
    reasons: tuple[str, ...]


def fixed(class_names: Sequence[str], *, score: float, ignore: float) -> Thresholds:
    """One threshold for all classes."""
    num = len(class_names)
    return thresholds_of(
        class_names, score=np.full(num, score), ignore=np.full(num, ignore), reasons=["given"] * num
    )


def read(path: str, class_names: Sequence[str], *, ignore: float) -> Thresholds:
    """Thresholds from JSON: {"cat": 0.4, "dog": {"score": 0.5, "ignore": 0.3}, "default": 0.5}.

    Args:
        path: Such a file, or the one that `write` wrote.
        class_names: The run's classes.
        ignore: Of classes for which the file gives none.

    Raises:
        UserError: Not such a file, an unknown class, or a class without a threshold.
    """
    content = documents.read_json(path, where="--score_threshold") if files.exists(path) else None
    if not isinstance(content, dict):
        raise UserError(
            f"--score_threshold={path}: expected a number, auto, or a JSON file of thresholds by "
            "class name."
        )
    unknown = sorted(set(content) - set(class_names) - {_DEFAULT})
    missing = [n for n in class_names if n not in content and _DEFAULT not in content]
    if unknown or missing:
        raise UserError(
            f"{path}: unknown classes: {unknown or 'none'}; classes without a threshold: "
            f"{missing or 'none'}. The run's classes: {', '.join(class_names)}; "
            f'"{_DEFAULT}" serves the rest.'
        )
    values = [_entry(path, name, content.get(name, content.get(_DEFAULT))) for name in class_names]
    scores = np.array([score for score, _ in values])
    ignores = np.array([min(ignore, s) if i is None else i for s, i in values])
    reasons = [f"from {path}"] * len(values)
    return thresholds_of(class_names, score=scores, ignore=ignores, reasons=reasons)


def write(thresholds: Thresholds, path: str) -> None:
    """Writes a file that `read` reads, each class with its reason.

    Four digits, rounded down: a box whose score is the threshold stays a label.
    """
    rows = zip(
        thresholds.class_names, thresholds.score, thresholds.ignore, thresholds.reasons, strict=True
    )
    files.write_json(
        path,
        {
            name: {"score": _rounded_down(s), "ignore": _rounded_down(i), "why": why}
            for name, s, i, why in rows
        },
    )


def _rounded_down(value: float) -> float:
    # The inner rounding keeps .4727, which is 4726.999... ten-thousandths.
    return math.floor(round(float(value) * 1e4, 6)) / 1e4


def _entry(path: str, name: str, value: Json) -> tuple[float, float | None]:
    """The score and the ignore threshold that a file gives a class."""
    parts = value if isinstance(value, dict) else {"score": value}
    score, ignore = to_number(parts.get("score")), to_number(parts.get("ignore"))
    if score is None or (ignore is None and "ignore" in parts):
        raise UserError(
            f"{path}: {show(name)} has {show(value)}, which is no threshold; give 0.5 or "
            '{"score": 0.5, "ignore": 0.3}.'
        )
    return score, ignore


def thresholds_of(
    class_names: Sequence[str], *, score: np.ndarray, ignore: np.ndarray, reasons: Sequence[str]
) -> Thresholds:
    """Checked thresholds; the ignore band of a class ends where its labels begin.

    Raises:
        UserError: One is outside [0, 1].
    """
    score, ignore = np.asarray(score, np.float64), np.asarray(ignore, np.float64)
    ignore = np.minimum(ignore, score)
    if not ((score >= 0) & (score <= 1) & (ignore >= 0)).all():
        raise UserError(
            f"Thresholds must lie in [0, 1]; got score {score.tolist()}, ignore {ignore.tolist()}."
        )
    return Thresholds(tuple(class_names), score, ignore, tuple(reasons))
