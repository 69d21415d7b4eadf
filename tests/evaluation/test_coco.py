"""Every number against pycocotools 2.0.11, called directly on the same JSON files."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kd_tf.errors import UserError
from kd_tf.evaluation.coco import NAMES, evaluate
from kd_tf.evaluation.collected import collect, read_results, write_results
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.geometry.detections import Detections, no_detections
from tests.evaluation.datasets import (
    annotate,
    coco_dataset,
    noisy_predictions,
    random_dataset,
    source_from_coco,
)


def reference(instances: dict, results_path: str, tmp_path) -> tuple[list, dict]:
    """pycocotools on two JSON files; only the annotation ids are renumbered from 1."""
    renumbered = {
        **instances,
        "annotations": [
            {**row, "id": index + 1} for index, row in enumerate(instances["annotations"])
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(renumbered))
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO(str(tmp_path / "instances.json"))
        with open(results_path) as file:
            empty = not json.load(file)
        # pycocotools' own loadRes fails on an empty file (list index out of range).
        found = COCO() if empty else annotated.loadRes(results_path)
        judge = COCOeval(annotated, found, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, -1]
    per_class = {
        category["name"]: precision[:, :, judge.params.catIds.index(category["id"])]
        for category in instances["categories"]
    }
    return list(judge.stats), {
        name: float(np.mean(values[values > -1])) if (values > -1).any() else None
        for name, values in per_class.items()
    }


def assert_same_as_pycocotools(instances: dict, predictions: dict, tmp_path) -> dict:
    """Scores with kd_tf, writes the results file, scores it with pycocotools; all numbers."""
    source = source_from_coco(instances)
    truth = ground_truth(source, class_names=source.class_names)
    found = collect(truth, predictions.items())
    path = str(tmp_path / "detections.json")
    write_results(truth, found, path=path)
    stats, per_class = reference(instances, path, tmp_path)

    metrics = evaluate(truth, found)

    expected = [None if value == -1 else value for value in stats]
    for name, value in zip(NAMES, expected, strict=True):
        assert metrics[name] == pytest.approx(value, abs=1e-9), name
    assert list(metrics["per_class"]) == list(per_class)
    for name, value in per_class.items():
        assert metrics["per_class"][name] == pytest.approx(value, abs=1e-9), name
    assert metrics == evaluate(truth, read_results(truth, path=path)) | {
        "num_images_predicted": metrics["num_images_predicted"]
    }
    return metrics


def sparse() -> tuple[dict, dict]:
    instances = random_dataset(1, ids=[1, 17, 18, 90])
    return instances, noisy_predictions(source_from_coco(instances), seed=2)


def empty_file() -> tuple[dict, dict]:
    instances = random_dataset(3)
    return instances, {}


def images_without_detections() -> tuple[dict, dict]:
    instances = random_dataset(4)
    found = noisy_predictions(source_from_coco(instances), seed=5)
    return instances, {key: found[key] for key in list(found)[::2]}


def one_image() -> tuple[dict, dict]:
    instances = coco_dataset(num_images=1, names=["a", "b"])
    annotate(instances, 0, 1, [10, 10, 50, 50])
    annotate(instances, 0, 2, [100, 100, 20, 20])
    return instances, noisy_predictions(source_from_coco(instances), seed=6)


def one_class_with_id_0() -> tuple[dict, dict]:
    instances = random_dataset(7, num_classes=1, ids=[0])
    return instances, noisy_predictions(source_from_coco(instances), seed=8)


def crowded_image() -> tuple[dict, dict]:
    """300 detections on one image, of which COCO looks at the best 100 of each class."""
    instances = random_dataset(9, num_images=2, num_classes=2)
    return instances, noisy_predictions(source_from_coco(instances), seed=10, extra=300)


def class_without_truth() -> tuple[dict, dict]:
    instances = random_dataset(11, num_classes=3)
    instances["annotations"] = [a for a in instances["annotations"] if a["category_id"] != 2]
    source = source_from_coco(instances)
    return instances, noisy_predictions(source, seed=12, extra=8)


def class_without_detections() -> tuple[dict, dict]:
    instances = random_dataset(13)
    found = noisy_predictions(source_from_coco(instances), seed=14)
    return instances, {key: one[one.classes != 1] for key, one in found.items()}


def ties() -> tuple[dict, dict]:
    """Every score is 0, 0.5 or 1, so order alone decides."""
    instances = random_dataset(15)
    found = noisy_predictions(source_from_coco(instances), seed=16, decimals=0)
    half = {
        key: Detections(one.boxes, np.where(one.scores > 0, one.scores, 0.5), one.classes)
        for key, one in found.items()
    }
    return instances, half


def only_crowds() -> tuple[dict, dict]:
    instances = coco_dataset(num_images=2, names=["a"])
    annotate(instances, 0, 1, [10, 10, 50, 50], iscrowd=1)
    return instances, noisy_predictions(source_from_coco(instances), seed=17)


@pytest.mark.parametrize(
    "case",
    [
        sparse,
        empty_file,
        images_without_detections,
        one_image,
        one_class_with_id_0,
        crowded_image,
        class_without_truth,
        class_without_detections,
        ties,
        only_crowds,
    ],
    ids=lambda case: case.__name__,
)
def test_evaluate_equals_pycocotools(case, tmp_path):
    instances, predictions = case()
    metrics = assert_same_as_pycocotools(instances, predictions, tmp_path)
    assert metrics["num_images"] == len(instances["images"])


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_evaluate_coco_photos_equals_pycocotools(split, real_data, tmp_path):
    path = next((real_data / "coco_tiny").rglob(f"instances_{split}*.json"))
    instances = json.loads(path.read_text())
    predictions = noisy_predictions(source_from_coco(instances), seed=20)
    metrics = assert_same_as_pycocotools(instances, predictions, tmp_path)
    assert metrics["num_images"] == 50
    assert 0.05 < metrics["AP"] < 0.9


def test_evaluate_perfect_detections_give_1_and_half_the_images_give_half(tmp_path):
    instances = random_dataset(21)
    for annotation in instances["annotations"]:
        annotation["iscrowd"] = 0
    source = source_from_coco(instances)
    truth = ground_truth(source, class_names=source.class_names)
    labels = {item.image_id: source.read_labels(item)[0] for item in source.items}
    perfect = [
        (key, Detections(one.boxes, np.ones(len(one.classes), np.float32), one.classes))
        for key, one in labels.items()
    ]
    assert evaluate(truth, perfect)["AP"] == pytest.approx(1.0)
    # KerasCV's metric leaves out images without detections and would say 1.0 here, too.
    half = evaluate(truth, perfect[::2])
    assert half["AP"] == pytest.approx(half["AR100"], abs=0.02)
    assert 0.3 < half["AP"] < 0.7


def test_evaluate_blood_cells_equals_pycocotools(real_data, tmp_path):
    """The 60 test images, boxes read from the XML files here, by hand."""
    instances = _blood_cells(real_data / "blood_cells")
    predictions = noisy_predictions(source_from_coco(instances), seed=22)
    metrics = assert_same_as_pycocotools(instances, predictions, tmp_path)
    assert metrics["num_images"] == 60
    assert metrics["num_objects"] == 792 + 61 + 55 - 1  # one box has no area


def _blood_cells(folder) -> dict:
    from defusedxml import ElementTree

    names = ["Platelets", "RBC", "WBC"]
    paths = sorted((folder / "test").rglob("*.xml"))
    instances = coco_dataset(num_images=len(paths), names=names)
    for image, path in enumerate(paths):
        for thing in ElementTree.parse(path).iter("object"):
            box = [float(thing.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax")]
            width, height = box[2] - box[0], box[3] - box[1]
            if width > 0 and height > 0:
                number = names.index(thing.find("name").text) + 1
                annotate(instances, image, number, [box[0], box[1], width, height])
    return instances


def test_ground_truth_maps_classes_by_name_and_counts_unknown_ones():
    instances = coco_dataset(num_images=1, names=["cat", "dog", "eel"], ids=[3, 8, 9])
    for category in (3, 8, 8, 9):
        annotate(instances, 0, category, [1, 2, 3, 4])
    truth = ground_truth(source_from_coco(instances), class_names=["dog", "ant", "cat"])
    assert truth.classes.tolist() == [2, 0, 0]
    assert truth.category_ids == (8, 10, 3)
    assert truth.unknown_classes == {"eel": 1}
    assert truth.boxes[0].tolist() == [1.0, 2.0, 4.0, 6.0]


def test_ground_truth_sorts_images_and_leaves_out_skipped_ones():
    instances = coco_dataset(num_images=3, names=["a"])  # ids 24, 17, 10
    for image in range(3):
        annotate(instances, image, 1, [image, 0, 5, 5])
    truth = ground_truth(source_from_coco(instances), class_names=["a"], skip={17})
    assert truth.image_ids.tolist() == [10, 24]
    assert truth.boxes[:, 0].tolist() == [2.0, 0.0]
    assert truth.rows(1) == slice(1, 2)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        pytest.param([(5, no_detections())], "image id 5, which the data set lacks", id="unknown"),
        pytest.param([(10, no_detections())] * 2, "Two predictions", id="twice"),
        pytest.param(
            [(10, Detections(np.zeros((1, 4)), np.ones(1), np.array([1])))],
            r"class indices 1\.\.1 are outside the class list, 0\.\.0",
            id="class",
        ),
        pytest.param(
            [(10, Detections(np.full((1, 4), np.nan), np.ones(1), np.array([0])))],
            "NaN or infinite",
            id="nan",
        ),
        pytest.param(
            [(10, Detections(np.zeros((2, 4)), np.ones(1), np.array([0])))],
            "2 boxes, 1 scores and 1 classes",
            id="lengths",
        ),
    ],
)
def test_collect_refuses(predictions, message):
    instances = coco_dataset(num_images=1, names=["a"])
    truth = ground_truth(source_from_coco(instances), class_names=["a"])
    with pytest.raises(UserError, match=message):
        collect(truth, predictions)


def test_collect_leaves_out_classes_nobody_could_have_marked():
    instances = coco_dataset(num_images=2, names=["a", "b"])
    for image in range(2):
        annotate(instances, image, 1, [0, 0, 10, 10])
    annotate(instances, 0, 2, [50, 0, 10, 10])
    source = source_from_coco(instances)
    second = instances["images"][1]["id"]

    def read_labels(item):
        labels, rejects = source.read_labels(item)
        only_a = np.array([0], np.int32) if item.image_id == second else None
        return dataclasses.replace(labels, judged=only_a), rejects

    partly = dataclasses.replace(source, read_labels=read_labels)
    truth = ground_truth(partly, class_names=source.class_names)
    both = Detections(
        np.array([[0, 0, 10, 10], [50, 0, 60, 10]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([0, 1], np.int32),
    )
    metrics = evaluate(truth, [(image["id"], both) for image in instances["images"]])
    # In the second image nobody looked for b: that detection is neither right nor wrong.
    assert metrics["num_unjudged_detections"] == 1
    assert metrics["AP"] == 1.0
