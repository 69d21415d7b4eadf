"""Calibration: scores become shares, order stays, small classes borrow."""

import numpy as np
import pytest

from kd_tf.errors import UserError
from kd_tf.teachers.calibrate import Calibration, fit
from kd_tf.teachers.scored import Scored


def _overconfident(num: int, *, seed: int = 0) -> Scored:
    """A detection of score s is right with probability s^2."""
    rng = np.random.default_rng(seed)
    scores = rng.random(num)
    correct = rng.random(num) < scores**2
    return Scored(scores, np.zeros(num, np.int32), correct, np.array([num, 0]))


@pytest.mark.parametrize(("method", "tolerance"), [("isotonic", 0.06), ("temperature", 0.09)])
def test_fit_scores_become_the_share_that_is_right(method, tolerance):
    calibration = fit(_overconfident(6000), method=method)
    scores = np.linspace(0.1, 0.95, 18)
    shares = calibration(scores, np.zeros(18, np.int32))
    np.testing.assert_allclose(shares, scores**2, atol=tolerance)
    assert shares.dtype == np.float32


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_fit_order_of_scores_stays(method):
    calibration = fit(_overconfident(300), method=method)
    scores = np.linspace(0, 1, 200)
    shares = calibration(scores, np.zeros(200, np.int32))
    assert (np.diff(shares) >= 0).all()
    assert (np.diff(shares) > 0).mean() > 0.95
    assert 0 <= shares.min() <= shares.max() <= 1


def test_fit_rare_class_takes_the_curve_of_all():
    many = _overconfident(500)
    scored = Scored(
        np.append(many.scores, [0.9] * 5), np.append(many.classes, [1] * 5).astype(np.int32),
        np.append(many.correct, [False] * 5), np.array([500, 5]),
    )  # fmt: skip
    calibration = fit(scored, method="isotonic")
    assert calibration.own.tolist() == [True, False]
    again = Calibration.from_json(calibration.to_json())
    scores = np.array([0.3, 0.9])
    np.testing.assert_allclose(
        again(scores, np.array([1, 1])), calibration(scores, np.array([1, 1])), atol=1e-5
    )


def test_fit_makes_two_teachers_comparable():
    """A shy and a bold teacher that are right equally often end with equal scores."""
    rng = np.random.default_rng(1)
    truth = rng.random(8000)
    correct = rng.random(8000) < truth
    classes = np.zeros(8000, np.int32)
    shy = fit(Scored(truth**3, classes, correct, np.array([1])), method="isotonic")
    bold = fit(Scored(truth**0.4, classes, correct, np.array([1])), method="isotonic")
    at = np.array([0.3, 0.6, 0.9])
    np.testing.assert_allclose(
        shy(at**3, np.zeros(3, int)), bold(at**0.4, np.zeros(3, int)), atol=0.06
    )


def test_fit_without_two_kinds_is_refused():
    scored = Scored(np.array([0.5]), np.array([0]), np.array([True]), np.array([1]))
    with pytest.raises(UserError, match="1 right of 1"):
        fit(scored, method="isotonic")
    with pytest.raises(UserError, match="not one of"):
        fit(_overconfident(9), method="magic")
