import numpy as np
import pytest

from kd_tf.evaluation.average_precision import average_precision, rank
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.collected import collect
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.evaluation.matching import match
from kd_tf.geometry.detections import Detections
from tests.evaluation.datasets import (
    annotate,
    coco_dataset,
    noisy_predictions,
    random_dataset,
    source_from_coco,
)


def scored(instances: dict, predictions: dict):
    source = source_from_coco(instances)
    truth = ground_truth(source, class_names=source.class_names)
    return truth, collect(truth, predictions.items())


def detections(*rows: tuple) -> Detections:
    """Rows of (x, y, width, height, score, class)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(
        boxes.astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int32)
    )


def test_match_takes_best_free_object_then_crowd():
    instances = coco_dataset(num_images=1, names=["a"])
    annotate(instances, 0, 1, [0, 0, 100, 100], iscrowd=1)
    annotate(instances, 0, 1, [10, 10, 20, 20])
    image_id = instances["images"][0]["id"]
    found = detections(
        (10, 10, 20, 20, 0.9, 0),  # takes the object
        (10, 10, 20, 20, 0.8, 0),  # the object is taken: the crowd holds it
        (50, 50, 20, 20, 0.7, 0),  # inside the crowd as well: one crowd takes many
        (200, 200, 9, 9, 0.6, 0),  # nothing there
    )
    truth, collected = scored(instances, {image_id: found})
    matches = match(truth, collected, iou_thresholds=np.array([0.5]))
    assert matches.objects.tolist() == [[1, 0, 0, -1]]
    assert matches.true_positives().tolist() == [[True, False, False, False]]
    assert matches.false_positives().tolist() == [[False, False, False, True]]


def test_match_counts_100_per_class_and_image():
    instances = coco_dataset(num_images=1, names=["a"])
    annotate(instances, 0, 1, [10, 10, 20, 20])
    image_id = instances["images"][0]["id"]
    rows = [(200, 200, 9, 9, 0.5, 0)] * 100 + [(10, 10, 20, 20, 0.4, 0)]
    truth, collected = scored(instances, {image_id: detections(*rows)})
    matches = match(truth, collected)
    assert matches.counted.sum() == 100
    assert not matches.true_positives().any()


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_of_matches_equals_coco(seed):
    """The second implementation agrees with the library that gives the numbers."""
    instances = random_dataset(seed)
    predictions = noisy_predictions(source_from_coco(instances), seed=100 + seed, decimals=seed % 3)
    truth, found = scored(instances, predictions)
    metrics = evaluate(truth, found)
    ones = np.ones((1, truth.num_images), np.int64)
    table = np.array(
        [
            average_precision(one, image_weights=ones)[0]
            for one in rank(truth, found, match(truth, found))
        ]
    )
    per_class = dict(zip(truth.class_names, table.mean(axis=1), strict=True))
    assert per_class == pytest.approx(metrics["per_class"], abs=1e-12)
    assert table.mean() == pytest.approx(metrics["AP"], abs=1e-12)
    assert table[:, 0].mean() == pytest.approx(metrics["AP50"], abs=1e-12)


def test_average_precision_weights_equal_copies_of_images():
    instances = random_dataset(30, num_images=6)
    predictions = noisy_predictions(source_from_coco(instances), seed=31, decimals=7)
    weights = np.array([2, 0, 1, 3, 0, 1])
    truth, found = scored(instances, predictions)
    weighted = [
        average_precision(one, image_weights=weights[None])[0]
        for one in rank(truth, found, match(truth, found))
    ]
    copies, copied = {**instances, "images": [], "annotations": []}, {}
    rows = {image["id"]: row for row, image in enumerate(instances["images"])}
    by_row = {row: int(np.flatnonzero(truth.image_ids == key)[0]) for key, row in rows.items()}
    for image in instances["images"]:
        for copy in range(weights[by_row[rows[image["id"]]]]):
            new_id = image["id"] * 10 + copy
            copies["images"].append({**image, "id": new_id})
            copied[new_id] = predictions[image["id"]]
            copies["annotations"] += [
                {**a, "image_id": new_id, "id": 0}
                for a in instances["annotations"]
                if a["image_id"] == image["id"]
            ]
    expected = evaluate(*scored(copies, copied))
    assert np.nanmean(weighted) == pytest.approx(expected["AP"], abs=1e-12)
