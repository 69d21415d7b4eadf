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
        0.1927137184,
        0.0540910818,
        0.0912846186,
        0.008437966,
        0.0092743723,
        0.153838728,
        0.0842265822,
    ],
    1: [
        0.2027341829,
        0.0570450354,
        0.1162923601,
        0.004473013,
        0.0058527599,
        0.140844989,
        0.0634241172,
    ],
    2: [
        0.239814567,
        0.0258362869,
        0.0967999694,
        0.0081917923,
        0.0050617625,
        0.1268694877,
        0.1212037854,
    ],
    3: [
        0.1408966713,
        0.0179650475,
        0.0840684685,
        0.0156508737,
        0.004271031,
        0.1311798591,
        0.0763241361,
    ],
    4: [
        0.1550103084,
        0.0577412556,
        0.1038926896,
        0.002878525,
        0.009573314,
        0.1311394333,
        0.0668078758,
    ],
    5: [
        0.1423098279,
        0.0169160969,
        0.0973572278,
        0.0043174211,
        0.0025869844,
        0.1407905405,
        0.0755997126,
    ],
    6: [
        0.1607705076,
        0.0410599474,
        0.1192665296,
        0.0065114562,
        0.0070783027,
        0.1098479225,
        0.0746241209,
    ],
    7: [
        0.1745217401,
        0.0147966431,
        0.0682917345,
        0.00265594,
        0.0026943452,
        0.1360665934,
        0.1068718032,
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
