"""What does `serving_default` spend outside the network, and what does isolating bad rows cost?

Command: python experiments/benchmarks/serving.py [--network=yolov8_s --size=320]
Expected time: 3 min. Expected numbers: at most 25 % outside the network at batch 1 for yolov8_s
at 320 px from 640x480 JPEGs; isolation at most 0.5 ms per image.

One process, one run, the parts measured in turns (a, b, c, a, b, c, ...), so that a busy
machine slows all of them alike; medians. "outside" is (whole - network) / whole, where
"network" is the same weights' layers alone, in a graph, on a tensor that is there already.
Weights are random: time does not depend on them, but for NMS, which gets its full set of
candidates here.
"""

import io
import json
import os
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from absl import app, flags
from PIL import Image

from kd_tf.detectors import zoo
from kd_tf.export import decoding, header
from kd_tf.export.meta import ExportMeta
from kd_tf.export.saved_model import export_saved_model
from kd_tf.geometry.letterbox import resize_image

FLAGS = flags.FLAGS
flags.DEFINE_string("network", "yolov8_s", "Name in kd_tf.names.")
flags.DEFINE_integer("size", 320, "Height and width of its input.")
flags.DEFINE_integer("rounds", 40, "Runs of each part.")

CLASS_NAMES = tuple(f"class {i}" for i in range(80))


def photo_jpeg() -> bytes:
    """A JPEG with detail at several scales, about as large as a photo of that size."""
    height, width = 480, 640
    rng = np.random.default_rng(0)
    layers = [
        np.asarray(
            Image.fromarray(
                rng.integers(0, 256, (height // step, width // step, 3), np.uint8)
            ).resize((width, height), Image.Resampling.BICUBIC),
            np.float32,
        )
        for step in (64, 16, 4)
    ]
    image = (0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=90)
    return content.getvalue()


def medians_ms(parts: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Median milliseconds of each part, run in turns after three rounds of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(rounds + 3):
        for name, run in parts.items():
            start = time.perf_counter()
            run()
            if turn >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: round(1000.0 * float(np.median(values)), 2) for name, values in times.items()}


def _graphs(size: int) -> dict[str, Callable]:
    """The steps before the network, each a graph of its own; the last without isolation."""
    scalar = [tf.TensorSpec([], tf.string)]

    def plain(encoded: tf.Tensor) -> tf.Tensor:
        image = decoding._decode_file(encoded)
        image = header.upright(image, header.read_header(encoded).orientation)
        return resize_image(image, (size, size), resize="letterbox")

    steps = {
        "decode_and_letterbox": lambda e: decoding.decode_rows(e[tf.newaxis], (size, size)).images,
        "same_without_isolation": plain,
        "header": header.read_header,
        "decode": decoding._decode_file,
    }
    return {name: tf.function(step, input_signature=scalar) for name, step in steps.items()}


def main(argv: list[str]) -> None:
    """Prints the milliseconds of each part and the two shares as JSON."""
    del argv
    size = FLAGS.size
    network = zoo.build(FLAGS.network, class_names=CLASS_NAMES, image_size=(size, size))
    meta = ExportMeta(CLASS_NAMES, (size, size), (0.3,) * len(CLASS_NAMES))
    with tempfile.TemporaryDirectory() as folder:
        export_saved_model(network, folder, meta=meta)
        model = tf.saved_model.load(folder)
    encoded = tf.constant(photo_jpeg())
    images = tf.zeros([1, size, size, 3])
    layers = tf.function(
        lambda x: network.model(x, training=False),
        input_signature=[tf.TensorSpec([1, size, size, 3], tf.float32)],
    )
    suppress = tf.function(
        lambda x: network.decode(x, score_floor=0.0, iou_threshold=0.65, max_detections=100)
    )
    outputs = layers(images)
    whole = model.signatures["serving_default"]
    parts = {
        "whole": lambda: {k: v.numpy() for k, v in whole(image_bytes=encoded[tf.newaxis]).items()},
        "network": lambda: layers(images),
        "decode_boxes_and_nms": lambda: suppress(outputs),
    }
    parts |= {name: (lambda step=step: step(encoded)) for name, step in _graphs(size).items()}
    times = medians_ms(parts, rounds=FLAGS.rounds)
    share = 1.0 - times["network"] / times["whole"]
    isolation = times["decode_and_letterbox"] - times["same_without_isolation"]
    print(json.dumps({"jpeg_bytes": len(encoded.numpy()), "milliseconds": times}, indent=2))
    print(f"outside the network: {100 * share:.1f} % of {times['whole']} ms")
    print(f"isolating bad rows: {isolation:.2f} ms per image")


if __name__ == "__main__":
    app.run(main)
