"""TFLite files against the Keras network, in ai-edge-litert."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kd_tf import files
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.export.meta import meta_to_json
from kd_tf.export.portable import letterbox
from tests.export import images

pytest.importorskip("ai_edge_litert")

IMAGE = images.pixels(120, 160, seed=1)


@pytest.mark.parametrize(
    ("name", "box_px", "score"),
    [
        # Pixels of the 120x160 original. float16 rounds weights to 11 bits, int8 to 8.
        pytest.param("tflite_float32", 0.01, 1e-5, id="float32"),
        pytest.param("tflite_float16", 0.2, 1e-3, id="float16"),
        pytest.param("tflite_int8", 8.0, 0.02, id="int8"),
    ],
)
def test_tflite_file_finds_what_keras_finds(tflite_files, network, name, box_px, score):
    detector = formats.load_detector(tflite_files[name])
    boxed, _, _ = letterbox(IMAGE, network.image_size)
    boxes, scores = detector._run(boxed[np.newaxis].astype(np.float32))
    outputs = network.model(tf.constant(boxed[np.newaxis], tf.float32), training=False)
    expected_boxes, logits = network.head.boxes_and_logits(outputs)
    np.testing.assert_allclose(boxes, expected_boxes, atol=box_px)
    np.testing.assert_allclose(scores, tf.sigmoid(logits), atol=score)


def test_float32_file_gives_the_keras_predictors_detections(tflite_files, keras_predictor):
    detector = formats.load_detector(tflite_files["tflite_float32"])
    # At the network's own size nothing is resized, so Pillow and TensorFlow cannot differ.
    image = images.pixels(64, 96, seed=3)
    expected, found = keras_predictor(image), detector.detect_image(image)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(found.classes, expected.classes)
    (batched,) = detector.detect(image[np.newaxis])
    np.testing.assert_array_equal(batched.boxes, found.boxes)


def test_detect_image_maps_boxes_to_the_original(tflite_files, keras_predictor):
    found = formats.load_detector(tflite_files["tflite_float32"]).detect_image(IMAGE)
    expected = keras_predictor(IMAGE)
    # A grey level of the letterbox moves a box by a fraction of a pixel, and may swap two
    # detections of nearly the same score: so each is compared with the nearest.
    distances = np.abs(found.boxes[:, np.newaxis] - expected.boxes).max(axis=-1)
    assert len(found) > 5
    assert distances.min(axis=1).max() < 0.5


def test_int8_file_holds_8_bit_weights_and_float_decoding(tflite_files):
    sizes = {name: files.size_bytes(path) for name, path in tflite_files.items()}
    assert sizes["tflite_int8"] < sizes["tflite_float16"] < sizes["tflite_float32"]
    from ai_edge_litert.interpreter import Interpreter

    content = files.read_bytes(tflite_files["tflite_int8"])
    interpreter = Interpreter(model_content=content)
    decode = interpreter.get_signature_runner("decode")
    head = {
        "boxes": np.full((1, 24, 4), 1.2345678, np.float32),
        "classes": np.full((1, 24, 3), -2.0, np.float32),
    }
    # The first cell's centre is (8, 8); an 8-bit grid over 96 px would have steps of 0.4.
    np.testing.assert_allclose(
        decode(**head)["boxes_xyxy_px"][0, 0], [6.7654322, 6.7654322, 9.2345678, 9.2345678], 1e-6
    )


def test_meta_data_lie_inside_the_file(tflite_files, meta):
    for path in tflite_files.values():
        assert formats.load_detector(path).meta == meta


_FRESH = """
import json, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # import fails
sys.path.insert(0, sys.argv[1])
import numpy as np
from kd_tf.export.tflite_runner import load_tflite
detector = load_tflite(open(sys.argv[2], "rb").read())
found = detector.detect_image(np.load(sys.argv[3]))
print(json.dumps(found.boxes.tolist()))
"""


def test_runner_needs_no_tensorflow(tflite_files, tmp_path, request):
    np.save(tmp_path / "image.npy", IMAGE)
    path = tflite_files["tflite_int8"]
    arguments = [str(request.config.rootpath), path, str(tmp_path / "image.npy")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _FRESH, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = formats.load_detector(path).detect_image(IMAGE).boxes
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, atol=1e-4)


def test_int8_without_images_is_refused(network, meta, tmp_path):
    with pytest.raises(UserError, match="needs representative images"):
        formats.export(network, str(tmp_path), formats=["tflite_int8"], meta=meta)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "holds no kd_tf_export.json", id="empty"),
        pytest.param(b"garbage", "holds no kd_tf_export.json", id="garbage"),
    ],
)
def test_load_detector_of_foreign_tflite_says_so(tmp_path, content, message):
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        formats.load_detector(str(path))


def test_load_detector_of_damaged_tflite_says_so(tflite_files, tmp_path):
    content = bytearray(files.read_bytes(tflite_files["tflite_float32"]))
    content[:2000] = bytes(2000)
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be loaded"):
        formats.load_detector(str(path))


def test_onnx_file_equals_the_keras_network(network, meta, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    (artefact,) = formats.export(network, str(tmp_path), formats=["onnx"], meta=meta)
    detector = artefact.load()
    assert json.loads(meta_to_json(detector.meta)) == json.loads(meta_to_json(meta))
    boxed = np.stack([letterbox(images.pixels(50, 90, seed=s), (64, 96))[0] for s in (1, 2)])
    boxes, scores = detector._run(boxed.astype(np.float32))
    outputs = network.model(tf.constant(boxed, tf.float32), training=False)
    expected_boxes, logits = network.head.boxes_and_logits(outputs)
    np.testing.assert_allclose(boxes, expected_boxes, atol=0.01)
    np.testing.assert_allclose(scores, tf.sigmoid(logits), atol=1e-5)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"garbage")
    with pytest.raises(UserError, match="cannot be loaded"):
        formats.load_detector(str(damaged))


def test_meta_with_too_few_thresholds_is_refused(meta):
    with pytest.raises(ValueError, match="one value for each of 3 classes, got 1"):
        dataclasses.replace(meta, score_thresholds=(0.5,))
