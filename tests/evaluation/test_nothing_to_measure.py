"""Evaluation data in which there is nothing to find, or nobody found anything."""

import dataclasses
import json
import re

import numpy as np
import pytest

from kd_tf.evaluation.comparison import compare
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.evaluation.measure import measure, write_measured
from kd_tf.evaluation.report.load import load_report
from kd_tf.evaluation.report.render import to_html
from kd_tf.geometry.detections import Detections, no_detections
from tests.evaluation.datasets import annotate, coco_dataset, noisy_predictions, source_from_coco
from tests.evaluation.report.workdirs import make_workdir, opened


def _source(*, num_images=3, objects=0, crowd=0, names=("a", "b")):
    instances = coco_dataset(num_images=num_images, names=list(names))
    for number in range(objects):
        annotate(instances, number % num_images, 1, [10 + 40 * number, 20, 30, 30], iscrowd=crowd)
    return source_from_coco(instances)


def _nobody_judged(source):
    def read_labels(item):
        labels, rejects = source.read_labels(item)
        return dataclasses.replace(labels, judged=np.zeros(0, np.int32)), rejects

    return dataclasses.replace(source, read_labels=read_labels)


CASES = [
    pytest.param(_source(), True, id="no_objects"),
    pytest.param(_source(), False, id="no_objects_and_nothing_found"),
    pytest.param(_source(objects=2), False, id="nothing_found"),
    pytest.param(_source(objects=2, crowd=1), True, id="crowds_alone"),
    pytest.param(_nobody_judged(_source()), True, id="nobody_judged"),
    pytest.param(_source(num_images=1, objects=1), True, id="one_image"),
    pytest.param(_source(names=("a",), objects=1), True, id="one_class"),
    pytest.param(_source(num_images=1, names=("a",)), True, id="one_image_one_class_no_object"),
]


def _found(source, finds):
    if not finds:
        return {item.image_id: no_detections() for item in source.items}
    return noisy_predictions(source, seed=1)


@pytest.mark.parametrize(("source", "finds"), CASES)
def test_measure_gives_numbers_or_none(tmp_path, source, finds):
    truth = ground_truth(source, class_names=source.class_names)
    found = _found(source, finds)
    measured = measure(truth, found.items(), score_thresholds=[0.5] * len(source.class_names))
    write_measured(truth, measured, folder=str(tmp_path))
    text = json.dumps(measured.metrics, allow_nan=False)
    has_objects = bool((~truth.is_crowd).any())
    assert (measured.metrics["AP"] is None) == (not has_objects)
    assert (measured.metrics["tide"]["AP50"] is None) == (not has_objects)
    assert "AP" in text
    result = compare(truth, {"x": [measured.found], "y": [measured.found]}, num_resamples=20)
    json.dumps(result, allow_nan=False)
    if has_objects:
        assert result["differences"][0]["AP"]["mean"] == 0.0


@pytest.mark.parametrize(
    "skill",
    [pytest.param((0.0, 0.7, 0.0), id="nothing_found"), pytest.param((0.0, 1.0, 2.0), id="wrong")],
)
def test_report_of_models_that_find_nothing(tmp_path, skill):
    folder = str(tmp_path / "run")
    make_workdir(folder, num_train=6, num_eval=3, skills={"baseline": skill, "finetune": skill})
    page = to_html(load_report([folder], open_source=opened))
    assert "<html" in page
    assert not re.search(r"\bnan\b", re.sub(r"data:[^\"]*", "", page), re.IGNORECASE)


def test_detections_where_nobody_judged_are_no_errors():
    source = _nobody_judged(_source())
    truth = ground_truth(source, class_names=source.class_names)
    one = Detections(
        np.array([[1, 2, 30, 40]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
    )
    found = {item.image_id: one for item in source.items}
    measured = measure(truth, found.items(), score_thresholds=[0.5, 0.5])
    assert measured.metrics["num_unjudged_detections"] == 3
    assert measured.metrics["num_detections"] == 0
