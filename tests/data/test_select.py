"""Selection at read time: thresholds, ignore band, weights, the cap."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.select import SelectSettings, cap, select
from kd_tf.errors import UserError


def _objects(scores, *, classes=None, human=None, crowd=None) -> dict[str, tf.Tensor]:
    num = len(scores)
    boxes = np.arange(num, dtype=np.float32)[:, None] + np.zeros((1, 4), np.float32)
    return {
        "boxes_xyxy_unit": tf.constant(boxes),
        "scores": tf.constant(scores, tf.float32),
        "classes": tf.constant(classes or [0] * num, tf.int32),
        "human": tf.constant(human or [False] * num, tf.bool),
        "is_crowd": tf.constant(crowd or [False] * num, tf.bool),
    }


def _select(objects, *, num_classes=2, **settings):
    @tf.function
    def run():
        return select(objects, settings=SelectSettings(**settings), num_classes=num_classes)

    return {key: value.numpy() for key, value in run().items()}


@pytest.mark.parametrize(
    ("objects", "rows", "ignore"),
    [
        pytest.param(_objects([]), [], [], id="no_detection"),
        pytest.param(_objects([0.39, 0.29]), [0], [True], id="unsure_teacher_gives_no_object"),
        pytest.param(
            _objects([0.6, 0.59999, 0.3, 0.29999]),
            [0, 1, 2],
            [False, True, True],
            id="both_thresholds_are_inclusive",
        ),
        pytest.param(
            _objects([0.55, 0.55], classes=[0, 1]), [0, 1], [True, False], id="one_per_class"
        ),
        pytest.param(_objects([0.0], human=[True]), [0], [False], id="human_always_stays"),
        pytest.param(
            _objects([1.0, 0.9, 0.1], human=[True, False, False], crowd=[True] * 3),
            [0, 1],
            [True, True],
            id="crowd_is_ignored",
        ),
    ],
)
def test_select_keeps_and_ignores(objects, rows, ignore):
    kept = _select(objects, score_threshold=(0.6, 0.5), ignore_threshold=0.3)
    assert kept["boxes_xyxy_unit"][:, 0].tolist() == rows
    assert kept["ignore"].tolist() == ignore
    assert kept["weights"].tolist() == [0.0 if one else 1.0 for one in ignore]


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [
        pytest.param("none", [1.0, 1.0, 0.0, 0.0], id="none"),
        pytest.param("linear", [0.5, 1.0, 0.0, 0.0], id="linear"),
        pytest.param("power", [0.125, 1.0, 0.0, 0.0], id="power"),  # 0.5 ** 3
    ],
)
def test_select_weights_objects_by_score_and_people_by_one(weighting, weights):
    objects = _objects(
        [0.5, 0.25, 0.4, 1.0], human=[False, True, False, True], crowd=[False] * 3 + [True]
    )
    kept = _select(objects, score_weighting=weighting, score_power=3.0)
    np.testing.assert_allclose(kept["weights"], weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"score_threshold": 1.5}, "score_threshold must be in", id="range"),
        pytest.param({"score_threshold": (0.5,) * 3}, "3 values for 2 classes", id="number"),
        pytest.param({"score_threshold": 0.2}, "ignore_threshold 0.3 of class 0", id="order"),
        pytest.param({"score_weighting": "cube"}, "none, linear, power", id="weighting"),
    ],
)
def test_select_wrong_settings_say_so(settings, message):
    with pytest.raises(UserError, match=message):
        select(_objects([0.5]), settings=SelectSettings(**settings), num_classes=2)


def _labels(scores, ignore) -> dict[str, tf.Tensor]:
    num = len(scores)
    return {
        "boxes": tf.ones([num, 4]),
        "scores": tf.constant(scores, tf.float32),
        "classes": tf.range(num),
        "weights": tf.constant(scores, tf.float32),
        "ignore": tf.constant(ignore, tf.bool),
    }


@pytest.mark.parametrize(
    ("scores", "ignore", "classes", "num_cut"),
    [
        pytest.param([], [], [-1, -1, -1], 0, id="empty_is_padding"),
        pytest.param([0.5], [True], [0, -1, -1], 0, id="padded"),
        pytest.param([0.2, 0.9, 0.5], [False, True, False], [2, 0, 1], 0, id="ignored_last"),
        pytest.param([0.7] * 4, [False] * 4, [0, 1, 2], 1, id="ties_keep_order_one_cut"),
        pytest.param([0.1, 0.8, 0.9, 0.3], [False, True, True, False], [3, 0, 2], 0, id="cut"),
    ],
)
def test_cap_best_first_then_ignored_then_padding(scores, ignore, classes, num_cut):
    capped = {k: v.numpy() for k, v in cap(_labels(scores, ignore), max_boxes=3).items()}
    assert capped["classes"].tolist() == classes
    assert capped["num_cut"] == num_cut
    padding = capped["classes"] == -1
    assert not capped["boxes"][padding].any() and (capped["boxes"][~padding] == 1).all()
    assert not capped["weights"][padding].any() and not capped["ignore"][padding].any()
    expected = [scores[index] for index in classes if index >= 0]
    np.testing.assert_allclose(capped["weights"][~padding], expected)
