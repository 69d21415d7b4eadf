import numpy as np
import pytest

from kd_tf.evaluation.agreement import agreement, count_common, disagreement
from kd_tf.geometry.detections import no_detections
from tests.evaluation.test_matching import detections

A = detections((0, 0, 10, 10, 0.9, 0), (50, 0, 10, 10, 0.8, 1), (90, 0, 10, 10, 0.2, 1))


@pytest.mark.parametrize(
    ("other", "common"),
    [
        pytest.param(A, 3, id="itself"),
        pytest.param(no_detections(), 0, id="nothing"),
        pytest.param(detections((0, 0, 10, 10, 0.9, 1)), 0, id="another_class"),
        pytest.param(detections((0, 0, 10, 5, 0.9, 0)), 1, id="iou_0.5_exactly"),
        pytest.param(detections((0, 0, 10, 4.9, 0.9, 0)), 0, id="just_below"),
        pytest.param(detections(*[(0, 0, 10, 10, 0.9, 0)] * 3), 1, id="one_to_one"),
    ],
)
def test_count_common(other, common):
    assert count_common(A, other) == count_common(other, A) == common
    assert disagreement(A, other) == len(A) + len(other) - 2 * common


def test_agreement_by_hand():
    b = detections((0, 0, 10, 10, 0.6, 0))
    c = detections((500, 0, 10, 10, 0.6, 0))
    thresholds = {name: np.array([0.5, 0.5]) for name in "abc"}
    result = agreement(
        [{"a": A, "b": b, "c": c}, {"a": A, "b": no_detections()}],
        names=["a", "b", "c"],
        score_thresholds=thresholds,
    )
    # a keeps two boxes an image; b has one in common: 2 * 1 / (4 + 1).
    assert result["matrix"][0][1] == result["matrix"][1][0] == pytest.approx(2 / 5)
    assert result["matrix"][0][2] == 0.0
    assert result["matrix"][0][0] == 1.0
    assert result["num_boxes"] == {"a": 4, "b": 1, "c": 1}


def test_agreement_of_nothing_is_none():
    result = agreement([], names=["a"], score_thresholds={"a": np.zeros(1)})
    assert result["matrix"] == [[None]]
