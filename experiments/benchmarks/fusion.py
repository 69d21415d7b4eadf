"""How many images a second one core fuses: 3 teachers x 100 boxes.

    python -m experiments.benchmarks.fusion

Processor time of a single thread, best of five. Target of the project: 2,000 images/s.
"""

import time

import numpy as np

from kd_tf.geometry.detections import Detections
from kd_tf.teachers.fusion import FusionSettings, fuse

NUM_IMAGES, CHUNK, REPEATS = 256, 64, 5


def made_images(num_classes: int) -> list[list[Detections]]:
    """Images with 60 objects, each teacher seeing 100 boxes near them."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(NUM_IMAGES):
        corner, side = rng.uniform(0, 500, (60, 2)), rng.uniform(20, 150, (60, 2))
        classes, teachers = rng.integers(0, num_classes, 60), []
        for _ in range(3):
            rows = rng.integers(0, 60, 100)
            start = corner[rows] + rng.normal(0, 5, (100, 2))
            boxes = np.concatenate([start, start + side[rows]], axis=1).astype(np.float32)
            scores = rng.random(100).astype(np.float32)
            teachers.append(Detections(boxes, scores, classes[rows].astype(np.int32)))
        images.append(teachers)
    return images


def images_per_s(method: str, *, num_classes: int) -> float:
    """Best of several passes over all images."""
    images, weights = made_images(num_classes), np.ones((3, num_classes))
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        for first in range(0, NUM_IMAGES, CHUNK):
            settings = FusionSettings(method=method)
            fuse(images[first : first + CHUNK], weights=weights, settings=settings)
        seconds.append(time.process_time() - start)
    return NUM_IMAGES / min(seconds)


def main() -> None:
    """Prints a line for each method, with 80, 6 and 1 classes."""
    for method in ("wbf", "nms", "vote", "soft_nms"):
        found = [images_per_s(method, num_classes=num) for num in (80, 6, 1)]
        print(f"{method:<9}" + "".join(f"{value:8.0f}" for value in found), flush=True)


if __name__ == "__main__":
    main()
