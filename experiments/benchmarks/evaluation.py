"""Question: does evaluation from shards cost no more than pycocotools alone on ready data?

Command: python experiments/benchmarks/evaluation.py [--num_images=5000]
Expected: about 2 minutes on one core, most of it pycocotools; kd_tf at a fifth of its
time (limit: 1.1 times); all numbers equal to 1e-9.

5,000 images, 100 detections each, 80 classes. pycocotools gets its data loaded and indexed;
kd_tf starts from TFRecord shards of raw predictions and reads one image at a time.
"""

import argparse
import contextlib
import io
import resource
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kd_tf import files
from kd_tf.data.shards import shard_name, shard_rows, write_shard
from kd_tf.evaluation.coco import NAMES, evaluate
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.geometry.detections import Detections
from kd_tf.teachers.predictions import PREFIX, Prediction, read_predictions, to_bytes

NUM_CLASSES, NUM_DETECTIONS, NUM_SHARDS = 80, 100, 16
# COCO val2017 has 36,781 objects in 5,000 images.
OBJECTS_PER_IMAGE = 7.4


def make_truth(num_images: int, *, rng: np.random.Generator) -> GroundTruth:
    """Random boxes from 7 to 150 px on 640x480 images, one in fifty a crowd."""
    image_index = np.repeat(np.arange(num_images), rng.poisson(OBJECTS_PER_IMAGE, num_images))
    num = len(image_index)
    corner, sides = rng.uniform(0, 400, (num, 2)), np.exp(rng.uniform(2, 5, (num, 2)))
    return GroundTruth(
        class_names=tuple(f"class {number}" for number in range(NUM_CLASSES)),
        category_ids=tuple(range(1, NUM_CLASSES + 1)),
        image_ids=np.arange(1, num_images + 1),
        sizes=np.full((num_images, 2), (480, 640)),
        names=tuple(map(str, range(num_images))),
        image_index=image_index,
        boxes=np.concatenate([corner, corner + sides], axis=1),
        classes=rng.integers(0, NUM_CLASSES, num).astype(np.int32),
        is_crowd=rng.random(num) < 0.02,
        areas=sides.prod(axis=1),
        judged={},
    )


def make_predictions(truth: GroundTruth, row: int, *, rng: np.random.Generator) -> Detections:
    """Two shifted copies of every object, the rest anywhere; scores have two digits and tie."""
    corner = rng.uniform(0, 400, (NUM_DETECTIONS, 2))
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(2, 5, corner.shape))], axis=1)
    classes = rng.integers(0, NUM_CLASSES, NUM_DETECTIONS)
    objects = truth.rows(row)
    copies = np.tile(np.arange(objects.start, objects.stop), 2)[:NUM_DETECTIONS]
    noise = np.repeat(rng.normal(0, 3, (len(copies), 2)), 2, axis=0).reshape(-1, 4)
    boxes[: len(copies)] = truth.boxes[copies] + noise
    classes[: len(copies)] = truth.classes[copies]
    scores = np.round(rng.random(NUM_DETECTIONS), 2)
    return Detections(boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int32))


def write_predictions(truth: GroundTruth, *, folder: str, rng: np.random.Generator) -> None:
    """Shards as a teacher leaves them."""
    for shard in range(NUM_SHARDS):
        rows = shard_rows(truth.num_images, NUM_SHARDS, shard=shard)
        records = (
            to_bytes(
                Prediction(
                    row=row,
                    key=f"bench/{row}",
                    image_id=row + 1,
                    height=480,
                    width=640,
                    sha256="",
                    format="jpeg",
                    reencoded=False,
                    detections=make_predictions(truth, row, rng=rng),
                )
            )
            for row in rows
        )
        write_shard(folder, PREFIX, shard=shard, num_shards=NUM_SHARDS, records=records)


def read_all(folder: str) -> Iterator[tuple[int, Detections]]:
    """One image at a time."""
    for shard in range(NUM_SHARDS):
        name = shard_name(PREFIX, shard=shard, num_shards=NUM_SHARDS)
        for one in read_predictions(files.join(folder, name)):
            yield one.image_id, one.detections


def load_for_pycocotools(truth: GroundTruth, folder: str) -> tuple[COCO, COCO]:
    """The same data, loaded and indexed; not timed."""
    to_xywh = np.array([[1, 0, -1, 0], [0, 1, 0, -1], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    annotated = COCO()
    annotated.dataset = {
        "info": {},
        "images": [{"id": int(i), "height": 480, "width": 640} for i in truth.image_ids],
        "categories": [
            {"id": i, "name": n} for i, n in zip(truth.category_ids, truth.class_names, strict=True)
        ],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(truth.image_ids[truth.image_index[row]]),
                "category_id": int(truth.classes[row]) + 1,
                "bbox": box,
                "area": float(truth.areas[row]),
                "iscrowd": int(truth.is_crowd[row]),
            }
            for row, box in enumerate((truth.boxes @ to_xywh).tolist())
        ],
    }
    annotated.createIndex()
    rows = [
        np.column_stack(
            [
                np.full(len(found), image_id),
                found.boxes.astype(np.float64) @ to_xywh,
                found.scores,
                found.classes + 1,
            ]
        )
        for image_id, found in read_all(folder)
    ]
    return annotated, annotated.loadRes(np.concatenate(rows))


def main() -> None:
    """Prints both times, what is compared, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_images", type=int, default=5000)
    num_images = parser.parse_args().num_images
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        truth = make_truth(num_images, rng=rng)
        write_predictions(truth, folder=folder, rng=rng)
        ours = (time.perf_counter(), time.process_time())
        metrics = evaluate(truth, read_all(folder))
        ours = (time.perf_counter() - ours[0], time.process_time() - ours[1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(*load_for_pycocotools(truth, folder), "bbox")
            theirs = (time.perf_counter(), time.process_time())
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        theirs = (time.perf_counter() - theirs[0], time.process_time() - theirs[1])
    differences = [abs(metrics[n] - v) for n, v in zip(NAMES, judge.stats, strict=True)]
    print(f"{num_images} images x {NUM_DETECTIONS} detections x {NUM_CLASSES} classes")
    print(f"kd_tf from shards:         {ours[0]:7.1f} s wall, {ours[1]:7.1f} s CPU")
    print(f"pycocotools on ready data: {theirs[0]:7.1f} s wall, {theirs[1]:7.1f} s CPU")
    print(f"ratio (CPU): {ours[1] / theirs[1]:.3f}; limit 1.1")
    print(f"largest difference of the 12 numbers: {max(differences):.1e} (AP {metrics['AP']:.6f})")
    print(f"peak memory of kd_tf: {peak:.2f} GB, TensorFlow's own 0.5 GB included")


if __name__ == "__main__":
    main()
