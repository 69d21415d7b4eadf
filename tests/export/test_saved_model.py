"""The SavedModel against the Keras network it was made from, and on its own."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.images import check_image
from kd_tf.export.exported import load_exported, read_export_meta
from kd_tf.export.saved_model import export_saved_model
from tests.export import images

NUM_ROWS = 100


@pytest.fixture(scope="module")
def signatures(saved_model):
    """The loaded signatures; the module stays alive with them."""
    module = tf.saved_model.load(saved_model)
    yield module.signatures


def _files() -> list[bytes]:
    return [
        images.jpeg(images.pixels(120, 160, seed=1)),
        images.jpeg(images.pixels(90, 200, seed=2), orientation=6),
        images.encode(images.pixels(64, 96, seed=3), "PNG"),
        images.encode(images.pixels(33, 20, seed=4)[:, :, 0], "PNG"),
    ]


def _example(encoded: bytes) -> bytes:
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={"image/encoded": value})
    return tf.train.Example(features=features).SerializeToString()


def _rows(outputs: dict[str, tf.Tensor]) -> list[dict[str, np.ndarray]]:
    values = {name: value.numpy() for name, value in outputs.items()}
    return [
        {name: value[row] for name, value in values.items()} for row in range(len(values["status"]))
    ]


def _assert_same(row: dict[str, np.ndarray], image: np.ndarray, keras_predictor) -> None:
    expected = keras_predictor(image)
    count = len(expected)
    assert count > 5
    assert (row["num_detections"], row["status"]) == (count, b"ok")
    np.testing.assert_allclose(row["detection_boxes_xyxy_px"][:count], expected.boxes, atol=0.01)
    np.testing.assert_allclose(row["detection_scores"][:count], expected.scores, atol=1e-5)
    np.testing.assert_array_equal(row["detection_classes"][:count], expected.classes + 1)


def test_serving_default_equals_the_keras_predictor_on_mixed_files(signatures, keras_predictor):
    encoded = _files()
    rows = _rows(signatures["serving_default"](image_bytes=tf.constant(encoded)))
    for row, file in zip(rows, encoded, strict=True):
        _assert_same(row, check_image(file).pixels, keras_predictor)


def test_tf_example_equals_the_keras_predictor(signatures, keras_predictor):
    encoded = _files()
    records = tf.constant([_example(file) for file in encoded])
    rows = _rows(signatures["tf_example"](examples=records))
    for row, file in zip(rows, encoded, strict=True):
        _assert_same(row, check_image(file).pixels, keras_predictor)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (120, 160), (31, 500), (1, 1), (700, 9)])
def test_image_tensor_equals_the_keras_predictor(signatures, keras_predictor, height, width):
    batch = np.stack([images.pixels(height, width, seed=seed) for seed in (5, 6)])
    rows = _rows(signatures["image_tensor"](input_tensor=tf.constant(batch)))
    for row, image in zip(rows, batch, strict=True):
        _assert_same(row, image, keras_predictor)


def test_outputs_agree_with_each_other(signatures, meta):
    encoded = images.jpeg(images.pixels(120, 160, seed=1))
    (row,) = _rows(signatures["serving_default"](image_bytes=tf.constant([encoded])))
    count = int(row["num_detections"])
    x1, y1, x2, y2 = row["detection_boxes_xyxy_px"][:count].T
    expected = np.stack([y1 / 120, x1 / 160, y2 / 120, x2 / 160], axis=1)
    np.testing.assert_allclose(row["detection_boxes"][:count], expected, atol=1e-6)
    assert row["detection_boxes"].min() >= 0.0
    assert row["detection_boxes"].max() <= 1.0
    assert (np.diff(row["detection_scores"]) <= 0).all()
    names = [meta.class_names[int(label) - 1] for label in row["detection_classes"][:count]]
    assert [name.decode() for name in row["detection_class_names"][:count]] == names
    assert set(row["detection_class_names"][count:]) == {b""}
    for name in ("detection_boxes", "detection_boxes_xyxy_px", "detection_classes"):
        assert not row[name][count:].any()


def test_serving_default_with_bad_rows_leaves_their_neighbours_as_they_are(signatures):
    sound = images.jpeg(images.pixels(120, 160, seed=1))
    run = signatures["serving_default"]
    (alone,) = _rows(run(image_bytes=tf.constant([sound])))
    files = [b"", sound, b"garbage", sound[:700], sound]
    rows = _rows(run(image_bytes=tf.constant(files)))
    assert [row["status"].decode() for row in rows] == [
        "empty file",
        "ok",
        "not an image",
        "damaged image",
        "ok",
    ]
    for row in (rows[1], rows[4]):
        np.testing.assert_allclose(
            row["detection_boxes_xyxy_px"], alone["detection_boxes_xyxy_px"], atol=0.01
        )
    for row in (rows[0], rows[2], rows[3]):
        assert row["num_detections"] == 0
        for name in ("detection_boxes", "detection_boxes_xyxy_px", "detection_scores"):
            assert not row[name].any()
        assert not row["detection_classes"].any()
        assert set(row["detection_class_names"]) == {b""}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("serving_default", {"image_bytes": tf.zeros([0], tf.string)}),
        ("image_tensor", {"input_tensor": tf.zeros([0, 7, 5, 3], tf.uint8)}),
        ("tf_example", {"examples": tf.zeros([0], tf.string)}),
    ],
)
def test_signature_without_rows_gives_no_rows(signatures, name, arguments):
    shapes = {key: tuple(value.shape) for key, value in signatures[name](**arguments).items()}
    assert shapes == {
        "detection_boxes": (0, NUM_ROWS, 4),
        "detection_boxes_xyxy_px": (0, NUM_ROWS, 4),
        "detection_scores": (0, NUM_ROWS),
        "detection_classes": (0, NUM_ROWS),
        "detection_class_names": (0, NUM_ROWS),
        "num_detections": (0,),
        "status": (0,),
    }


def test_serving_default_of_12_megapixels_equals_the_keras_predictor(signatures, keras_predictor):
    image = np.repeat(np.repeat(images.pixels(300, 400), 10, axis=0), 10, axis=1)
    encoded = images.encode(image, "PNG", compress_level=1)
    (row,) = _rows(signatures["serving_default"](image_bytes=tf.constant([encoded])))
    _assert_same(row, image, keras_predictor)


_FRESH = """
import json, sys
sys.modules["keras_cv"] = sys.modules["keras"] = sys.modules["kd_tf"] = None  # import fails
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
file = tf.io.read_file(sys.argv[2])
found = model.signatures["serving_default"](image_bytes=file[tf.newaxis])
with open(model.meta_file.asset_path.numpy()) as asset:
    names = json.load(asset)["class_names"]
print(json.dumps({
    "names": names,
    "boxes": found["detection_boxes_xyxy_px"][0].numpy().tolist(),
    "signatures": sorted(model.signatures),
}))
"""


def test_saved_model_loads_in_a_fresh_process_without_keras_or_this_package(
    saved_model, tmp_path, keras_predictor, meta
):
    image = images.pixels(120, 160, seed=1)
    (tmp_path / "image.png").write_bytes(images.encode(image, "PNG"))
    # -I: neither the working directory nor PYTHONPATH is searched.
    done = subprocess.run(
        [sys.executable, "-I", "-c", _FRESH, saved_model, str(tmp_path / "image.png")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    expected = keras_predictor(image).boxes
    np.testing.assert_allclose(seen["boxes"][: len(expected)], expected, atol=0.01)
    assert tuple(seen["names"]) == meta.class_names
    assert seen["signatures"] == ["image_tensor", "serving_default", "tf_example"]


def test_read_export_meta_gives_what_was_written(saved_model, meta):
    assert read_export_meta(saved_model) == meta


@pytest.mark.slow
def test_export_to_a_remote_folder_reads_back(network, meta):
    # ram:// stands for gs://: no local path leads there.
    folder = "ram://export/saved_model"
    export_saved_model(network, folder, meta=meta)
    assert read_export_meta(folder) == meta
    image = images.pixels(50, 50)
    found = load_exported(folder).detect(image[np.newaxis])[0]
    assert len(found) > 5


def test_export_saved_model_with_other_class_names_is_refused(network, meta, tmp_path):
    other = dataclasses.replace(meta, class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match="meta has class names"):
        export_saved_model(network, str(tmp_path / "x"), meta=other)
