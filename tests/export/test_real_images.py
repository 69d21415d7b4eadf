"""The SavedModel on real photos: against the Keras predictor, and against PIL and NumPy."""

import dataclasses
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kd_tf.data.images import check_image
from kd_tf.data.predict import predict
from kd_tf.data.sources import open_source
from kd_tf.detectors import zoo
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.export.exported import load_exported, to_detections
from kd_tf.export.meta import ExportMeta
from kd_tf.export.saved_model import export_saved_model
from kd_tf.geometry.detections import Detections
from kd_tf.geometry.letterbox import boxes_to_input, resize_image
from kd_tf.specs import DATA_KINDS, parse
from tests.export import images

pytestmark = pytest.mark.slow

SETS = {
    "coco_tiny": "coco:{}/coco_tiny/annotations/instances_val2017.json?images={}/coco_tiny/val2017",
    "blood_cells": "voc:{}/blood_cells/test",
}
YOLO, RETINANET = "yolov8_tiny", "retinanet_tiny"
CASES = [("coco_tiny", YOLO), ("blood_cells", YOLO), ("blood_cells", RETINANET)]
IMAGE_SIZE = (128, 160)
FLOOR, IOU, MOST = 0.01, 0.65, 100
# A RetinaNet learns more slowly; on MobileNetV3 it has next to no AP even after 160 steps.
STEPS = {YOLO: 80, RETINANET: 160}
BATCH_SIZE, MAX_BOXES = 8, 40


def _source(name: str, real_data):
    return open_source(parse(SETS[name].replace("{}", str(real_data)), DATA_KINDS))


def _trained(source, name: str):
    """A network that has seen the images it is tested on: enough for an AP that can differ."""
    network = zoo.build(name, class_names=source.class_names, image_size=IMAGE_SIZE)
    inputs, boxes, classes = [], [], []
    for item in source.items:
        image = check_image(source.read_bytes(item))
        size, labels = (image.height, image.width), source.read_labels(item)[0]
        pixels = tf.constant(image.pixels)
        inputs.append(resize_image(pixels, IMAGE_SIZE, resize="letterbox").numpy())
        moved = boxes_to_input(labels.boxes, size, IMAGE_SIZE, resize="letterbox")
        boxes.append(np.resize(moved, (MAX_BOXES, 4)) if len(moved) else np.zeros((MAX_BOXES, 4)))
        row = np.full(MAX_BOXES, -1)
        row[: len(moved)] = labels.classes[:MAX_BOXES]
        classes.append(row)
    boxes, classes = np.array(boxes, np.float32), np.array(classes, np.int32)
    step = _step(network)
    rng = np.random.default_rng(0)
    for _ in range(STEPS[name]):
        rows = rng.choice(len(inputs), BATCH_SIZE, replace=False)
        step(np.array(inputs)[rows].astype(np.float32), boxes[rows], classes[rows])
    return network


def _step(network):
    """One update by Adam, compiled."""
    optimizer = keras.optimizers.Adam(2e-3, global_clipnorm=10.0)
    optimizer.build(network.model.trainable_variables)
    shape = (BATCH_SIZE, MAX_BOXES)
    rest = {
        "weights": tf.ones(shape),
        "ignore": tf.zeros(shape, tf.bool),
        "judged": tf.ones((BATCH_SIZE, len(network.class_names)), tf.bool),
    }

    @tf.function
    def step(inputs, boxes, classes):
        with tf.GradientTape() as tape:
            outputs = network.model(inputs, training=True)
            sums = network.loss(outputs, {"boxes": boxes, "classes": classes, **rest})
            normalizer = tf.maximum(sums.pop("normalizer"), 1.0)
            loss = tf.add_n(list(sums.values())) / normalizer
        variables = network.model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    return step


def _odd_files(encoded: bytes) -> list[bytes]:
    """The first photo as EXIF-turned JPEG, as grey JPEG and as RGBA PNG."""
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    transparent = picture.copy()
    transparent.putalpha(128)
    return [
        images.jpeg(np.asarray(picture), orientation=8, order="MM"),
        images.encode(picture.convert("L"), "JPEG"),
        images.encode(transparent, "PNG"),
    ]


def _example(encoded: bytes) -> bytes:
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={"image/encoded": value})
    return tf.train.Example(features=features).SerializeToString()


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def exported(request, real_data, tmp_path_factory):
    """(source, network, detector loaded from its SavedModel) for each set and family."""
    name, network_name = request.param
    source = _source(name, real_data)
    network = _trained(source, network_name)
    thresholds = (0.5,) * len(source.class_names)
    meta = ExportMeta(source.class_names, IMAGE_SIZE, thresholds, FLOOR, IOU, MOST)
    folder = str(tmp_path_factory.mktemp(name))
    export_saved_model(network, folder, meta=meta)
    return source, network, load_exported(folder)


@pytest.fixture(scope="module")
def keras_detector(exported):
    _, network, _ = exported
    rules = {"score_floor": FLOOR, "iou_threshold": IOU, "max_detections": MOST}
    return NetworkDetector(network, batch_size=1, **rules)


def _ap(source, detector) -> float:
    found = ((one.item.image_id, one.detections) for one in predict(detector, source, batch_size=1))
    return evaluate(ground_truth(source, class_names=source.class_names), found)["AP"]


def test_three_signatures_equal_the_keras_predictor(exported, keras_detector):
    source, _, detector = exported
    listing = dict(enumerate(source.read_bytes(item) for item in source.items))
    listing |= dict(enumerate(_odd_files(listing[0]), start=len(listing)))
    assert len(listing) >= 53
    everything = dataclasses.replace(
        source,
        items=[dataclasses.replace(source.items[0], image_id=i) for i in listing],
        read_bytes=lambda item: listing[item.image_id],
    )
    for seen in predict(keras_detector, everything, batch_size=1):
        encoded = listing[seen.row]
        (by_file,), (status,) = detector.detect_files([encoded])
        assert status == "ok"
        tensor = detector._signatures["tf_example"](examples=tf.constant([_example(encoded)]))
        pixels = check_image(encoded).pixels
        for found in (by_file, _of(tensor), detector.detect(pixels[np.newaxis])[0]):
            # `predict` leaves out boxes without area once they are clipped.
            thick = (found.boxes[:, 2:] - found.boxes[:, :2] > 0.01).all(axis=1)
            assert len(found[thick]) == len(seen.detections)
            np.testing.assert_allclose(found[thick].boxes, seen.detections.boxes, atol=0.01)
            np.testing.assert_allclose(found[thick].scores, seen.detections.scores, atol=1e-5)
            np.testing.assert_array_equal(found[thick].classes, seen.detections.classes)


def test_ap_equals_the_keras_predictors(exported, keras_detector):
    source, _, detector = exported
    expected = _ap(source, keras_detector)
    assert expected > 0.005
    assert _ap(source, detector) == pytest.approx(expected, abs=1e-6)


def test_ap_equals_that_of_pil_and_numpy_around_the_raw_heads(exported, keras_detector):
    source, network, _ = exported
    found = (
        (item.image_id, _independent(source.read_bytes(item), network)) for item in source.items
    )
    truth = ground_truth(source, class_names=source.class_names)
    expected = _ap(source, keras_detector)
    assert evaluate(truth, found)["AP"] == pytest.approx(expected, abs=0.002)


def _of(outputs) -> Detections:
    return to_detections(outputs)[0]


def _independent(encoded: bytes, network) -> Detections:
    """PIL + NumPy around the raw heads: written from the descriptions, not from the code."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    width, height = picture.size
    scale = min(IMAGE_SIZE[0] / height, IMAGE_SIZE[1] / width)
    new_height, new_width = round(height * scale), round(width * scale)
    top, left = (IMAGE_SIZE[0] - new_height) // 2, (IMAGE_SIZE[1] - new_width) // 2
    canvas = Image.new("RGB", IMAGE_SIZE[::-1], (114, 114, 114))
    canvas.paste(picture.resize((new_width, new_height), Image.Resampling.BILINEAR), (left, top))
    heads = network.model(np.asarray(canvas, np.float32)[np.newaxis], training=False)
    decode = _retinanet_boxes if network.name == RETINANET else _yolo_boxes
    boxes = decode(heads["boxes"].numpy()[0].astype(np.float64))
    boxes = np.clip(boxes, 0, [IMAGE_SIZE[1], IMAGE_SIZE[0]] * 2)
    scores = 1 / (1 + np.exp(-heads["classes"].numpy()[0].astype(np.float64)))
    found = _greedy(boxes, scores)
    corners = np.array([box for box, _, _ in found]).reshape(-1, 4)
    ratio = np.array([width / new_width, height / new_height] * 2)
    corners = np.clip((corners - [left, top, left, top]) * ratio, 0, [width, height] * 2)
    return Detections(
        corners.astype(np.float32),
        np.array([score for _, score, _ in found], np.float32),
        np.array([label for _, _, label in found], np.int32),
    )


def _yolo_boxes(outputs: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom of each cell's centre: the mean of 16 bins, in cells."""
    bins = outputs.reshape(-1, 4, 16)
    bins = np.exp(bins - bins.max(-1, keepdims=True))
    edges = (bins / bins.sum(-1, keepdims=True)) @ np.arange(16)
    boxes, anchor = [], 0
    for stride in (8, 16, 32):
        for row in range(IMAGE_SIZE[0] // stride):
            for column in range(IMAGE_SIZE[1] // stride):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                x1, y1, x2, y2 = np.array([-1, -1, 1, 1]) * edges[anchor] * stride + [x, y, x, y]
                boxes.append([x1, y1, x2, y2])
                anchor += 1
    return np.array(boxes)


def _retinanet_boxes(offsets: np.ndarray) -> np.ndarray:
    """Nine anchors a cell: three sizes, each flat, square and tall."""
    boxes, anchor = [], 0
    for stride in (8, 16, 32, 64, 128):
        for row in range(-(-IMAGE_SIZE[0] // stride)):
            for column in range(-(-IMAGE_SIZE[1] // stride)):
                for side in (stride, stride * 2 ** (1 / 3), stride * 2 ** (2 / 3)):
                    for aspect in (0.5, 1.0, 2.0):
                        width, height = side / aspect**0.5, side * aspect**0.5
                        dx, dy, dw, dh = offsets[anchor]
                        x = (column + 0.5) * stride + dx * width
                        y = (row + 0.5) * stride + dy * height
                        w, h = width * np.exp(dw), height * np.exp(dh)
                        boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                        anchor += 1
    assert anchor == len(offsets)
    return np.array(boxes)


def _greedy(boxes: np.ndarray, scores: np.ndarray) -> list[tuple[np.ndarray, float, int]]:
    """(box, score, class), best first: class by class over the 400 best pairs of all."""
    floor = max(np.sort(scores.reshape(-1))[-400], FLOOR)
    kept = []
    for label in range(scores.shape[1]):
        mine: list[tuple[np.ndarray, float, int]] = []
        for anchor in np.argsort(-scores[:, label], kind="stable"):
            if scores[anchor, label] < floor:
                break
            if all(_iou(boxes[anchor], box) <= IOU for box, _, _ in mine):
                mine.append((boxes[anchor], scores[anchor, label], label))
        kept += mine
    return sorted(kept, key=lambda row: -row[1])[:MOST]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0
