"""Fusion against ensemble-boxes 1.0.9 (golden arrays), and where ours differs on purpose."""

import pathlib

import numpy as np
import pytest

from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, no_detections
from kd_tf.teachers.fusion import FusionSettings, fuse

GOLDEN = pathlib.Path(__file__).parent / "golden" / "fusion.npz"
# ensemble-boxes wants boxes in 0..1.
SIDE_PX = 1000.0
CASES, TEACHERS, CLASSES = 12, 3, 4


def found(*rows) -> Detections:
    """Rows of (x1, y1, x2, y2, score, class)."""
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 4], array[:, 5].astype(np.int32))


def fuse_one(*teachers, weights=None, **settings):
    """The fused detections of one image as rows, best first."""
    classes = max([int(t.classes.max(initial=0)) for t in teachers]) + 1
    weights = np.ones((len(teachers), classes)) if weights is None else np.array(weights, float)
    settings = {"score_floor": 0.0, "max_detections": 1000, **settings}
    (fused,) = fuse([teachers], weights=weights, settings=FusionSettings(**settings))
    return fused


def _sorted(boxes, scores, labels):
    order = np.lexsort((boxes[:, 0], labels, -np.round(scores, 6)))
    return boxes[order], scores[order], np.asarray(labels)[order]


@pytest.mark.parametrize("method", ["wbf", "nms", "soft_nms"])
def test_fuse_equals_ensemble_boxes(method):
    golden = np.load(GOLDEN)
    images, weights, numbers = [], [], []
    for number in range(CASES):
        if f"{number}/{method}/boxes" not in golden:
            continue
        parts = [[golden[f"{number}/in/{t}/{k}"] for k in ("boxes", "scores", "labels")]
                 for t in range(TEACHERS)]  # fmt: skip
        images.append(
            [Detections(b * np.float32(SIDE_PX), s, c.astype(np.int32)) for b, s, c in parts]
        )
        weights.append(golden[f"{number}/weights"])
        numbers.append(number)
    settings = FusionSettings(method, 0.55, score_floor=0.0, max_detections=1000)
    num_compared = 0
    for teachers, weight, number in zip(images, weights, numbers, strict=True):
        table = np.repeat(weight[:, None], CLASSES, axis=1)
        (fused,) = fuse([teachers], weights=table, settings=settings)
        expected = [golden[f"{number}/{method}/{k}"] for k in ("boxes", "scores", "labels")]
        boxes, scores, labels = _sorted(*expected)
        ours = fused.detections
        found_boxes, found_scores, found_labels = _sorted(ours.boxes, ours.scores, ours.classes)
        # The original lets scores exceed 1 where a heavy teacher's boxes meet; ours end at 1.
        np.testing.assert_allclose(np.sort(found_scores), np.sort(np.minimum(scores, 1)), atol=2e-6)
        for label in range(CLASSES):
            mine, theirs = found_boxes[found_labels == label], boxes[labels == label]
            assert len(mine) == len(theirs)
            mine, theirs = (
                b[np.lexsort(np.round(b.T / SIDE_PX, 5))] for b in (mine, theirs * SIDE_PX)
            )
            np.testing.assert_allclose(mine, theirs, atol=2e-3)
        num_compared += len(scores)
    assert num_compared > 100


@pytest.mark.parametrize("method", ["wbf", "nms", "soft_nms", "vote"])
def test_fuse_batch_gives_what_single_images_give(method):
    rng = np.random.default_rng(3)
    images = []
    for _ in range(20):
        teachers = []
        for _ in range(3):
            corner, side = rng.uniform(0, 60, (9, 2)), rng.uniform(20, 60, (9, 2))
            rows = np.column_stack([corner, corner + side, rng.random(9), rng.integers(0, 2, 9)])
            teachers.append(found(*rows))
        images.append(teachers)
    images[5] = [no_detections()] * 3
    settings, weights = FusionSettings(method), np.ones((3, 2))
    together = fuse(images, weights=weights, settings=settings)
    for teachers, one in zip(images, together, strict=True):
        (alone,) = fuse([teachers], weights=weights, settings=settings)
        np.testing.assert_array_equal(alone.detections.boxes, one.detections.boxes)
        np.testing.assert_array_equal(alone.detections.scores, one.detections.scores)
        np.testing.assert_array_equal(alone.teachers, one.teachers)
        assert (np.diff(one.detections.scores) <= 0).all()


def test_fuse_wbf_class_that_one_of_two_knows_keeps_its_score():
    box = (10, 10, 50, 50, 0.9, 0)
    known_by_one = fuse_one(found(box), found(), weights=[[1], [0]])
    known_by_both = fuse_one(found(box), found(), weights=[[1], [1]])
    # Stock weighted boxes fusion halves it either way: 0.9 * min(1, 2) / 2 = 0.45.
    assert known_by_one.detections.scores.tolist() == pytest.approx([0.9])
    assert known_by_both.detections.scores.tolist() == pytest.approx([0.45])


def test_fuse_wbf_only_proportions_of_weights_matter():
    teachers = found((10, 10, 50, 50, 0.8, 0)), found((12, 10, 52, 50, 0.4, 0))
    small = fuse_one(*teachers, weights=[[0.2], [0.1]])
    large = fuse_one(*teachers, weights=[[20], [10]])
    np.testing.assert_allclose(small.detections.boxes, large.detections.boxes, rtol=1e-6)
    # Weights become 4/3 and 2/3; x1 = (10*0.8*4/3 + 12*0.4*2/3) / (0.8*4/3 + 0.4*2/3) = 10.4;
    # score = (0.8*4/3 + 0.4*2/3) / 2 * 2/2 = 0.66667.
    np.testing.assert_allclose(small.detections.boxes, [[10.4, 10, 50.4, 50]], atol=1e-4)
    np.testing.assert_allclose(small.detections.scores, [2 / 3], atol=1e-6)
    assert small.teachers.tolist() == [0]


def test_fuse_weights_per_class_choose_whose_box_counts():
    first = found((0, 0, 100, 100, 0.6, 0), (0, 0, 100, 100, 0.6, 1))
    second = found((4, 0, 104, 100, 0.5, 0), (4, 0, 104, 100, 0.5, 1))
    fused = fuse_one(first, second, weights=[[3, 1], [1, 3]], method="nms")
    by_class = dict(zip(fused.detections.classes.tolist(), fused.teachers.tolist(), strict=True))
    assert by_class == {0: 0, 1: 1}
    assert sorted(fused.detections.scores.tolist()) == pytest.approx([0.5, 0.6])


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        pytest.param([[1], [1], [1]], [0.9], id="two_of_three_agree_one_alone_does_not"),
        pytest.param([[1], [1], [0]], [0.9], id="both_that_know_it"),
        pytest.param([[1], [1], [9]], [0.3], id="heavy_teacher_outvotes"),
    ],
)
def test_fuse_vote(weights, kept):
    teachers = [
        found((10, 10, 50, 50, 0.9, 0)),
        found((11, 10, 51, 50, 0.6, 0), (200, 200, 230, 230, 0.8, 0)),
        found((400, 10, 450, 50, 0.3, 0)) if weights[2][0] else found(),
    ]
    fused = fuse_one(*teachers, weights=weights, method="vote")
    assert fused.detections.scores.tolist() == pytest.approx(kept)


@pytest.mark.parametrize("method", ["wbf", "nms", "vote"])
def test_fuse_threshold_is_exclusive_and_classes_stay_apart(method):
    # The second box is half of the first: IoU = 300 / 600.
    first = found((0, 0, 20, 30, 0.9, 0), (0, 0, 20, 30, 0.7, 1))
    second = found((0, 0, 20, 15, 0.8, 0))
    at = fuse_one(first, second, iou_threshold=0.5, method=method, weights=[[1, 1], [1, 1]])
    below = fuse_one(first, second, iou_threshold=0.49, method=method, weights=[[1, 1], [1, 1]])
    of_class_0 = [int((f.detections.classes == 0).sum()) for f in (at, below)]
    assert of_class_0 == ([0, 1] if method == "vote" else [2, 1])


def test_fuse_floor_and_cap_keep_the_best():
    rows = [(50 * i, 0, 50 * i + 40, 40, 0.1 * (i + 1), 0) for i in range(8)]
    fused = fuse_one(found(*rows), score_floor=0.35, max_detections=3)
    assert fused.detections.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert fuse_one(found(*rows), score_floor=0.9).detections.scores.tolist() == []


def test_fuse_no_images_or_no_detections_gives_none():
    assert fuse([], weights=np.ones((2, 1)), settings=FusionSettings()) == []
    assert len(fuse_one(found(), found()).detections) == 0


def test_fuse_class_of_weight_zero_is_refused():
    with pytest.raises(UserError, match="Teacher 1 found class 0"):
        fuse_one(found(), found((0, 0, 9, 9, 0.5, 0)), weights=[[1], [0]])
    with pytest.raises(UserError, match="at least 0"):
        fuse_one(found((0, 0, 9, 9, 0.5, 0)), weights=[[-1]])


@pytest.mark.parametrize("method", ["wbf", "vote", "nms"])
def test_fuse_ignores_a_teachers_own_near_duplicates(method):
    zebra, other = (10, 10, 110, 110, 0.86, 0), (12, 10, 112, 110, 0.76, 0)
    # What suppression at IoU .6 leaves beside the zebra: IoU .58 to .7, scores down to the floor.
    left = [(30, 10, 130, 110, 0.4, 0), (10, 25, 110, 125, 0.2, 0), (10, 28, 110, 128, 0.02, 0)]
    alone = fuse_one(found(zebra), found(other), method=method)
    first = fuse_one(found(zebra, *left), found(other), method=method)
    second = fuse_one(found(zebra), found(other, *left), method=method)
    for fused in (first, second):
        np.testing.assert_allclose(fused.detections.boxes, alone.detections.boxes, atol=1e-4)
        np.testing.assert_allclose(fused.detections.scores, alone.detections.scores, atol=1e-7)
    # By hand: wbf (.86 + .76) / 2; votes and nms keep the best box.
    expected = 0.81 if method == "wbf" else 0.86
    assert alone.detections.scores.tolist() == pytest.approx([expected])


def test_fuse_wbf_two_boxes_of_one_teacher_are_no_second_teacher():
    twice = found((10, 10, 110, 110, 0.8, 0), (12, 10, 112, 110, 0.7, 0))
    once = found((10, 10, 110, 110, 0.8, 0))
    # One of three teachers: .8 / 3, however often it says so.
    for teacher in (once, twice):
        fused = fuse_one(teacher, found(), found(), weights=[[1], [1], [1]])
        assert fused.detections.scores.tolist() == pytest.approx([0.8 / 3])


def test_fuse_wbf_weighs_each_teachers_best_box():
    # Weights 2 and 1 become 4/3 and 2/3: (.6 * 4/3 + .9 * 2/3) / 2 = .7; the duplicate of score
    # .5 of the heavy teacher changes nothing.
    heavy = found((10, 10, 110, 110, 0.6, 0), (14, 10, 114, 110, 0.5, 0))
    light = found((10, 10, 110, 110, 0.9, 0))
    fused = fuse_one(heavy, light, weights=[[2], [1]])
    assert fused.detections.scores.tolist() == pytest.approx([0.7])
    np.testing.assert_allclose(fused.detections.boxes, [[10, 10, 110, 110]], atol=1e-4)


@pytest.mark.parametrize("method", ["wbf", "nms", "vote"])
def test_fuse_does_not_depend_on_the_order_of_teachers_or_boxes(method):
    rng = np.random.default_rng(5)
    for _ in range(20):
        rows = [rng.uniform(0, 60, (8, 2)) for _ in range(3)]
        teachers = [
            found(*np.column_stack([corner, corner + rng.uniform(30, 60, (8, 2)), rng.random(8),
                                    rng.integers(0, 2, 8)]))
            for corner in rows
        ]  # fmt: skip
        shuffled = [one[rng.permutation(8)] for one in reversed(teachers)]
        weights = np.ones((3, 2))
        (first,) = fuse([teachers], weights=weights, settings=FusionSettings(method))
        (second,) = fuse([shuffled], weights=weights, settings=FusionSettings(method))
        np.testing.assert_allclose(first.detections.scores, second.detections.scores, atol=1e-6)
        np.testing.assert_allclose(first.detections.boxes, second.detections.boxes, atol=1e-3)
