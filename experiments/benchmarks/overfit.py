"""Question: does each family learn eight real photos by heart (AP50 of at least 0.95)?

    KD_TF_DATA=FOLDER python -m experiments.benchmarks.overfit --out=runs/overfit.json

Expected time on 2 quiet cores: about 5 min a family. FOLDER holds coco_tiny, 50 photos of COCO
train2017 with their genuine annotations.

The photos: the first eight by image id that have at least --min_objects objects (crowds do not
count), none of them with a side below --min_side pixels at the network's input; below a
stride of the finest level a box says nothing a network could read from its input. Crowd regions
are neither object nor background, in the loss and in the score. No augmentation; every step
sees all eight photos; all 80 classes are there to be confused.
"""

import argparse
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from experiments.benchmarks.held_out import HeldOut, load_held_out
from kd_tf import config, files
from kd_tf.data import labeled
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.items import Item, Source
from kd_tf.data.pipeline import training_batches
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.data.views import subset
from kd_tf.detectors import zoo
from kd_tf.detectors.network import Network
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.names import default_learning_rate
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.training import loop
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings

NUM_PHOTOS, WANTED_AP50 = 8, 0.95
NETWORKS = ("yolov8_tiny", "retinanet_tiny")
_SPEC = (
    "coco:${KD_TF_DATA}/coco_tiny/annotations/instances_train2017.json"
    "?images=${KD_TF_DATA}/coco_tiny/train2017"
)


class _LearnedError(Exception):
    """Raised out of the loop: there is nothing left to learn."""


def main() -> None:
    """Prints a line per validation, then the table."""
    arguments = _parse()
    source = open_source(parse(arguments.data, DATA_KINDS))
    photos = chosen(
        source,
        size=arguments.image_size,
        min_objects=arguments.min_objects,
        min_side=arguments.min_side,
    )
    truth = load_held_out(photos, size=arguments.image_size)
    crowds = int(truth.truth.is_crowd.sum())
    ids = [item.original_id for item in photos.items]
    print(f"{truth.truth.num_objects - crowds} objects, {crowds} crowds in {ids}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        labeled.write_labeled(photos, folder=folder, prefix="photos", num_shards=1)
        records = labeled.open_labeled(folder, "photos")
        runs = [fit(name, records, truth, arguments=arguments) for name in arguments.networks]
    if arguments.out:
        files.write_json(arguments.out, {"setting": vars(arguments), "photos": ids, "runs": runs})
    print(to_markdown(runs))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", default=_SPEC, help="Any labelled data set.")
    add("--out", default="", help="JSON file for the result.")
    add("--networks", nargs="+", default=list(NETWORKS))
    add("--image_size", type=int, default=160)
    add("--min_objects", type=int, default=2)
    add("--min_side", type=float, default=8.0)
    add("--steps", type=int, default=500, help="At most; the schedule ends there.")
    add("--eval_every", type=int, default=50)
    add("--learning_rate", type=float, default=0.0, help="Peak; 0: the network's.")
    return parser.parse_args()


def chosen(source: Source, *, size: int, min_objects: int, min_side: float) -> Source:
    """The first photos of a source, by image id, that keep the rule of this module."""
    rows = sorted(range(len(source.items)), key=lambda row: source.items[row].image_id)
    kept = [
        row
        for row in rows
        if _fits(source, source.items[row], size=size, least=(min_objects, min_side))
    ]
    if len(kept) < NUM_PHOTOS:
        raise SystemExit(f"Only {len(kept)} photos fit; lower --min_objects or --min_side.")
    return subset(source, kept[:NUM_PHOTOS])


def _fits(source: Source, item: Item, *, size: int, least: tuple[int, float]) -> bool:
    labels = source.read_labels(item)[0]
    boxes = labels.boxes[~labels.is_crowd]
    sides = (boxes[:, 2:] - boxes[:, :2]) * size / max(item.height, item.width)
    return len(boxes) >= least[0] and bool((sides >= least[1]).all())


def fit(
    name: str, records: RecordSet, truth: HeldOut, *, arguments: argparse.Namespace
) -> dict[str, object]:
    """Trains one network until it knows the photos, or --steps are over."""
    curve, detectors = [], {}

    def validate(network: Network) -> float:
        detector = detectors.setdefault("one", NetworkDetector(network, batch_size=NUM_PHOTOS))
        step = arguments.eval_every * (len(curve) + 1)
        curve.append({"step": min(step, arguments.steps), **truth.score(detector)})
        print(f"{name}: {curve[-1]}", flush=True)
        if curve[-1]["AP50"] >= WANTED_AP50:
            raise _LearnedError
        return curve[-1]["AP"]

    start = time.perf_counter()
    size = (arguments.image_size, arguments.image_size)
    with tempfile.TemporaryDirectory() as folder:
        try:
            loop.train(
                build=lambda: zoo.build(name, class_names=records.class_names, image_size=size),
                batches=lambda step, *_: _batches(records, size=size, start_step=step),
                settings=_settings(name, arguments),
                folder=folder,
                validate=validate,
                strategy=strategies.build_strategy("one"),
            )
            reached = None
        except _LearnedError:
            reached = curve[-1]["step"]
    seconds = time.perf_counter() - start
    return {"network": name, "steps": reached, "seconds": seconds, "curve": curve}


def _settings(network: str, arguments: argparse.Namespace) -> TrainSettings:
    defaults, steps = config.Config(), arguments.steps
    return TrainSettings(
        steps=steps,
        batch_size=NUM_PHOTOS,
        learning_rate=arguments.learning_rate or default_learning_rate(network),
        warmup_steps=round(steps * defaults.warmup_fraction),
        decay_steps=round(steps * defaults.decay_fraction),
        weight_decay=defaults.weight_decay,
        clip_norm=defaults.clip_norm,
        ema_decay=defaults.ema_decay,
        steps_per_call=defaults.steps_per_call,
        eval_every=arguments.eval_every,
        checkpoint_every=0,
    )


def _batches(records: RecordSet, *, size: tuple[int, int], start_step: int) -> tf.data.Dataset:
    return training_batches(
        records,
        class_names=records.class_names,
        image_size=size,
        batch_size=NUM_PHOTOS,
        seed=0,
        start_step=start_step,
        augment=AugmentSettings(),
        select=SelectSettings(),
        max_boxes=config.Config().max_boxes,
    )


def to_markdown(runs: list[dict]) -> str:
    """The table of RESULTS.md."""
    lines = ["| network | steps to AP50 >= 0.95 | seconds | AP50 by step |", "|---|---|---|---|"]
    for run in runs:
        curve = ", ".join(f"{point['step']}: {point['AP50']:.3f}" for point in run["curve"])
        steps = run["steps"] or "not reached"
        lines.append(f"| {run['network']} | {steps} | {run['seconds']:.0f} | {curve} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
