import time

import numpy as np
import pytest

from kd_tf import documents
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.evaluation.measure import Timed, measure, write_measured, write_metrics
from kd_tf.geometry.detections import Needs, no_detections
from tests.evaluation.datasets import noisy_predictions, random_dataset, source_from_coco


class Sleepy:
    """Sleeps on its first call as a network does that compiles, then answers at once."""

    def __init__(self):
        self.calls = 0
        self.sizes = []

    def needs(self):
        return Needs(("a",), 8, 8)

    def detect(self, images):
        self.calls += 1
        self.sizes.append(len(images))
        time.sleep(0.3 if self.calls == 1 else 0.01)
        return [no_detections() for _ in images]


def test_timed_leaves_the_first_call_out():
    timed = Timed(Sleepy())
    assert timed.speed() is None
    for size in (4, 4, 4, 2):
        assert len(timed.detect(np.zeros((size, 8, 8, 3), np.uint8))) == size
    speed = timed.speed()
    assert timed.needs().class_names == ("a",)
    assert speed["batch_size"] == 4
    assert 10 <= speed["latency_p50_ms"] <= speed["latency_p95_ms"] < 150
    assert 10 / 0.45 < speed["images_per_s"] <= 10 / 0.03


def test_latency_is_that_of_single_images():
    sleepy = Sleepy()
    timed = Timed(sleepy)
    for _ in range(3):
        timed.detect(np.zeros((4, 8, 8, 3), np.uint8))
    sleepy.sizes.clear()
    speed = timed.speed()
    # One call more than is counted: it may compile.
    assert sleepy.sizes == [1] * (speed["num_singles"] + 1)
    assert speed["num_singles"] >= 5


def test_latency_of_calls_with_one_image_each_needs_no_more_calls():
    sleepy = Sleepy()
    timed = Timed(sleepy)
    for _ in range(3):
        timed.detect(np.zeros((1, 8, 8, 3), np.uint8))
    assert timed.speed()["num_singles"] == 2
    assert len(sleepy.sizes) == 3


@pytest.fixture(scope="module")
def measured():
    source = source_from_coco(random_dataset(60))
    truth = ground_truth(source, class_names=source.class_names)
    predictions = noisy_predictions(source, seed=61)
    return truth, predictions, measure(truth, predictions.items(), score_thresholds=[0.5] * 4)


def test_measure_holds_what_the_parts_give(measured):
    truth, predictions, result = measured
    assert {**evaluate(truth, predictions.items())}.items() <= result.metrics.items()
    assert result.metrics["operating_point"]["tp"] > 0
    assert set(result.metrics["tide"]) == {"AP50", "Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"}
    assert "speed" not in result.metrics


def test_write_measured_files_hold_the_numbers(measured, tmp_path):
    truth, _, result = measured
    write_measured(truth, result, folder=str(tmp_path / "student"))
    write_metrics({"student": result.metrics}, folder=str(tmp_path))
    results = documents.read_json(str(tmp_path / "student" / "detections.json"))
    assert len(results) == result.metrics["num_detections"]
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    assert (
        documents.read_json(str(tmp_path / "metrics.json"))["models"]["student"]["AP"]
        == (result.metrics["AP"])
    )
    assert documents.read_json(str(tmp_path / "student" / "curves.json")) == result.curves
