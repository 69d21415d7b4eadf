r"""Does fusing a strong and a weak teacher cost labels, and which method costs least?

    KD_TF_DATA=FOLDER python -m experiments.fusion.compare coco animals

Expected: 10 minutes on 2 cores the first time, then half a minute (what the teachers said is kept
in runs/fusion). Prints the tables of RESULTS.md. The scenes need no photos, but two teachers first,
10 minutes each:

    for run in yolov8_tiny:500 retinanet_tiny:600; do python -m kd_tf.main --stage=teacher \
        --workdir=runs/fusion/${run%:*} --labeled='scenes:train?num=800' \
        --teacher_model=${run%:*} --teacher_steps=${run#*:}; done
    python -m experiments.fusion.compare scenes

Nothing is calibrated and no label is read but for scoring: this is what a run without labels does,
where a label needs a score of .5. "Calibrated": isotonic regression, each half of the images by the
other half, as a run with labels has it.
"""

import dataclasses
import itertools
import os
import pickle
import sys

import numpy as np

from kd_tf import files, specs
from kd_tf.data import predict as runner
from kd_tf.data.items import Labels, Source
from kd_tf.data.sources import open_source
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.geometry.detections import Detections, no_detections
from kd_tf.geometry.overlaps import box_ious
from kd_tf.teachers import calibrate, scored
from kd_tf.teachers.categories import cover, read_rules, weights, weights_by_ap
from kd_tf.teachers.fusion import FusionSettings, fuse
from kd_tf.teachers.load import load_teacher

_WEIGHTS = "${KD_TF_DATA}/weights"
TEACHERS = {
    "ssd": f"tflite:{_WEIGHTS}/ssd_mobilenet_v1.tflite"
    f"?classes={_WEIGHTS}/coco80_names.txt&ids=coco",
    "yolox": "python:experiments.yolox_teacher.teacher:load"
    f"?model={_WEIGHTS}/yolox_nano.tflite&names={_WEIGHTS}/coco80_names.txt",
    "picodet": "python:experiments.fusion.picodet:load"
    f"?model={_WEIGHTS}/picodet_s_416_coco.onnx&names={_WEIGHTS}/coco80_names.txt",
    "yolov8_tiny": "keras:runs/fusion/yolov8_tiny/teacher/model.keras?name=yolov8_tiny",
    "retinanet_tiny": "keras:runs/fusion/retinanet_tiny/teacher/model.keras?name=retinanet_tiny",
}
_TINY = "${KD_TF_DATA}/coco_tiny"
IMAGES = {
    "scenes": ["scenes:eval?num=300"],
    "coco": [
        f"coco:{_TINY}/annotations/instances_{part}.json?images={_TINY}/{part}"
        for part in ("train2017", "val2017")
    ],
    "animals": [
        "coco:${KD_TF_DATA}/voc_animals/instances_eval.json?images=${KD_TF_DATA}/voc_animals/images"
    ],
}
ANIMALS = ("cat", "dog", "person", "sheep", "horse", "cow")
NUM_ANIMALS = 300
# Stronger teacher first.
PHOTO_PAIRS = (("yolox", "ssd"), ("picodet", "ssd"), ("picodet", "yolox"))
PAIRS = {
    "scenes": (("yolov8_tiny", "retinanet_tiny"),),
    "coco": PHOTO_PAIRS,
    "animals": PHOTO_PAIRS,
}
LABEL_SCORE, MATCH_IOU, OWN_NMS = 0.5, 0.5, 0.45
_HEADER = """| labels of | at .5 | right | precision | recall | right at equal precision | AP |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Prints one table a set of images and pair of teachers."""
    for given in sys.argv[1:] or IMAGES:
        images, truth = _collect(given, IMAGES[given])
        for strong, weak in PAIRS[given]:
            print(f"\n### {given}, {len(images[strong])} images: {strong} and {weak}\n")
            print(_HEADER)
            for calibrated in (False, True):
                _table(images, truth, strong, weak, calibrated=calibrated)


def _table(images, truth, strong: str, weak: str, *, calibrated: bool) -> None:
    both = {name: images[name] for name in (strong, weak)}
    if calibrated:
        both = {name: _calibrated(found, truth) for name, found in both.items()}
    mark = ", calibrated" if calibrated else ""
    wanted = None
    for name, found in both.items():
        wanted = _row(name + mark, found, truth, precision=wanted)
    pairs = list(zip(*both.values(), strict=True))
    own = [[_own_nms(one) for one in pair] for pair in pairs]
    equal = np.ones((2, len(truth["names"])))
    for method, given in itertools.product(("wbf", "nms", "soft_nms", "vote"), ("", "own")):
        fused = _fused(own if given else pairs, equal, method)
        label = method + (f", own suppression at {OWN_NMS}" if given else "")
        _row(label + mark, fused, truth, precision=wanted)
    _row("wbf, weights by AP" + mark, _fused_by_ap(pairs, images, strong, weak, truth), truth,
         precision=wanted)  # fmt: skip


def _fused(pairs, weights: np.ndarray, method: str) -> list[Detections]:
    settings = FusionSettings(method)
    return [one.detections for one in fuse(pairs, weights=weights, settings=settings)]


def _fused_by_ap(pairs, images, strong: str, weak: str, truth) -> list[Detections]:
    """Each half of the images with the weights that the other half gives."""
    names = truth["names"]
    coverage = cover({strong: names, weak: names}, names)
    fused: list[Detections] = [no_detections()] * len(pairs)
    for start in (0, 1):
        other = set(truth["ids"][1 - start :: 2])
        ap_by_class = [
            evaluate(
                truth["halves"][1 - start],
                [p for p in zip(truth["ids"], images[name], strict=True) if p[0] in other],
            )["per_class"].values()
            for name in (strong, weak)
        ]
        ap = [[np.nan if value is None else value for value in row] for row in ap_by_class]
        table = weights(coverage, teacher_weights=weights_by_ap(coverage, ap))
        fused[start::2] = _fused(pairs[start::2], table, "wbf")
    return fused


def _own_nms(found: Detections) -> Detections:
    """One teacher's detections without its own near-duplicates."""
    (one,) = fuse(
        [[found]],
        weights=np.ones((1, int(found.classes.max(initial=0)) + 1)),
        settings=FusionSettings("nms", OWN_NMS),
    )
    return one.detections


def _row(name: str, found: list[Detections], truth, *, precision: float | None) -> float:
    """Prints one row; gives the precision of the labels."""
    scores, right = _matched(found, truth["labels"])
    labels = scores >= LABEL_SCORE
    num_right, num_objects = int(right[labels].sum()), truth["num_objects"]
    own = num_right / max(labels.sum(), 1)
    # The most right labels that any threshold gives at the better teacher's precision.
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    enough = hits / np.arange(1, len(hits) + 1) >= (own if precision is None else precision)
    at_equal = int(hits[enough].max(initial=0))
    ap = evaluate(truth["truth"], list(zip(truth["ids"], found, strict=True)))["AP"]
    print(f"| {name} | {int(labels.sum())} | {num_right} | {own:.3f} | "
          f"{num_right / num_objects:.3f} | {at_equal} | {ap:.3f} |", flush=True)  # fmt: skip
    return own if precision is None else precision


def _matched(found: list[Detections], labels) -> tuple[np.ndarray, np.ndarray]:
    """Score of every detection, and whether it is the best of its object (IoU .5, same class)."""
    scores, right = [], []
    for one, truth in zip(found, labels, strict=True):
        free = np.ones(len(truth.classes), bool)
        overlaps = box_ious(one.boxes, truth.boxes, is_crowd=np.zeros(len(free), bool))
        for row in np.argsort(-one.scores, kind="stable"):
            fits = (truth.classes == one.classes[row]) & free & (overlaps[row] >= MATCH_IOU)
            scores.append(float(one.scores[row]))
            right.append(bool(fits.any()))
            if fits.any():
                free[np.argmax(np.where(fits, overlaps[row], -1))] = False
    return np.array(scores), np.array(right)


def _calibrated(found: list[Detections], truth) -> list[Detections]:
    """Scores by isotonic regression, each half of the images by the other half."""
    halves = [range(start, len(found), 2) for start in (0, 1)]
    result: list[Detections | None] = [None] * len(found)
    for own, other in (halves, halves[::-1]):
        pairs = [(found[row], truth["labels"][row]) for row in other]
        fitted = calibrate.fit(
            scored.match_to_labels(pairs, num_classes=len(truth["names"])), method="isotonic"
        )
        for row in own:
            result[row] = dataclasses.replace(
                found[row], scores=fitted(found[row].scores, found[row].classes)
            )
    return result


def _collect(given: str, texts: list[str]):
    """What each teacher said about each image, in the run's classes; and the truth."""
    path = f"runs/fusion/{given}.pickle"
    sources = [open_source(specs.parse(text, specs.DATA_KINDS)) for text in texts]
    if given == "animals":
        sources = [_first(sources[0])]
    names = tuple(sources[0].class_names)
    wanted = ANIMALS if given == "animals" else names
    keep = np.array([name in wanted for name in names])
    truth = ground_truth_of(sources, names, keep)
    if files.exists(path):
        return pickle.loads(files.read_bytes(path)), truth
    images = {}
    for name in sorted({name for pair in PAIRS[given] for name in pair}):
        teacher = load_teacher(specs.parse(TEACHERS[name], specs.TEACHER_KINDS))
        known = {name: teacher.needs().class_names}
        (class_map,) = cover(known, names, rules=read_rules("", drop_unknown=True)).class_maps
        images[name] = []
        for source in sources:
            for seen in runner.predict(teacher, source, batch_size=8, name=name):
                classes = class_map[seen.detections.classes]
                rows = (classes >= 0) & keep[classes]
                images[name].append(
                    dataclasses.replace(seen.detections, classes=classes.astype(np.int32))[rows]
                )
    files.write_bytes(path, pickle.dumps(images))
    return images, truth


def _first(source: Source) -> Source:
    step = len(source.items) // NUM_ANIMALS
    return dataclasses.replace(source, items=source.items[::step][:NUM_ANIMALS])


def ground_truth_of(sources: list[Source], names: tuple[str, ...], keep: np.ndarray) -> dict:
    """The objects of all photos, crowds left out, and the form that COCO AP wants."""
    labels = []
    for given in (one.read_labels(item)[0] for one in sources for item in one.items):
        rows = keep[given.classes] & ~given.is_crowd
        boxes, classes, areas = given.boxes[rows], given.classes[rows], given.areas[rows]
        labels.append(Labels(boxes, classes, np.zeros(rows.sum(), bool), areas))
    joined = _joined(sources, labels)
    return {
        "names": names,
        "labels": labels,
        "num_objects": sum(len(one.classes) for one in labels),
        "truth": ground_truth(joined, class_names=names),
        "halves": [
            ground_truth(
                dataclasses.replace(joined, items=joined.items[start::2]), class_names=names
            )
            for start in (0, 1)
        ],
        "ids": [item.image_id for item in joined.items],
    }


def _joined(sources: list[Source], labels) -> Source:
    items = [item for source in sources for item in source.items]
    items = [dataclasses.replace(item, image_id=n) for n, item in enumerate(items, start=1)]
    by_id = {item.image_id: one for item, one in zip(items, labels, strict=True)}
    return dataclasses.replace(
        sources[0], items=items, read_labels=lambda item: (by_id[item.image_id], [])
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
