"""Makes scores of different teachers mean the same: how likely a detection is right."""

import dataclasses

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from kd_tf.errors import UserError
from kd_tf.teachers.scored import Scored

METHODS = ("none", "isotonic", "temperature")
# Fewer matched detections than this fit noise: such a class takes the curve of all classes.
MIN_COUNT = 50
# Points that keep a curve.
_NUM_KNOTS = 65
_EDGE = 1e-4


@dataclasses.dataclass(frozen=True)
class Calibration:
    """One teacher's curves from score to the share of detections that are right.

    Attributes:
        scores: [C + 1, P] float64, ascending in each row: knots. The last row is of all classes.
        shares: [C + 1, P] float64 in [0, 1], not falling: the share at each knot.
        own: [C] bool, whether a class has a curve of its own.
    """

    scores: np.ndarray
    shares: np.ndarray
    own: np.ndarray

    def __call__(self, scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Calibrated scores [N] float32 of scores [N] in [0, 1] and classes [N]."""
        result = np.empty(len(scores), np.float32)
        rows = np.where(self.own[classes], classes, len(self.own))
        for row in np.unique(rows):
            mine = rows == row
            result[mine] = np.interp(scores[mine], self.scores[row], self.shares[row])
        return result

    def to_json(self) -> dict:
        """Plain values, for the manifest and `from_json`."""
        return {
            "scores": np.round(self.scores, 6).tolist(),
            "shares": np.round(self.shares, 6).tolist(),
            "own": self.own.tolist(),
        }

    @classmethod
    def from_json(cls, content: dict) -> "Calibration":
        """The calibration that `to_json` gave."""
        return cls(
            np.array(content["scores"]), np.array(content["shares"]), np.array(content["own"], bool)
        )


def fit(scored: Scored, *, method: str) -> Calibration:
    """Fits a teacher's curves on labelled images.

    Classes with fewer than `MIN_COUNT` detections take the curve of all classes.

    Args:
        scored: The teacher's own detections (before fusion), right or wrong.
        method: "isotonic" (any rising curve) or "temperature" (a logistic curve of the
            score's logit with slope and offset: two numbers, for small samples).

    Raises:
        UserError: An unknown method, or nothing to fit on: no detection, or all of them
            right, or all wrong.

    Source:
        Platt 1999 (logistic); Zadrozny and Elkan 2002 (isotonic); fitted by scikit-learn.
    """
    if method not in METHODS[1:]:
        raise UserError(f"--calibration={method} is not one of {', '.join(METHODS)}.")
    if len(np.unique(scored.correct)) < 2:
        raise UserError(
            f"Calibration needs right and wrong detections on the labelled images, got "
            f"{int(scored.correct.sum())} right of {len(scored.correct)}. Give more labelled "
            "images or --calibration=none."
        )
    curve = _isotonic if method == "isotonic" else _logistic
    knots = np.linspace(0.0, 1.0, _NUM_KNOTS)
    num_classes = len(scored.num_objects)
    own = np.zeros(num_classes, bool)
    shares = [np.zeros(_NUM_KNOTS)] * num_classes
    for index in range(num_classes):
        rows = scored.classes == index
        if rows.sum() >= MIN_COUNT and len(np.unique(scored.correct[rows])) == 2:
            own[index] = True
            shares[index] = curve(scored.scores[rows], scored.correct[rows], knots)
    shares.append(curve(scored.scores, scored.correct, knots))
    return Calibration(np.tile(knots, (num_classes + 1, 1)), np.stack(shares), own)


def _isotonic(scores: np.ndarray, correct: np.ndarray, knots: np.ndarray) -> np.ndarray:
    model = IsotonicRegression(y_min=_EDGE, y_max=1 - _EDGE, out_of_bounds="clip")
    values = model.fit(scores, correct).predict(knots)
    # Isotonic curves have flat steps, in which better and worse detections would tie; 1 % of
    # the score itself keeps their order.
    return 0.99 * values + 0.01 * knots


def _logistic(scores: np.ndarray, correct: np.ndarray, knots: np.ndarray) -> np.ndarray:
    model = LogisticRegression(C=1e4).fit(_logit(scores)[:, None], correct)
    slope = max(float(model.coef_[0, 0]), 1e-3)  # A falling curve would turn the order around.
    return 1 / (1 + np.exp(-(slope * _logit(knots) + float(model.intercept_[0]))))


def _logit(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores, _EDGE, 1 - _EDGE)
    return np.log(inside / (1 - inside))
