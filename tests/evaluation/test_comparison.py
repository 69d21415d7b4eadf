import numpy as np
import pytest

from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.collected import collect
from kd_tf.evaluation.comparison import compare, difference, resampled_ap
from kd_tf.evaluation.ground_truth import ground_truth
from tests.evaluation.datasets import (
    annotate,
    coco_dataset,
    noisy_predictions,
    random_dataset,
    source_from_coco,
)
from tests.evaluation.test_matching import detections, scored


@pytest.fixture(scope="module")
def three_runs():
    source = source_from_coco(random_dataset(50, num_images=40, num_classes=3))
    truth = ground_truth(source, class_names=source.class_names)
    runs = [
        collect(truth, noisy_predictions(source, seed=seed, extra=extra).items())
        for seed, extra in ((1, 2), (2, 2), (3, 12))
    ]
    return truth, runs


def test_compare_means_are_those_of_evaluate(three_runs):
    truth, (a, b, c) = three_runs
    result = compare(truth, {"few": [a, b], "many": [c]}, num_resamples=50)
    aps = [evaluate(truth, one)["AP"] for one in (a, b, c)]
    few, many = result["models"]["few"]["AP"], result["models"]["many"]["AP"]
    assert few["seeds"] == pytest.approx(aps[:2], abs=1e-12)
    assert few["mean"] == pytest.approx(np.mean(aps[:2]))
    assert few["std"] == pytest.approx(abs(aps[0] - aps[1]) / np.sqrt(2))
    assert many["std"] is None
    difference = result["differences"][0]
    assert (difference["a"], difference["b"]) == ("few", "many")
    assert difference["AP"]["mean"] == pytest.approx(np.mean(aps[:2]) - aps[2])
    low, high = difference["AP"]["interval"]
    assert low < difference["AP"]["mean"] < high


def test_compare_model_with_itself_differs_by_0(three_runs):
    truth, (a, _, _) = three_runs
    result = compare(truth, {"a": [a], "same": [a]}, num_resamples=20)
    assert result["differences"][0]["AP"]["interval"] == [0.0, 0.0]


def test_compare_pairing_narrows_the_interval(three_runs):
    truth, (a, b, _) = three_runs
    result = compare(truth, {"a": [a], "b": [b]}, num_resamples=200)

    def width(interval):
        return interval[1] - interval[0]

    single = [width(result["models"][name]["AP"]["interval"]) for name in "ab"]
    assert width(result["differences"][0]["AP"]["interval"]) < sum(single)


def test_compare_interval_of_a_coin_by_hand():
    """100 images with one object each; half are found, nothing else: AP50 is a proportion.

    With precision 1 up to recall r, COCO's AP is (floor(100 r) + 1) / 101. The bootstrap's
    standard deviation of r is sqrt(.5 * .5 / 100) = 0.05, so 95 % lie within 0.5 -+ 0.098.
    """
    instances = coco_dataset(num_images=100, names=["a"])
    predictions = {}
    for row, image in enumerate(instances["images"]):
        annotate(instances, row, 1, [0, 0, 10, 10])
        if row % 2:
            predictions[image["id"]] = detections((0, 0, 10, 10, 0.9, 0))
    result = compare(*_as_models(instances, predictions), num_resamples=2000)
    low, high = result["models"]["a"]["AP50"]["interval"]
    assert result["models"]["a"]["AP50"]["mean"] == pytest.approx(51 / 101)
    assert (low, high) == pytest.approx((0.41, 0.60), abs=0.02)


def _as_models(instances, predictions):
    truth, found = scored(instances, predictions)
    return truth, {"a": [found]}


def test_compare_without_objects_is_none():
    result = compare(*_as_models(coco_dataset(num_images=3, names=["a"]), {}), num_resamples=5)
    assert result["models"]["a"]["AP"]["mean"] is None
    assert result["models"]["a"]["AP"]["interval"] is None


def test_difference_of_runs_resampled_one_by_one_is_that_of_compare(three_runs):
    truth, runs = three_runs
    a, b, c = (resampled_ap(truth, run, num_resamples=50) for run in runs)
    found = difference(np.stack([a, b]), c[None])
    together = compare(truth, {"few": runs[:2], "many": runs[2:]}, num_resamples=50)
    assert found == together["differences"][0]["AP"]
    assert a[0] == pytest.approx(evaluate(truth, runs[0])["AP"]) and len(set(a[1:])) > 1
