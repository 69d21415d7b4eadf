"""Classes of which not every object of an image is marked, scored as LVIS has it."""

import dataclasses

import numpy as np
import pytest

from kd_tf.evaluation.average_precision import average_precision, rank
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.collected import collect
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.evaluation.matching import match
from kd_tf.evaluation.operating_point import operating_point
from kd_tf.evaluation.tide import tide
from kd_tf.geometry.detections import Detections
from tests.evaluation.datasets import (
    annotate,
    coco_dataset,
    noisy_predictions,
    random_dataset,
    source_from_coco,
)


def _truth(instances: dict, judged: dict[int, list[int]]):
    """The ground truth; `judged` by image id, all classes elsewhere."""
    source = source_from_coco(instances)

    def read_labels(item):
        labels, rejects = source.read_labels(item)
        classes = judged.get(item.image_id)
        classes = None if classes is None else np.array(classes, np.int32)
        return dataclasses.replace(labels, judged=classes), rejects

    partly = dataclasses.replace(source, read_labels=read_labels)
    return ground_truth(partly, class_names=source.class_names)


def _found(*rows: tuple) -> Detections:
    """Rows of (x, score, class): boxes of 10 by 10 px, at the upper edge or sticking out of it."""
    table = np.array(rows, np.float32)
    x, y = table[:, 0], np.full(len(rows), -2)
    boxes = np.stack([x, y, x + 10, y + 10], axis=1).astype(np.float32)
    return Detections(boxes, table[:, 1], table[:, 2].astype(np.int32))


@pytest.fixture
def small():
    """Of class a the first image has one object and maybe more; nobody looked for b there."""
    instances = coco_dataset(num_images=2, names=["a", "b"])
    for image in range(2):
        annotate(instances, image, 1, [0, -2, 10, 10])
    annotate(instances, 1, 2, [50, -2, 10, 10])
    first, second = (image["id"] for image in instances["images"])
    predictions = [
        (first, _found((30, 0.95, 0), (0, 0.9, 0), (50, 0.99, 1))),
        (second, _found((30, 0.8, 0), (0, 0.7, 0), (50, 0.6, 1))),
    ]
    return _truth(instances, {first: []}), predictions


def test_evaluate_hits_and_objects_count_and_other_detections_do_not(small):
    metrics = evaluate(*small)
    # Of a .95 is ignored, .9 right, .8 wrong, .7 right: precision 1 up to recall 1/2 (51 of 101
    # points), then 2/3. Of b .99 is left out.
    expected = (51 + 50 * 2 / 3) / 101
    assert metrics["per_class"] == {"a": pytest.approx(expected), "b": pytest.approx(1.0)}
    assert (metrics["num_objects"], metrics["num_unjudged_detections"]) == (3, 1)
    assert metrics["AR100"] == 1.0


def test_operating_point_and_tide_agree(small):
    truth, predictions = small
    found = collect(truth, predictions)
    point = operating_point(truth, found, score_thresholds=[0.5, 0.5])
    assert [point["per_class"]["a"][key] for key in ("tp", "fp", "fn")] == [2, 1, 0]
    assert point["confusion"]["counts"] == [[2, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert tide(truth, found)["AP50"] == pytest.approx(evaluate(truth, found)["AP50"])


@pytest.mark.parametrize("seed", range(4))
def test_matching_equals_the_scorer(seed):
    # The scorer sees a crowd everywhere, our matching knows the rule: two ways to one number.
    instances = random_dataset(seed)
    source, rng = source_from_coco(instances), np.random.default_rng(seed)
    judged = {
        image["id"]: np.flatnonzero(rng.random(4) < 0.5).tolist()
        for image in instances["images"]
        if rng.random() < 0.7
    }
    truth = _truth(instances, judged)
    found = collect(truth, noisy_predictions(source, seed=seed, decimals=6).items())
    assert len(truth.not_exhaustive) > 5
    matches = match(truth, found)
    weights = np.ones((1, truth.num_images), np.int64)
    aps = {
        name: average_precision(ranking, image_weights=weights).mean()
        for name, ranking in zip(truth.class_names, rank(truth, found, matches), strict=True)
    }
    assert (matches.ignored & (matches.objects < 0)).any()
    assert evaluate(truth, found)["per_class"] == pytest.approx(aps, abs=1e-12)
