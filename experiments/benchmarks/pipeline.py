"""How many images a second does the input pipeline deliver, alone?

    python experiments/benchmarks/pipeline.py              # JPEGs of 640x480 made on the spot
    python experiments/benchmarks/pipeline.py --data=RECORDS_FOLDER

Expected on 2 quiet cores: about one minute; a training step of a 3.4 M parameter network
takes 30 images/s at 160 px, so at least 100 are wanted, with mosaic half the time too.
Core-ms per image count the processor time of the whole process, so they also mean
something on a machine that does other work; images/s do not.
"""

import argparse
import hashlib
import resource
import tempfile
import time

import numpy as np
import tensorflow as tf

from kd_tf.data import label_map, records, shards
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.pipeline import training_batches
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet

NAMES = ("a", "b", "c")
LIGHT = {"flip": 0.5, "scale_jitter": (0.6, 1.5), "color": 0.5}
CASES = {
    "no augmentation": AugmentSettings(),
    "flip, scale, color": AugmentSettings(**LIGHT),
    "and mosaic 0.5": AugmentSettings(**LIGHT, mosaic=0.5),
    "and mosaic 0.5, mixup 0.2": AugmentSettings(**LIGHT, mosaic=0.5, mixup=0.2),
}


def _photo(rng: np.random.Generator) -> bytes:
    """A 640x480 JPEG about as hard to decode as a photo: smooth shapes with some grain."""
    coarse = rng.integers(0, 256, (12, 16, 3)).astype(np.float32)
    smooth = tf.image.resize(coarse, (480, 640), method="bicubic").numpy()
    grain = rng.normal(0.0, 12.0, smooth.shape)
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    return tf.io.encode_jpeg(pixels, quality=90).numpy()


def _example(number: int, rng: np.random.Generator) -> bytes:
    encoded = _photo(rng)
    corners = rng.uniform(0, 400, (12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 80, (12, 2))], axis=1)
    objects = records.pseudo_objects(
        boxes,
        rng.uniform(0.1, 1.0, 12),
        classes=rng.integers(0, 3, 12),
        teachers=np.zeros(12),
        score_threshold=np.full(3, 0.5),
    )
    digest = hashlib.sha256(encoded).hexdigest()
    record = records.Record(
        f"made/{number}", number, encoded, "jpeg", 480, 640, f"{number}.jpg", digest, objects, NAMES
    )
    return records.to_example(record)


def _write(folder: str, *, num: int) -> None:
    rng = np.random.default_rng(0)
    examples = (_example(number, rng) for number in range(num))
    shards.write_shard(folder, "made", shard=0, num_shards=1, records=examples)
    label_map.write(f"{folder}/{label_map.FILE_NAME}", NAMES)


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _measure(read: RecordSet, augment: AugmentSettings, *, size: int, steps: int) -> str:
    batch_size = 8
    dataset = training_batches(
        read,
        class_names=read.class_names,
        image_size=(size, size),
        batch_size=batch_size,
        seed=0,
        start_step=0,
        augment=augment,
        select=SelectSettings(),
        max_boxes=100,
    )
    batches = iter(dataset)
    for _ in range(8):  # tracing, and filling the buffers
        next(batches)
    wall, processor = time.perf_counter(), _processor_s()
    for _ in range(steps):
        next(batches)
    wall, processor = time.perf_counter() - wall, _processor_s() - processor
    images = steps * batch_size
    return f"{images / wall:8.0f} images/s {1000 * processor / images:8.2f} core-ms/image"


def main() -> None:
    """Prints one line for each size and augmentation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="", help="Folder of records with a label map.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 320])
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.data:
            _write(folder, num=100)
        read = RecordSet.open(arguments.data or folder)
        print(f"{len(read)} records, {read.lengths.mean() / 1024:.0f} KB each")
        for size in arguments.sizes:
            for name, augment in CASES.items():
                line = _measure(read, augment, size=size, steps=arguments.steps)
                print(f"{size:4d} px  {name:28s}{line}", flush=True)


if __name__ == "__main__":
    main()
