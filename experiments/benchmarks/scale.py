"""What do listing, splitting, training's start, verifying and reporting cost as data sets grow?

    python -m experiments.benchmarks.scale 12000
    python -m experiments.benchmarks.scale 120000

Expected: processor seconds in proportion to the images; 120,000 in under 3 minutes and 1.5 GB on
two cores. Records are made of one tiny picture under other names; RESULTS.md has the numbers.
"""

import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from kd_tf import files, manifests
from kd_tf.data import label_map, splits
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.pipeline import training_batches
from kd_tf.data.records import Record, human_objects, pseudo_objects, to_example
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet, shard_rows, write_shard
from kd_tf.data.sources import open_source
from kd_tf.data.verify import verify
from kd_tf.evaluation.report.load import load_report
from kd_tf.evaluation.report.render import to_html
from kd_tf.specs import DATA_KINDS, parse

NAMES = ("disc", "square", "ring")
_PER_SHARD = 10_000
_SIDE_PX = 8


def measure(num_images: int) -> dict[str, float]:
    """Processor seconds of each step over so many made records, and the peak of memory in MB."""
    with tempfile.TemporaryDirectory() as workdir:
        found = {"making records": _clock(lambda: make_workdir(workdir, num_images))[0]}
        for name, step in _STEPS.items():
            found[name], _ = _clock(lambda step=step: step(workdir, num_images))
    found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def make_workdir(workdir: str, num_images: int) -> None:
    """Labelled records and pseudo labels of the same images, as finished stages leave them."""
    _picture()  # TensorFlow starts here, once.
    for stage, pseudo in (("labeled", False), ("pseudo", True)):
        folder = files.join(workdir, stage)
        label_map.write(files.join(folder, label_map.FILE_NAME), NAMES)
        num_shards = -(-num_images // _PER_SHARD)
        prefix = "pseudo" if pseudo else "train"
        for shard in range(num_shards):
            rows = shard_rows(num_images, num_shards, shard=shard)
            write_shard(
                folder, prefix, shard=shard, num_shards=num_shards,
                records=_records(rows, pseudo=pseudo),
            )  # fmt: skip
        counts = manifests.Counts(seen=num_images, written=num_images)
        identity = {"teacher": ["results:r.json"], "unlabeled": []}
        manifests.write(folder, manifests.Manifest(stage, identity, counts=counts))


def _picture() -> bytes:
    import tensorflow as tf

    return tf.io.encode_png(np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8)).numpy()


def _records(rows: range, *, pseudo: bool) -> Iterator[bytes]:
    encoded = _picture()
    boxes = np.array([[1, 1, 5, 6], [2, 3, 7, 7]], np.float32)
    for row in rows:
        classes = np.array([row % 3, (row + 1) % 3], np.int32)
        if pseudo:
            objects = pseudo_objects(
                boxes, np.array([0.9, 0.4], np.float32), classes=classes,
                teachers=np.zeros(2, np.int32), score_threshold=np.full(3, 0.5),
            )  # fmt: skip
        else:
            areas = np.array([20.0, 20.0], np.float32)
            objects = human_objects(boxes, classes, is_crowd=np.zeros(2, bool), areas=areas)
        yield to_example(
            Record(
                f"made/{row:07d}", row + 1, encoded, "png", _SIDE_PX, _SIDE_PX, f"{row:07d}.png",
                hashlib.sha256(str(row).encode()).hexdigest(), objects, NAMES,
            )
        )  # fmt: skip


def _list(workdir: str, num_images: int) -> None:
    source = open_source(parse(f"records:{workdir}/labeled/train-*?name=made", DATA_KINDS))
    assert len(source.items) == num_images


def _split(workdir: str, num_images: int) -> None:
    source = open_source(parse(f"records:{workdir}/labeled/train-*?name=made", DATA_KINDS))
    table = splits.class_table(source)
    train, val = splits.split_validation(table, fraction=0.1, seed=0)
    assert len(train) + len(val) == num_images


def _start_training(workdir: str, num_images: int) -> None:
    records = RecordSet.open(f"{workdir}/pseudo")
    ids = [records.source_ids[row] for row in range(len(records))]
    assert len(set(ids)) == num_images
    data = training_batches(
        records, class_names=NAMES, image_size=(64, 64), batch_size=8, seed=0, start_step=5,
        augment=AugmentSettings(), select=SelectSettings(), max_boxes=10,
    )  # fmt: skip
    assert next(iter(data))["images"].shape == (8, 64, 64, 3)


def _verify(workdir: str, num_images: int) -> None:
    assert verify(f"{workdir}/pseudo").problems == ()


def _report(workdir: str, num_images: int) -> None:
    page = to_html(load_report([workdir], open_source=lambda text: open_source(
        parse(text, DATA_KINDS)
    )))  # fmt: skip
    assert f"{num_images:,}" in page


_STEPS: dict[str, Callable[[str, int], None]] = {
    "listing": _list,
    "listing and splitting": _split,
    "start of a training": _start_training,
    "verifying": _verify,
    "reporting": _report,
}


def _clock(work: Callable[[], None]) -> tuple[float, float]:
    start, wall = time.process_time(), time.monotonic()
    work()
    return time.process_time() - start, time.monotonic() - wall


if __name__ == "__main__":
    print(json.dumps({k: round(v, 2) for k, v in measure(int(sys.argv[1])).items()}, indent=1))
