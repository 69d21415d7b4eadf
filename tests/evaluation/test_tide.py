import numpy as np
import pytest

from kd_tf.evaluation import average_precision
from kd_tf.evaluation.tide import KINDS, tide
from tests.evaluation.datasets import (
    annotate,
    coco_dataset,
    noisy_predictions,
    random_dataset,
    source_from_coco,
)
from tests.evaluation.test_matching import detections, scored

# tidecv 1.0.1 (the authors' package) on `random_dataset(seed, num_images=30, num_classes=3)`
# with `noisy_predictions(seed=200 + seed, decimals=9)`; crowds removed for even seeds.
TIDECV = {
    # AP50 and the gains: Cls, Loc, Both, Dupe, Bkg, Miss
    0: [
        0.192713718,
        0.054091082,
        0.091284619,
        0.008437966,
        0.009274372,
        0.153838728,
        0.084226582,
    ],
    1: [
        0.202734183,
        0.057045035,
        0.11629236,
        0.004473013,
        0.00585276,
        0.140844989,
        0.063424117,
    ],
    2: [
        0.239814567,
        0.025836287,
        0.096799969,
        0.008191792,
        0.005061762,
        0.126869488,
        0.121203785,
    ],
    3: [
        0.140896671,
        0.017965048,
        0.084068468,
        0.015650874,
        0.004271031,
        0.131179859,
        0.076324136,
    ],
    4: [
        0.155010308,
        0.057741256,
        0.10389269,
        0.002878525,
        0.009573314,
        0.131139433,
        0.066807876,
    ],
    5: [
        0.142309828,
        0.016916097,
        0.097357228,
        0.004317421,
        0.002586984,
        0.140790541,
        0.075599713,
    ],
    6: [
        0.160770508,
        0.041059947,
        0.11926653,
        0.006511456,
        0.007078303,
        0.109847923,
        0.074624121,
    ],
    7: [
        0.17452174,
        0.014796643,
        0.068291735,
        0.00265594,
        0.002694345,
        0.136066593,
        0.106871803,
    ],
}


@pytest.mark.parametrize("seed", TIDECV)
def test_tide_equals_tidecv(seed, monkeypatch):
    # tidecv reads precision at i / 100, COCO at linspace(0, 1, 101): 0.57 is not the same double.
    monkeypatch.setattr(average_precision, "RECALLS", np.arange(101) / 100)
    instances = random_dataset(seed, num_images=30, num_classes=3)
    for annotation in instances["annotations"]:
        annotation["iscrowd"] *= seed % 2
    predictions = noisy_predictions(source_from_coco(instances), seed=200 + seed, decimals=9)
    gains = tide(*scored(instances, predictions))
    assert list(gains.values()) == pytest.approx(TIDECV[seed], abs=1e-9)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        # One object of class 0 at (0, 0, 10, 10), and one detection of it, wrong in one way.
        pytest.param([(0, 0, 10, 10, 0.9, 1)], "Cls", id="wrong_class"),
        pytest.param([(0, 0, 10, 4, 0.9, 0)], "Loc", id="iou_0.4"),
        pytest.param([], "Miss", id="nothing"),
    ],
)
def test_tide_one_error_costs_all_of_ap(rows, kind):
    instances = coco_dataset(num_images=1, names=["a", "b"])
    annotate(instances, 0, 1, [0, 0, 10, 10])
    predictions = {instances["images"][0]["id"]: detections(*rows)}
    gains = tide(*scored(instances, predictions))
    # Forgiving the missed object leaves no object at all, and no AP: no gain.
    expected = dict.fromkeys(("AP50", *KINDS), 0.0)
    if kind != "Miss":
        expected[kind] = 1.0
    assert gains == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        pytest.param((0, 0, 10, 10, 0.9, 0), "Dupe", id="found_already"),
        pytest.param((500, 0, 10, 10, 0.9, 0), "Bkg", id="nothing_there"),
        pytest.param((0, 0, 10, 4, 0.9, 1), "Both", id="wrong_class_and_iou_0.4"),
    ],
)
def test_tide_false_positive_above_the_only_object(wrong, kind):
    instances = coco_dataset(num_images=1, names=["a", "b"])
    annotate(instances, 0, 1, [0, 0, 10, 10])
    annotate(instances, 0, 2, [100, 0, 10, 10])
    rows = [(0, 0, 10, 9, 0.5, 0), (100, 0, 10, 10, 0.5, 1), wrong]
    if kind == "Dupe":
        rows[0] = (0, 0, 10, 10, 0.95, 0)
        rows.append((100, 0, 10, 10, 0.6, 1))  # a second double, of class b, scored higher
    predictions = {instances["images"][0]["id"]: detections(*rows)}
    gains = tide(*scored(instances, predictions))
    if kind == "Dupe":
        # Doubles behind their object do not change AP: recall is full before them.
        assert gains["Dupe"] == 0.0
    else:
        # One class reads precision 1/2 at every recall, the other 1: mAP 0.75.
        assert gains["AP50"] == pytest.approx(0.75)
        assert gains[kind] == pytest.approx(0.25)
    others = [gains[name] for name in KINDS if name != kind]
    assert others == [0.0] * 5


def test_tide_without_objects_is_none():
    instances = coco_dataset(num_images=1, names=["a"])
    assert set(tide(*scored(instances, {})).values()) == {None}
