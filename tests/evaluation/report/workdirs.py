"""Finished runs made without training: real scenes, real files, invented detections."""

import dataclasses
import json

import numpy as np

from kd_tf import files, manifests
from kd_tf.data import label_map
from kd_tf.data.items import Item, Source
from kd_tf.data.records import Record, human_objects, pseudo_objects, to_example
from kd_tf.data.shards import write_shard
from kd_tf.data.sources import open_source
from kd_tf.evaluation.agreement import agreement
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.evaluation.measure import measure, write_measured, write_metrics
from kd_tf.geometry.detections import Detections
from kd_tf.specs import DATA_KINDS, parse

HOSTILE = "<script>alert(1)</script>"
# Model -> (share of objects found, px of noise on corners, invented boxes an image).
SKILLS = {
    "teacher": (0.92, 0.7, 0.6),
    "baseline": (0.55, 2.5, 1.5),
    "pretrain": (0.8, 1.4, 1.0),
    "finetune": (0.85, 1.1, 0.8),
}
THRESHOLD = 0.5


def scenes(text: str, *, hostile: bool = True) -> Source:
    """Scenes; with `hostile` one class and the images bear names that would run as a script."""
    source = open_source(parse(text, DATA_KINDS))
    if not hostile:
        return source
    names = (HOSTILE, *source.class_names[1:])
    items = [
        dataclasses.replace(item, original_id=f"{HOSTILE}{item.original_id}.jpg")
        for item in source.items
    ]
    return dataclasses.replace(source, class_names=names, items=items)


def opened(text: str) -> Source:
    """What a report opens: hostile scenes, and the workdir's own records."""
    return scenes(text, hostile=text.startswith("scenes:"))


def detect(source: Source, row: int, *, skill: tuple, rng: np.random.Generator) -> Detections:
    """What a detector of some skill might say about an image."""
    share, noise, invented = skill
    labels, _ = source.read_labels(source.items[row])
    num_classes = len(source.class_names)
    found = np.flatnonzero(rng.random(len(labels.classes)) < share)
    boxes = labels.boxes[found] + rng.normal(0, noise, (len(found), 4))
    scores = rng.beta(6, 2, len(found))
    classes = labels.classes[found].copy()
    mixed = rng.random(len(found)) > share
    classes[mixed] = rng.integers(0, num_classes, mixed.sum())
    num = rng.poisson(invented)
    corner = rng.uniform(0, 120, (num, 2))
    extra = np.concatenate([corner, corner + rng.uniform(6, 40, (num, 2))], axis=1)
    boxes = np.clip(np.concatenate([boxes, extra]), 0, 160)
    keep = np.all(boxes[:, 2:] - boxes[:, :2] > 1, axis=1)
    scores = np.concatenate([scores, rng.beta(2, 4, num)])
    classes = np.concatenate([classes, rng.integers(0, num_classes, num)])
    return Detections(
        boxes[keep].astype(np.float32),
        scores[keep].astype(np.float32),
        classes[keep].astype(np.int32),
    )


def make_workdir(
    folder: str,
    *,
    num_train: int = 24,
    num_eval: int = 16,
    seed: int = 0,
    label_fraction: float = 0.1,
    hostile: bool = True,
    skills: dict[str, tuple] = SKILLS,
    size: int = 160,
) -> str:
    """Writes a whole run; gives the spec of its evaluation images."""
    rng = np.random.default_rng(seed)
    train = scenes(f"scenes:train?num={num_train}&size={size}", hostile=hostile)
    identity = {"seed": seed, "label_fraction": label_fraction, "student": "yolov8_tiny"}
    _write_records(folder, train, rng=rng)
    _finish(folder, "labeled", identity)
    given = ["saved_model:big", "saved_model:other"]
    _finish(
        folder, "pseudo", {**identity, "score_threshold": "0.5", "teacher": given}, rejects=True
    )
    for stage in ("teacher", "baseline", "pretrain", "finetune"):
        _write_history(folder, stage, rng=rng)
        _finish(folder, stage, identity)
    spec = f"scenes:eval?num={num_eval}&size={size}"
    _evaluate(folder, scenes(spec, hostile=hostile), skills=skills, rng=rng)
    _finish(folder, "evaluate", {"eval_data": spec})
    return spec


def _write_records(folder: str, source: Source, *, rng: np.random.Generator) -> None:
    pseudo, people, said = [], [], []
    thresholds = np.full(len(source.class_names), THRESHOLD)
    for row, item in enumerate(source.items):
        teachers = {
            name: detect(source, row, skill=skill, rng=rng)
            for name, skill in (("big", (0.93, 0.7, 0.6)), ("other", (0.8, 1.5, 1.0)))
        }
        said.append(teachers)
        found = teachers["big"]
        if row % 6 == 5:  # unsure about every sixth image
            found = Detections(found.boxes, found.scores * 0.45, found.classes)
        common = _common(source, item)
        objects = pseudo_objects(
            found.boxes,
            found.scores,
            classes=found.classes,
            teachers=np.zeros(len(found), np.int32),
            score_threshold=thresholds,
        )
        # Teachers label the labelled records again, as a source of the name "train".
        own = {**common, "source_id": f"train/{common['source_id']}"}
        pseudo.append(to_example(Record(objects=objects, **own)))
        labels, _ = source.read_labels(item)
        marked = human_objects(
            labels.boxes, labels.classes, is_crowd=labels.is_crowd, areas=labels.areas
        )
        people.append(to_example(Record(objects=marked, **common)))
    for stage, prefix, records in (("pseudo", "pseudo", pseudo), ("labeled", "train", people)):
        target = files.join(folder, stage)
        write_shard(target, prefix, shard=0, num_shards=1, records=records)
        label_map.write(files.join(target, label_map.FILE_NAME), source.class_names)
    table = agreement(
        said, names=["big", "other"], score_thresholds=dict.fromkeys(("big", "other"), thresholds)
    )
    files.write_json(files.join(folder, "pseudo", "agreement.json"), table)
    files.write_json(
        files.join(folder, "pseudo", "thresholds.json"),
        {name: {"score": THRESHOLD, "ignore": 0.25, "why": "given"} for name in source.class_names},
    )


def _common(source: Source, item: Item) -> dict:
    return {
        "source_id": source.key(item),
        "image_id": item.image_id,
        "encoded": source.read_bytes(item),
        "format": "png",
        "height": item.height,
        "width": item.width,
        "filename": item.original_id,
        "sha256": "0" * 64,
        "class_names": source.class_names,
    }


def _evaluate(
    folder: str, source: Source, *, skills: dict[str, tuple], rng: np.random.Generator
) -> None:
    truth = ground_truth(source, class_names=source.class_names)
    models = {}
    for name, skill in skills.items():
        found = [
            (item.image_id, detect(source, row, skill=skill, rng=rng))
            for row, item in enumerate(source.items)
        ]
        speed = {
            "images_per_s": 45.0 if name == "teacher" else 160.0,
            "latency_p50_ms": 22.2 if name == "teacher" else 6.1,
            "latency_p95_ms": 30.5 if name == "teacher" else 8.8,
            "batch_size": 8,
            "num_calls": 20,
        }
        thresholds = [THRESHOLD] * len(source.class_names)
        one = measure(truth, found, score_thresholds=thresholds, speed=speed)
        write_measured(truth, one, folder=files.join(folder, "evaluate", name))
        parameters = 3_400_000 if name == "teacher" else 400_000
        models[name] = {**one.metrics, "num_parameters": parameters}
    write_metrics(models, folder=files.join(folder, "evaluate"))


def _write_history(folder: str, stage: str, *, rng: np.random.Generator) -> None:
    lines = []
    for step in range(10, 1010, 10):
        loss = 8 * np.exp(-step / 250) + 1.6 + rng.normal(0, 0.15)
        rate = 1e-3 * min(step / 100, 0.5 * (1 + np.cos(np.pi * step / 1000)))
        lines.append({"step": step, "loss": float(loss), "learning_rate": float(rate)})
        if step % 200 == 0:
            lines.append({"step": step, "val_ap": float(0.5 * (1 - np.exp(-step / 300)))})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    files.write_text(files.join(folder, stage, "metrics.jsonl"), text)


def _finish(folder: str, stage: str, identity: dict, *, rejects: bool = False) -> None:
    counts = manifests.Counts(seen=26, written=24)
    if rejects:
        counts.skip("truncated file", f"photos/{HOSTILE}.jpg", detail="ends after 2,048 bytes")
        counts.skip("no image", "photos/notes.txt")
        counts.skip("box without area", "photos/7.jpg: box 3", whole_image=False)
    info = {"seconds": 61.5, "commit": "abc1234", "versions": {"keras": "3.15.1"}}
    flags = "".join(f"--{key}={value}\n" for key, value in identity.items())
    target = files.join(folder, stage)
    files.write_text(files.join(target, "flags.txt"), flags)
    manifests.write(target, manifests.Manifest(stage, identity, info=info, counts=counts))
