"""Is the AP that kd_tf gives a teacher the teacher's own?

Question: do reading, resizing, detecting, mapping back and scoring in kd_tf give what
an independent program (independent.py: PIL, NumPy, pycocotools) gives for the same network?

    KD_TF_DATA=../shared/data python -m experiments.yolox_teacher.compare

Expected: under 2 minutes on 2 cores; differences within 0.002 on identical input arrays, within
0.01 end to end (the two resize differently). The numbers are in RESULTS.md.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

from kd_tf import files, specs
from kd_tf.data.predict import predict
from kd_tf.data.sources import open_source
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.geometry.detections import Detections
from kd_tf.teachers.categories import cover
from kd_tf.teachers.load import load_teacher

TEACHERS = {
    "ssd": "tflite:${KD_TF_DATA}/weights/ssd_mobilenet_v1.tflite",
    "yolox": "python:experiments.yolox_teacher.teacher:load"
    "?model=${KD_TF_DATA}/weights/yolox_nano.tflite"
    "&names=${KD_TF_DATA}/weights/coco80_names.txt",
}
MODELS = {"ssd": "ssd_mobilenet_v1.tflite", "yolox": "yolox_nano.tflite"}
COCO_TINY = "${KD_TF_DATA}/coco_tiny"
DATA = f"coco:{COCO_TINY}/annotations/instances_SPLIT.json?images={COCO_TINY}/SPLIT"


class Recording:
    """A detector that keeps what it was given."""

    def __init__(self, detector):
        self._detector = detector
        self.inputs = []

    def needs(self):
        return self._detector.needs()

    def detect(self, images):
        self.inputs += list(images)
        return self._detector.detect(images)


def score(kind: str, split: str, *, arrays: str) -> dict:
    """kd_tf's numbers for one teacher on one split; writes what the network saw to `arrays`."""
    source = open_source(specs.parse(DATA.replace("SPLIT", split), specs.DATA_KINDS))
    teacher = Recording(load_teacher(specs.parse(TEACHERS[kind], specs.TEACHER_KINDS)))
    coverage = cover({kind: teacher.needs().class_names}, source.class_names)
    (class_map,) = coverage.class_maps
    found, ids = [], []
    for image in predict(teacher, source, batch_size=8, name=kind):
        ids.append(image.item.image_id)
        own = image.detections
        found.append((ids[-1], Detections(own.boxes, own.scores, class_map[own.classes])))
    np.savez(arrays, **dict(zip(map(str, ids), teacher.inputs, strict=True)))
    truth = ground_truth(source, class_names=source.class_names)
    return evaluate(truth, found)


def independent(kind: str, split: str, *, arrays: str | None) -> dict:
    """independent.py's numbers, in a process of its own."""
    data = os.environ["KD_TF_DATA"]
    command = [
        sys.executable,
        os.path.join(os.path.dirname(__file__), "independent.py"),
        kind,
        f"{data}/weights/{MODELS[kind]}",
        f"{data}/coco_tiny/annotations/instances_{split}.json",
        f"{data}/coco_tiny/{split}",
        *([f"--arrays={arrays}"] if arrays else []),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Prints a Markdown table row per teacher and split."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in TEACHERS:
            for split in ("train2017", "val2017"):
                arrays = files.join(folder, f"{kind}_{split}.npz")
                ours = score(kind, split, arrays=arrays)
                same = independent(kind, split, arrays=arrays)
                own = independent(kind, split, arrays=None)
                cells = [ours["AP"], ours["AP50"], same["AP"], own["AP"]]
                cells += [ours["AP"] - same["AP"], ours["AP"] - own["AP"]]
                print(f"| {kind} | {split} | " + " | ".join(f"{v:.4f}" for v in cells) + " |")


if __name__ == "__main__":
    main()
