"""Thresholds: given, from a file, fitted; the expected values are worked out by hand."""

import itertools

import numpy as np
import pytest

from kd_tf.data.items import Labels
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections
from kd_tf.teachers import thresholds
from kd_tf.teachers.fit_thresholds import fit_f1, fit_precision, fit_prior
from kd_tf.teachers.scored import Scored, match_to_labels


def _found(*rows) -> Detections:
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 4], array[:, 5].astype(np.int32))


def _marked(*rows, judged=None) -> Labels:
    """Rows of (x1, y1, x2, y2, class, is_crowd)."""
    array = np.array(rows, np.float32).reshape(-1, 6)
    boxes, areas = array[:, :4], np.zeros(len(array), np.float32)
    classes, is_crowd = array[:, 4].astype(np.int32), array[:, 5].astype(bool)
    judged = None if judged is None else np.array(judged, np.int32)
    return Labels(boxes, classes, is_crowd, areas, judged)


def _scored(*columns, num_objects) -> Scored:
    """Columns of (score, class, correct)."""
    array = np.array(columns, float).reshape(-1, 3)
    return Scored(
        array[:, 0], array[:, 1].astype(np.int32), array[:, 2].astype(bool), np.array(num_objects)
    )


def test_match_to_labels_best_score_takes_the_object():
    found = _found(
        (0, 0, 10, 10, 0.6, 0),  # the object is taken by the better one
        (1, 0, 11, 10, 0.9, 0),
        (0, 0, 10, 10, 0.8, 1),  # another class
        (50, 50, 60, 60, 0.7, 1),  # in the crowd: counts as neither
    )
    scored = match_to_labels(
        [(found, _marked((0, 0, 10, 10, 0, 0), (40, 40, 90, 90, 1, 1)))], num_classes=2
    )
    assert scored.scores.tolist() == pytest.approx([0.6, 0.9, 0.8])
    assert scored.correct.tolist() == [False, True, False]
    assert scored.num_objects.tolist() == [1, 0]


def test_match_to_labels_class_nobody_looked_for_counts_as_neither():
    found = _found((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 1))
    scored = match_to_labels([(found, _marked(judged=[1]))], num_classes=2)
    assert scored.scores.tolist() == pytest.approx([0.8])
    assert scored.correct.tolist() == [False]


def test_match_to_labels_class_not_marked_in_full_counts_as_neither():
    found = _found((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 0), (0, 0, 10, 10, 0.7, 1))
    marked = _marked((0, 0, 10, 10, 0, 0), (0, 0, 10, 10, 1, 0), judged=[1])
    scored = match_to_labels([(found, marked)], num_classes=2)
    assert scored.scores.tolist() == pytest.approx([0.7])
    assert scored.num_objects.tolist() == [0, 1]


def test_match_to_labels_objects_of_a_class_no_teacher_knows_do_not_count():
    marked = _marked((0, 0, 10, 10, 0, 0), (0, 0, 10, 10, 2, 0), (9, 0, 20, 10, 2, 0))
    pairs = [(_found((0, 0, 10, 10, 0.9, 0)), marked)]
    assert match_to_labels(pairs, num_classes=3).num_objects.tolist() == [1, 0, 2]
    scored = match_to_labels(pairs, num_classes=3, known=np.array([0, 1]))
    assert scored.num_objects.tolist() == [1, 0, 0]


def test_match_to_labels_no_objects_or_no_images():
    scored = match_to_labels([(_found((0, 0, 9, 9, 0.5, 0)), _marked())], num_classes=1)
    assert scored.correct.tolist() == [False]
    assert match_to_labels([], num_classes=3).num_objects.tolist() == [0, 0, 0]


def test_fit_f1_takes_the_cuts_that_are_best_together():
    # Class 0, 2 objects: at >= .7 both and nothing else. Class 1, 4 objects: alone its F1 would be
    # best with .9 and .5, 2*2/(3+4), and so it is with class 0's 2 of 2: 2*4/(5+6) against
    # 2*3/(3+6) with .9 only. The next lower score of any class is half-way further.
    scored = _scored(
        (0.9, 0, 1), (0.7, 0, 1), (0.3, 0, 0),
        (0.9, 1, 1), (0.6, 1, 0), (0.5, 1, 1), (0.2, 1, 0),
        num_objects=[2, 4],
    )  # fmt: skip
    fitted = fit_f1(scored, ("a", "b"), ignore_ratio=0.5, prior_count=0)
    np.testing.assert_allclose(fitted.score, [0.65, 0.4])
    np.testing.assert_allclose(fitted.ignore, [0.325, 0.2])
    assert fitted.reasons[0].startswith("F1 1.000 on 2 objects")
    assert fitted.reasons[1].startswith("F1 0.571 on 4 objects")


@pytest.mark.parametrize("seed", range(5))
def test_fit_f1_equals_trying_every_combination(seed):
    rng = np.random.default_rng(seed)
    scores, classes = rng.random(24).round(2), rng.integers(0, 3, 24)
    correct = rng.random(24) < scores * (classes + 1) / 3
    num_objects = np.bincount(classes[correct], minlength=3) + rng.integers(0, 4, 3)
    fitted = fit_f1(
        Scored(scores, classes, correct, num_objects), "abc", ignore_ratio=0.5, prior_count=0
    )

    def f1(thresholds) -> float:
        kept = scores >= np.asarray(thresholds)[classes]
        return 2 * (kept & correct).sum() / (kept.sum() + num_objects.sum())

    options = [*(np.unique(scores) - 1e-6), 1.0]
    best = max(f1(values) for values in itertools.product(options, repeat=3))
    assert f1(fitted.score) == pytest.approx(best)


def test_fit_f1_ends_where_two_cuts_are_equally_good():
    # 2 of 5 found and 3 of 11 found, of 7 objects: F1 is 1/3 at both, but for the last bit.
    right = (0, 4, 10)
    scored = _scored(*((0.9 - 0.01 * i, 0, i in right) for i in range(11)), num_objects=[7])
    fitted = fit_f1(scored, ("a",), ignore_ratio=0.5)
    assert fitted.score[0] in (pytest.approx(0.855), pytest.approx(0.8))


def test_fit_f1_rare_class_takes_the_one_for_all():
    rng = np.random.default_rng(0)
    scores = rng.random(2000)
    # One object of class 1, found with a low score; what class 0 shows says more.
    classes = np.append(np.zeros(1999, int), 1)
    scores[-1] = 0.05
    correct = np.append(rng.random(1999) < scores[:-1], True)
    scored = Scored(scores, classes, correct, np.array([correct.sum(), 1]))
    fitted = fit_f1(scored, ("a", "b"), ignore_ratio=0.5)
    alone = fit_f1(scored, ("a", "b"), ignore_ratio=0.5, prior_count=0)
    assert abs(fitted.score[1] - fitted.score[0]) < 0.05
    assert alone.score[1] < 0.05


@pytest.mark.parametrize("prior_count", [0, 100])
def test_fit_f1_class_nobody_can_find_does_not_loosen_the_others(prior_count):
    # Of 8 objects of class 0: 4 of 5 at .9, F1 2*4/(5+8) = .615; 2 of 5 more at .5, 2*6/(10+8) =
    # .667; 1 of 4 more at .3, 2*7/(14+8) = .636. With 20 objects of class 1 that only another
    # teacher could find, .3 was best: 2*7/(14+28) = .333 against 2*6/(10+28) = .316.
    marked = _marked(*[(20 * i, 0, 20 * i + 10, 10, 0, 0) for i in range(8)],
                     *[(20 * i, 50, 20 * i + 10, 60, 1, 0) for i in range(20)])  # fmt: skip
    right = [0.9] * 4 + [0.5] * 2 + [0.3]
    found = _found(*[(20 * i, 0, 20 * i + 10, 10, score, 0) for i, score in enumerate(right)],
                   *[(0, 90, 9, 99, score, 0) for score in (0.9, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3)],
                   (0, 90, 9, 99, 0.1, 0))  # fmt: skip
    for known, expected in (([0], 0.4), ([0, 1], 0.2)):
        scored = match_to_labels([(found, marked)], num_classes=2, known=np.array(known))
        fitted = fit_f1(scored, ("a", "b"), ignore_ratio=0.5, prior_count=prior_count)
        np.testing.assert_allclose(fitted.score[0], expected, atol=1e-6)


def test_fit_f1_nothing_found_gives_no_labels():
    fitted = fit_f1(_scored(num_objects=[20]), ("a",), ignore_ratio=0.5)
    assert fitted.score.tolist() == [1.0]


def test_fit_precision_lowest_threshold_that_is_right_often_enough():
    scored = _scored(
        (0.9, 0, 1), (0.8, 0, 0), (0.7, 0, 1), (0.6, 0, 1), (0.2, 0, 0), num_objects=[9]
    )
    # Precisions: 1, 1/2, 2/3, 3/4, 3/5.
    for wanted, expected in ((0.75, 0.4), (0.9, 0.85), (0.6, 0.2)):
        fitted = fit_precision(scored, ("a",), precision=wanted, ignore_ratio=0.5, min_count=1)
        np.testing.assert_allclose(fitted.score, [expected])


def test_fit_prior_meets_the_number_of_boxes():
    images = [_found(*[(0, 0, 9, 9, 0.1 * i, 0) for i in range(1, 10)])] * 4
    fitted = fit_prior(images, ("a", "b"), boxes_per_image=3, ignore_ratio=0.5)
    np.testing.assert_allclose(fitted.score, [0.7, 0.7], atol=1e-6)
    assert "3.00 boxes per image" in fitted.reasons[0]
    with pytest.raises(UserError, match="prior above 0"):
        fit_prior(images, ("a",), boxes_per_image=0, ignore_ratio=0.5)


def test_fit_prior_without_detections_gives_no_labels():
    fitted = fit_prior([_found()], ("a",), boxes_per_image=2, ignore_ratio=0.5)
    assert fitted.score.tolist() == [1.0]


def test_thresholds_written_are_rounded_down_so_that_no_label_is_lost(tmp_path):
    path = str(tmp_path / "thresholds.json")
    for score, written in ((121 / 256, 0.4726), (0.4727, 0.4727), (1.0, 1.0)):
        thresholds.write(thresholds.fixed(("cat",), score=score, ignore=0.1), path)
        assert thresholds.read(path, ("cat",), ignore=0.1).score.tolist() == [written]


def test_thresholds_written_file_is_read_back_and_can_be_edited(tmp_path):
    path = str(tmp_path / "thresholds.json")
    thresholds.write(thresholds.fixed(("cat", "dog"), score=0.5, ignore=0.25), path)
    again = thresholds.read(path, ("dog", "cat"), ignore=0.1)
    np.testing.assert_allclose(again.score, [0.5, 0.5])
    np.testing.assert_allclose(again.ignore, [0.25, 0.25])
    (tmp_path / "thresholds.json").write_text(
        '{"cat": 0.2, "default": {"score": 0.7, "ignore": 0.6}}'
    )
    edited = thresholds.read(path, ("dog", "cat"), ignore=0.3)
    np.testing.assert_allclose(edited.score, [0.7, 0.2])
    # The ignore band never reaches above the threshold.
    np.testing.assert_allclose(edited.ignore, [0.6, 0.2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('{"cow": 0.5, "default": 0.5}', "unknown classes: .'cow'", id="unknown"),
        pytest.param('{"cat": 0.5}', "without a threshold: .'dog'", id="missing"),
        pytest.param('{"default": "high"}', "is no threshold", id="no_number"),
        pytest.param('{"default": 1.5}', r"in \[0, 1\]", id="out_of_range"),
        pytest.param("[0.5]", "expected a number", id="list"),
    ],
)
def test_thresholds_wrong_files_are_refused(tmp_path, text, message):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=message):
        thresholds.read(str(tmp_path / "t.json"), ("cat", "dog"), ignore=0.1)
