"""Does labelling run at the network's own speed?

Question: JPEG files in, record shards out: what share of the images/s of the bare batched forward
pass (images already in memory, no suppression) is left, and how much faster is it than stock
KerasCV `model.predict` with its default NMS, given the same files or the images in memory?

    python -m experiments.benchmarks.labelling         # four cases, 25 minutes on 2 cores
    python -m experiments.benchmarks.labelling --cases=yolov8_s:320 --images=128 --rounds=5

Expected: at least 0.90x of the forward pass where it costs what a teacher costs (320 px from
640x480 JPEGs; 160 px from JPEGs of that size), at least 2x of stock `predict`. The sides take turns
in one process with the same threads, `--rounds` times; the median counts. Starting a job takes
.2 s, which no long job notices: `--images` must not be few.
"""

import argparse
import functools
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

import keras
import keras_cv
import numpy as np
import tensorflow as tf
from PIL import Image

from kd_tf import files, specs
from kd_tf.data.batches import load
from kd_tf.data.items import Source
from kd_tf.data.scenes import CLASS_NAMES, render_scene
from kd_tf.data.sources import open_source
from kd_tf.detectors import zoo
from kd_tf.detectors.backbones import build_backbone
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.geometry.letterbox import resize_image
from kd_tf.teachers.beside import Beside
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import LabelWriter
from kd_tf.teachers.labeller import Labeller, LabelSettings
from kd_tf.teachers.predict_job import Work, label_predictions

CASES = ("yolov8_s:160", "yolov8_s:320", "retinanet_resnet18:160", "retinanet_resnet18:320")
BATCH_SIZE, NUM_SHARDS = 16, 4


def write_jpegs(folder: str, *, num: int, size: tuple[int, int]) -> Source:
    """Scenes as JPEG files (quality 90) of height x width, listed as a source."""
    for index in range(num):
        pixels, _ = render_scene(seed=0, index=index, domain="clear", size=160)
        picture = Image.fromarray(pixels).resize((size[1], size[0]), Image.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        files.write_bytes(files.join(folder, f"{index:06d}.jpg"), buffer.getvalue())
    return open_source(specs.parse(f"images:{folder}", specs.DATA_KINDS))


def in_memory(source: Source, side: int) -> np.ndarray:
    """All images [N, side, side, 3] uint8 as the network gets them."""
    target = (side, side)
    rows = range(len(source.items))
    return np.stack(
        [resize_image(load(source, r)[0], target, resize="letterbox").numpy() for r in rows]
    )


def label(source: Source, detector: NetworkDetector, *, batch_size: int) -> None:
    """The whole job: predictions, and beside them records."""
    num = len(CLASS_NAMES)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(num_shards=NUM_SHARDS, batch_size=batch_size)
        predictions = files.join(folder, "predictions")
        writer = LabelWriter(
            source,
            [Labeller("t", predictions, np.arange(num), np.ones(num))],
            folder=files.join(folder, "pseudo"),
            work=work,
            settings=LabelSettings(CLASS_NAMES, FusionSettings(), np.full(num, 0.5)),
        )
        with Beside() as beside:
            label_predictions(
                detector,
                source,
                name="t",
                folder=predictions,
                work=work,
                on_shard=lambda shard: beside.call(functools.partial(writer.write, shard)),
            )
        writer.finish()


def stock_detector(name: str, side: int) -> keras.Model:
    """KerasCV's own detector of the same backbone, with its default decoding and NMS."""
    family, _, backbone_name = name.partition("_")
    is_yolo = family == "yolov8"
    backbone = build_backbone(name if is_yolo else backbone_name, image_size=(side, side))
    common = {"num_classes": len(CLASS_NAMES), "bounding_box_format": "xyxy"}
    if is_yolo:
        return keras_cv.models.YOLOV8Detector(backbone=backbone, fpn_depth=1, **common)
    return keras_cv.models.RetinaNet(backbone=backbone, **common)


def jpegs(folder: str, side: int) -> tf.data.Dataset:
    """The files as batches for KerasCV: decoded, resized with their ratio kept, and padded."""
    resize = keras_cv.layers.Resizing(side, side, pad_to_aspect_ratio=True)

    def read(path: tf.Tensor) -> tf.Tensor:
        return resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3))

    paths = tf.data.Dataset.list_files(files.join(folder, "*.jpg"), shuffle=False)
    images = paths.map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return images.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def sides(
    name: str, side: int, *, source: Source, images: np.ndarray, folder: str
) -> dict[str, Callable[[], object]]:
    """What takes turns; each handles every image once."""
    network = zoo.build(name, class_names=CLASS_NAMES, image_size=(side, side))
    detector = NetworkDetector(network, batch_size=BATCH_SIZE)

    @tf.function(input_signature=[tf.TensorSpec((BATCH_SIZE, side, side, 3), tf.uint8)])
    def forward(batch: tf.Tensor) -> dict[str, tf.Tensor]:
        return network.model(tf.cast(batch, tf.float32), training=False)

    def batches() -> list[np.ndarray]:
        return [images[i : i + BATCH_SIZE] for i in range(0, len(images), BATCH_SIZE)]

    stock = stock_detector(name, side)

    return {
        "forward": lambda: [forward(tf.constant(batch)) for batch in batches()],
        "detect": lambda: [detector.detect(batch) for batch in batches()],
        "load": lambda: [load(source, row) for row in range(len(source.items))],
        "label": lambda: label(source, detector, batch_size=BATCH_SIZE),
        "stock": lambda: stock.predict(images.astype(np.float32), batch_size=BATCH_SIZE, verbose=0),
        "stock from files": lambda: stock.predict(jpegs(folder, side), verbose=0),
    }


def measure(
    runs: dict[str, Callable[[], object]], num: int, *, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median images/s of each side by the clock, and core-milliseconds per image.

    They take turns after one round of warming up. On a machine that others use too, the
    second is the one to compare.
    """
    rates: dict[str, list[float]] = {name: [] for name in runs}
    costs: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            run()
            if turn:
                rates[name].append(num / (time.perf_counter() - start))
                costs[name].append(1000 * (time.process_time() - start_cpu) / num)
    middle = statistics.median
    return {n: middle(v) for n, v in rates.items()}, {n: middle(v) for n, v in costs.items()}


def main() -> None:
    """Prints a Markdown row per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("| case | side | images/s | core-ms per image | of forward (clock, core-ms) |")
    print("|---|---|---|---|---|")
    for case in arguments.cases:
        name, _, side = case.partition(":")
        folder = tempfile.mkdtemp()
        size = (160, 160) if side == "160" else (480, 640)
        source = write_jpegs(folder, num=arguments.images, size=size)
        images = in_memory(source, int(side))
        runs = sides(name, int(side), source=source, images=images, folder=folder)
        rates, costs = measure(runs, len(images), rounds=arguments.rounds)
        for what, rate in rates.items():
            shares = f"{rate / rates['forward']:.2f}, {costs['forward'] / costs[what]:.2f}"
            print(f"| {case} | {what} | {rate:.1f} | {costs[what]:.1f} | {shares} |", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
