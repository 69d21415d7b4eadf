"""More objects in an image than a step, or a label, has room for."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.rejects import AT_LIMIT
from kd_tf.data.select import cap
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.teachers.predict_job import Work, label_predictions
from kd_tf.teachers.predictions import read_predictions
from tests.teachers.made import made_source


def _labels(boxes, *, scores=None, ignore=None, classes=None):
    num = len(boxes)
    return {
        "boxes_xyxy_unit": tf.constant(boxes, tf.float32),
        "scores": tf.constant(np.ones(num) if scores is None else scores, tf.float32),
        "classes": tf.constant(np.zeros(num) if classes is None else classes, tf.int32),
        "weights": tf.ones(num),
        "ignore": tf.constant(np.zeros(num, bool) if ignore is None else ignore),
    }


BOXES = [[0, 0, 0.1 * n, 0.1] for n in range(1, 7)]


def test_larger_boxes_stay_whatever_the_order_of_the_annotation():
    rng = np.random.default_rng(0)
    expected = np.array(BOXES[:2:-1], np.float32)
    for _ in range(10):
        order = rng.permutation(6)
        capped = cap(_labels([BOXES[k] for k in order], classes=order), max_boxes=3)
        np.testing.assert_array_equal(capped["boxes_xyxy_unit"], expected)
        assert capped["classes"].numpy().tolist() == [5, 4, 3]
        assert sorted(capped["cut_classes"].numpy().tolist()) == [0, 1, 2]
        assert capped["num_cut"].numpy() == 3


def test_order_stays_that_of_the_annotation_where_all_fit():
    capped = cap(_labels(BOXES, classes=range(6)), max_boxes=6)
    assert capped["classes"].numpy().tolist() == list(range(6))
    assert capped["cut_classes"].shape == (0,)


def test_better_scores_win_over_larger_boxes_and_ignored_ones_go_first():
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    ignore = [True, False, False, False, False, False]
    labels = _labels(BOXES, scores=scores, ignore=ignore, classes=range(6))
    capped = cap(labels, max_boxes=3)
    assert capped["classes"].numpy().tolist() == [1, 2, 3]
    assert sorted(capped["cut_classes"].numpy().tolist()) == [0, 4, 5]
    assert capped["num_cut"].numpy() == 2


class _Dense:
    """Finds `num` objects in every image, the last with a score of `least`."""

    def __init__(self, num, least):
        self.num, self.least = num, least

    def needs(self):
        return Needs(("a",), 32, 32, resize="stretch")

    def detect(self, images):
        x = np.linspace(0, 20, self.num, dtype=np.float32)
        boxes = np.stack([x, x, x + 5, x + 5], axis=1)
        scores = np.linspace(1, self.least, self.num, dtype=np.float32)
        return [Detections(boxes, scores, np.zeros(self.num, np.int32)) for _ in images]


@pytest.mark.parametrize(
    ("num", "least", "limit", "kept", "counted"),
    [
        pytest.param(150, 0.5, 100, 100, 2, id="150_objects_become_100_and_are_counted"),
        pytest.param(150, 0.5, 200, 150, 0, id="with_room_all_stay"),
        pytest.param(150, 0.01, 100, 100, 2, id="the_100th_is_still_sure"),
        pytest.param(100, 0.01, 100, 100, 0, id="a_tail_of_doubt_is_no_sign"),
        pytest.param(100, 0.5, 100, 100, 2, id="just_as_many_may_be_more"),
    ],
)
def test_detections_beyond_the_limit_are_counted(tmp_path, num, least, limit, kept, counted):
    counts = label_predictions(
        _Dense(num, least), made_source(2), name="dense", folder=str(tmp_path),
        work=Work(num_shards=1, max_detections=limit), score_floor=0.005,
    )  # fmt: skip
    assert counts.skipped_boxes[AT_LIMIT] == counted
    stored = list(read_predictions(str(tmp_path / "predictions-00000-of-00001.tfrecord")))
    assert [len(one.detections) for one in stored] == [kept, kept]
