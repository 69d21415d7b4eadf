"""What the pseudo labels of photos cover that nobody labelled: images, objects, classes.

    KD_TF_DATA=FOLDER python -m experiments.run experiments/c3_photos
    KD_TF_DATA=FOLDER python -m experiments.c3_photos.coverage

Prints a table of the grid's cells that label `coco_unlabeled`.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from experiments import cells, grid
from kd_tf.data.shards import RecordSet
from kd_tf.evaluation.report.data import LabelFacts
from kd_tf.evaluation.report.labels import read_labels

_ROWS = {
    "pool_ssd_half": "SSD-MobileNetV1, 40 classes",
    "pool_yolox_half": "YOLOX-Nano, the other 40 classes",
    "pool_disjoint": "both, 40 classes each",
    "pool_yolox": "YOLOX-Nano, 80 classes",
}


def line(name: str, facts: LabelFacts) -> str:
    """One row of the table."""
    named = sum(count > 0 for count in facts.class_counts.values())
    covered = facts.num_images - facts.num_empty
    return (
        f"| {name} | {covered} of {facts.num_images} | {facts.num_boxes} "
        f"| {facts.num_boxes / facts.num_images:.1f} | {named} |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.c3_photos.coverage")
    parser.add_argument("--runs", default="runs", help="where the cells' workdirs are")
    runs = parser.parse_args().runs
    found = grid.load(str(pathlib.Path(__file__).parent))
    print("| labels of | photos with a label | labels | a photo | classes |\n|---|---|---|---|---|")
    for cell in cells.cells(found, runs_folder=runs):
        if cell.run.name in _ROWS:
            if not cell.is_done():
                raise SystemExit(f"{cell.name} has not been run: python -m experiments.run first.")
            records = RecordSet.open(str(cell.folder / "pseudo"))
            facts = read_labels(records, lambda _: None, thresholds={})
            print(line(_ROWS[cell.run.name], facts))


if __name__ == "__main__":
    main()
