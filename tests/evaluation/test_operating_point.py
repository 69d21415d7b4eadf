import numpy as np
import pytest

from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.operating_point import confusion_matrix, curves, operating_point
from tests.evaluation.datasets import (
    annotate,
    coco_dataset,
    noisy_predictions,
    random_dataset,
    source_from_coco,
)
from tests.evaluation.test_matching import detections, scored


def small():
    """Two images; cat 0, dog 1. Worked out by hand below."""
    instances = coco_dataset(num_images=2, names=["cat", "dog"])
    annotate(instances, 0, 1, [0, 0, 10, 10])
    annotate(instances, 0, 2, [100, 0, 10, 10])
    annotate(instances, 0, 2, [200, 0, 10, 10])
    annotate(instances, 1, 1, [0, 0, 50, 50], iscrowd=1)
    first, second = (image["id"] for image in instances["images"])
    return scored(
        instances,
        {
            first: detections(
                (0, 0, 10, 10, 0.9, 0),  # a cat, found
                (0, 0, 10, 10, 0.7, 1),  # the cat again, called dog: it is taken, so invented
                (100, 0, 10, 8, 0.6, 0),  # a dog called cat, IoU 0.8
                (200, 0, 10, 10, 0.4, 1),  # a dog, below its threshold: missed
            ),
            second: detections(
                (5, 5, 10, 10, 0.8, 0),  # inside the crowd of cats: does not count
                (300, 0, 10, 10, 0.5, 1),  # nothing there, at the threshold exactly
            ),
        },
    )


def test_operating_point_by_hand():
    point = operating_point(*small(), score_thresholds=[0.5, 0.5])
    # tp: the cat. fp: cat on the dog, dog on the cat, dog on nothing. fn: both dogs.
    assert (point["tp"], point["fp"], point["fn"]) == (1, 3, 2)
    assert point["precision"] == pytest.approx(1 / 4)
    assert point["recall"] == pytest.approx(1 / 3)
    assert point["f1"] == pytest.approx(2 * 1 / (2 * 1 + 3 + 2))
    assert point["per_class"]["cat"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1.0, "f1": 2 / 3, "tp": 1, "fp": 1, "fn": 0}
    )
    assert point["per_class"]["dog"]["precision"] == 0.0
    assert point["confusion"] == {
        "labels": ["cat", "dog", "background"],
        # rows: what it is; columns: what it was called
        "counts": [[1, 0, 0], [1, 0, 1], [0, 2, 0]],
    }


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        pytest.param([0.5, 0.4], (2, 3, 1), id="threshold_is_inclusive"),
        pytest.param([0.5, 0.5000001], (1, 2, 2), id="just_above"),
        pytest.param([1.0, 1.0], (0, 0, 3), id="nothing_left"),
    ],
)
def test_operating_point_threshold(thresholds, expected):
    # scores are float32: 0.4 is stored as 0.4000000059
    point = operating_point(*small(), score_thresholds=thresholds)
    assert (point["tp"], point["fp"], point["fn"]) == expected
    if expected[0] == 0:
        assert point["precision"] is None
        assert point["recall"] == 0.0


def test_operating_point_wrong_number_of_thresholds_is_refused():
    with pytest.raises(ValueError, match=r"2 classes, got shape \(3,\)"):
        operating_point(*small(), score_thresholds=[0.5] * 3)


@pytest.mark.parametrize("seed", range(4))
def test_confusion_matrix_sums(seed):
    """Each object is in its row once; the diagonal is the true positives."""
    instances = random_dataset(seed)
    predictions = noisy_predictions(source_from_coco(instances), seed=seed)
    truth, found = scored(instances, predictions)
    counts = confusion_matrix(truth, found)
    objects = np.bincount(truth.classes[~truth.is_crowd], minlength=4)
    point = operating_point(truth, found, score_thresholds=[0.0] * 4)
    assert counts[:4].sum(axis=1).tolist() == objects.tolist()
    assert np.diag(counts)[:4].tolist() == [
        point["per_class"][name]["tp"] for name in truth.class_names
    ]
    assert counts[:, :4].sum() == point["tp"] + point["fp"]
    assert counts[4, 4] == 0


def test_curves_precisions_average_to_ap50():
    instances = random_dataset(40)
    truth, found = scored(instances, noisy_predictions(source_from_coco(instances), seed=41))
    result = curves(truth, found)
    means = [np.mean(one["precisions"]) for one in result["per_class"].values()]
    assert np.mean(means) == pytest.approx(evaluate(truth, found)["AP50"], abs=1e-4)
    assert len(result["score_bins"]) == 21


def test_curves_histograms_by_hand():
    result = curves(*small())
    cat = result["per_class"]["cat"]
    assert sum(cat["right"]) == 1 and cat["right"][18 - 1] + cat["right"][18] == 1
    assert sum(cat["wrong"]) == 1  # the one on the crowd is neither
    assert sum(result["per_class"]["dog"]["right"]) == 1
