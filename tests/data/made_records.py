"""Records of pictures whose labels can be read off the pixels."""

import hashlib

import numpy as np
import tensorflow as tf

from kd_tf.data import label_map, records, shards
from kd_tf.data.records import HUMAN, Objects, Record
from kd_tf.data.shards import RecordSet

# One colour per class; the score says the class too, so a box that got the weight of
# another is seen. The last class lies in the ignore band.
NAMES = ("red", "green", "blue", "yellow")
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
SCORES = (0.9, 0.8, 0.7, 0.4)
SIZES = ((60, 80), (90, 50), (64, 64), (33, 71), (120, 130))


def picture(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Black image with one rectangle of each colour in its own corner: pixels, boxes, classes."""
    rng = np.random.default_rng(number)
    height, width = SIZES[number % len(SIZES)]
    pixels = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for index in range(4):
        top, left = (index // 2) * (height // 2), (index % 2) * (width // 2)
        y1, x1 = top + rng.integers(0, 4), left + rng.integers(0, 4)
        y2, x2 = y1 + rng.integers(8, height // 2 - 4), x1 + rng.integers(8, width // 2 - 4)
        pixels[y1:y2, x1:x2] = COLORS[index]
        boxes.append([x1, y1, x2, y2])
    return pixels, np.array(boxes, np.float32), np.arange(4, dtype=np.int32)


def example(number: int, *, judged=None, empty: bool = False, human: bool = False) -> bytes:
    """A record of `picture(number)`."""
    pixels, boxes, classes = picture(number)
    rows = slice(0, 0) if empty else slice(0, 4)
    boxes, classes = boxes[rows], classes[rows]
    num = len(classes)
    encoded = tf.io.encode_png(pixels).numpy()
    objects = Objects(
        boxes,
        np.ones(num, np.float32) if human else np.array(SCORES, np.float32)[rows],
        classes,
        np.full(num, HUMAN if human else 0, np.int32),
        np.zeros(num, bool),
        np.ones(num, np.float32),
        np.ones(num, bool),
    )
    return records.to_example(
        Record(
            f"set/{number}",
            number,
            encoded,
            "png",
            *pixels.shape[:2],
            f"{number}.png",
            hashlib.sha256(encoded).hexdigest(),
            objects,
            NAMES,
            judged,
        )
    )


def write_set(folder: str, examples: list[bytes], *, num_shards: int = 1) -> RecordSet:
    """Writes records into shards and opens them."""
    for shard in range(num_shards):
        rows = shards.shard_rows(len(examples), num_shards, shard=shard)
        part = [examples[row] for row in rows]
        shards.write_shard(folder, "x", shard=shard, num_shards=num_shards, records=part)
    label_map.write(f"{folder}/label_map.pbtxt", NAMES)
    return RecordSet.open(folder)
