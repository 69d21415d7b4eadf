"""Question: do thresholds fitted per class beat the best single one?

    python -m experiments.thresholds.compare --workdir=runs/demo \
        --eval_data='scenes:unlabeled?num=800&labels=1'

Reads a workdir whose labels were made with --score_threshold=auto by one teacher: what it said
on the validation images (validation/NAME), to which everything is fitted, and what it said on the
images it labelled (predictions/NAME), on which everything is measured: --eval_data names them with
their true labels. A few seconds.
"""

import argparse
import json

import numpy as np

from kd_tf import files, manifests
from kd_tf.data.items import Source
from kd_tf.data.sources import open_source
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.teachers import fit_thresholds
from kd_tf.teachers.predictions import read_predictions
from kd_tf.teachers.scored import Scored, match_to_labels

_FIXED = np.round(np.arange(0.05, 0.951, 0.01), 2)


def main() -> None:
    """Prints a table: how the thresholds were chosen, precision, recall, F1 on other images."""
    arguments = _parse()
    workdir, name = arguments.workdir, arguments.teacher
    val = _open(f"records:{files.join(workdir, 'labeled', 'val-*.tfrecord')}?name=val")
    fitted_on = _scored(files.join(workdir, "validation", name), val)
    measured_on = _scored(files.join(workdir, "predictions", name), _open(arguments.eval_data))
    names = val.class_names
    chosen = {
        "fixed, 0.5": np.full(len(names), 0.5),
        "fixed, best on validation": np.full(len(names), _best_fixed(fitted_on)),
        "per class, best F1 on validation (auto)": fit_thresholds.fit_f1(
            fitted_on, names, ignore_ratio=0.5
        ).score,
        "fixed, best on the measured images themselves": np.full(
            len(names), _best_fixed(measured_on)
        ),
    }
    rows = {how: measure(measured_on, values) for how, values in chosen.items()}
    print("| thresholds | values | precision | recall | F1 | mean F1 of the classes |")
    print("|---|---|---|---|---|---|")
    for how, row in rows.items():
        values = sorted({round(float(value), 2) for value in chosen[how]})
        text = ", ".join(f"{value:.2f}" for value in values)
        numbers = " | ".join(
            f"{row[key]:.3f}" for key in ("precision", "recall", "f1", "mean_class_f1")
        )
        print(f"| {how} | {text} | {numbers} |")
    if arguments.out:
        files.write_json(arguments.out, rows)
    print(json.dumps({"objects": {n: int(c) for n, c in _counts(names, measured_on).items()}}))


def measure(scored: Scored, values: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 over all boxes, and the mean of the classes' F1, at IoU 0.5."""
    kept = scored.scores >= values[scored.classes]
    num_classes = len(scored.num_objects)
    right = np.bincount(scored.classes[kept & scored.correct], minlength=num_classes)
    given = np.bincount(scored.classes[kept], minlength=num_classes)
    present = scored.num_objects > 0
    per_class = 2 * right / np.maximum(given + scored.num_objects, 1)
    return {
        "precision": float(right.sum() / max(given.sum(), 1)),
        "recall": float(right.sum() / max(scored.num_objects.sum(), 1)),
        "f1": float(2 * right.sum() / max(given.sum() + scored.num_objects.sum(), 1)),
        "mean_class_f1": float(per_class[present].mean()),
    }


def _best_fixed(scored: Scored) -> float:
    """The single threshold of best F1 over all boxes."""
    num = len(scored.num_objects)
    return float(max(_FIXED, key=lambda value: measure(scored, np.full(num, value))["f1"]))


def _scored(folder: str, source: Source) -> Scored:
    """A teacher's raw predictions in a folder, each right or wrong."""
    assert list(manifests.read(folder).info["class_names"]) == list(source.class_names)
    items = {item.image_id: item for item in source.items}

    def pairs():
        for name in files.list_folder(folder):
            if not name.endswith(".tfrecord"):
                continue
            for one in read_predictions(files.join(folder, name)):
                yield one.detections, source.read_labels(items[one.image_id])[0]

    return match_to_labels(pairs(), num_classes=len(source.class_names))


def _counts(names: tuple[str, ...], scored: Scored) -> dict[str, int]:
    return dict(zip(names, scored.num_objects, strict=True))


def _open(text: str) -> Source:
    return open_source(parse(text, DATA_KINDS))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", required=True, help="A finished run.")
    parser.add_argument("--teacher", default="teacher", help="Name of the teacher.")
    parser.add_argument("--eval_data", required=True, help="The labelled images, with truth.")
    parser.add_argument("--out", default="", help="JSON file for the numbers.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
