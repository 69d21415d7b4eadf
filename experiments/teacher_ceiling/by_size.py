"""Question: what keeps a teacher's AP on the scenes down, its mistakes or the size of the objects?

    python -m experiments.run experiments/c4_label_share --only=shared,sharp --seeds=0
    python -m experiments.teacher_ceiling.by_size --workdir=runs/c4_label_share/sharp/seed0 \\
        --eval_data='scenes:eval?num=300'

Expected time: some 40 min for a teacher, seconds for the last command, which works on any
finished workdir (`--model=finetune` for a student). It prints the AP curve of the training, the AP
of each size of object, and the AP that the true boxes themselves get once every edge is moved
by a normal error of a fraction of a pixel: COCO's AP is a mean over IoU .50 to .95, and one
pixel is a seventh of a box of seven pixels. A detector that finds and names everything, but
whose edges are off by that error, can get no more.
"""

import argparse
import itertools

import faster_coco_eval
import numpy as np

from kd_tf import files
from kd_tf.data.sources import open_source
from kd_tf.evaluation.collected import Collected, read_results
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.evaluation.measure import DETECTIONS
from kd_tf.geometry.overlaps import box_ious
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.training import summaries

# A box's size is the root of its area, in pixels of the original image.
EDGES_PX = (0.0, 8.0, 12.0, 16.0, 24.0, 40.0, 1e4)
JITTERS_PX = (0.25, 0.5, 1.0, 2.0)
_DRAWS = 5


def main() -> None:
    """Prints the tables and writes them to --out."""
    arguments = _parse()
    source = open_source(parse(arguments.eval_data, DATA_KINDS))
    truth = ground_truth(source, class_names=source.class_names)
    path = files.join(arguments.workdir, "evaluate", arguments.model, DETECTIONS)
    found = read_results(truth, path=path)
    rows = {arguments.model: ap_by_size(truth, found)}
    rows |= {f"truth, edges off by {s:g} px": jittered_ap(truth, sigma_px=s) for s in JITTERS_PX}
    metrics = summaries.read_metrics(files.join(arguments.workdir, arguments.model))
    curve = {row["step"]: row["val_ap"] for row in metrics if "val_ap" in row}
    result = {"curve": curve, "num_objects": num_by_size(truth), "ap": rows}
    result["edge_error_px"] = edge_error_by_size(truth, found)
    if arguments.out:
        files.write_json(arguments.out, result)
    print(to_markdown(result))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workdir", required=True, help="With stage evaluate done.")
    add("--eval_data", required=True, help="What stage evaluate was given.")
    add("--model", default="teacher", help="Folder of the model in WORKDIR and WORKDIR/evaluate.")
    add("--out", default="", help="JSON file for the result.")
    return parser.parse_args()


def size_names() -> list[str]:
    """One per size, and "all"."""
    inner = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(EDGES_PX[1:-1])]
    return [f"<{EDGES_PX[1]:g}", *inner, f">{EDGES_PX[-2]:g}", "all"]


def num_by_size(truth: GroundTruth) -> dict[str, int]:
    """Objects of each size, crowds left out."""
    sides = np.sqrt(_box_areas(truth.boxes))[~truth.is_crowd]
    counts = np.histogram(sides, EDGES_PX)[0].tolist()
    return dict(zip(size_names(), [*counts, len(sides)], strict=True))


def ap_by_size(truth: GroundTruth, found: Collected) -> dict[str, float | None]:
    """COCO's AP of each size of object; None where no object has it.

    As COCO does it for small, medium and large: objects of other sizes are ignored, and so
    are detections of another size that found nothing.
    """
    annotated = faster_coco_eval.COCO(_instances(truth))
    rows = np.column_stack(
        [
            found.image_index + 1,
            found.boxes[:, :2],
            found.boxes[:, 2:] - found.boxes[:, :2],
            found.scores,
            found.classes + 1,
        ]
    )
    judge = faster_coco_eval.COCOeval_faster(
        annotated, annotated.loadRes(rows), iouType="bbox", print_function=lambda *_: None
    )
    bounds = [*itertools.pairwise(EDGES_PX), (0.0, EDGES_PX[-1])]
    judge.params.areaRng = [[low**2, high**2] for low, high in bounds]
    judge.params.areaRngLbl = size_names()
    judge.evaluate()
    judge.accumulate()
    precision = np.asarray(judge.eval["precision"])  # [IoU, recall, class, size, max detections]
    return {name: _mean(precision[:, :, :, index, -1]) for index, name in enumerate(size_names())}


def jittered_ap(truth: GroundTruth, *, sigma_px: float) -> dict[str, float | None]:
    """AP by size of the true boxes with a normal error on each edge, mean of several draws."""
    draws = []
    for seed in range(_DRAWS):
        noise = np.random.default_rng(seed).normal(0.0, sigma_px, truth.boxes.shape)
        real = ~truth.is_crowd
        boxes = (truth.boxes + noise)[real]
        # An error larger than the box would turn it inside out.
        boxes = np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2] + 0.1)], axis=1)
        found = Collected(
            image_index=truth.image_index[real],
            boxes=boxes,
            scores=np.ones(len(boxes)),
            classes=truth.classes[real],
            num_images_seen=truth.num_images,
        )
        draws.append(ap_by_size(truth, found))
    return {
        name: None if draws[0][name] is None else float(np.mean([draw[name] for draw in draws]))
        for name in draws[0]
    }


def edge_error_by_size(truth: GroundTruth, found: Collected) -> dict[str, float | None]:
    """The sigma in pixels, by size, of a normal error as large as that of the boxes found.

    Of each object the best-scored detection of its class with IoU of at least .5;
    1.4826 times the median absolute error of the four edges, which outliers leave alone.
    """
    sides, errors = [], []
    for image in range(truth.num_images):
        boxes, classes = found.boxes[found.rows(image)], found.classes[found.rows(image)]
        scores = found.scores[found.rows(image)]
        objects = np.arange(truth.num_objects)[truth.rows(image)]
        objects = objects[~truth.is_crowd[objects]]
        ious = box_ious(boxes, truth.boxes[objects], is_crowd=truth.is_crowd[objects])
        for row, overlaps in zip(objects, ious.T, strict=True):
            near = (classes == truth.classes[row]) & (overlaps >= 0.5)
            if near.any():
                best = boxes[near][np.argmax(scores[near])]
                sides.append(np.sqrt(_box_areas(truth.boxes[row][None])[0]))
                errors.append(np.abs(best - truth.boxes[row]))
    sides, errors = np.array(sides), np.array(errors).reshape(-1, 4)
    bounds = [*itertools.pairwise(EDGES_PX), (0.0, EDGES_PX[-1])]
    groups = [errors[(sides >= low) & (sides < high)] for low, high in bounds]
    values = [1.4826 * float(np.median(group)) if len(group) else None for group in groups]
    return dict(zip(size_names(), values, strict=True))


def _instances(truth: GroundTruth) -> dict:
    """The ground truth as COCO's instances file, with the boxes' own areas."""
    areas = _box_areas(truth.boxes).tolist()
    return {
        "info": {},
        "images": [{"id": row + 1} for row in range(truth.num_images)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(truth.class_names)],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(truth.image_index[row]) + 1,
                "category_id": int(truth.classes[row]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": areas[row],
                "iscrowd": int(truth.is_crowd[row]),
            }
            for row, (x1, y1, x2, y2) in enumerate(truth.boxes.tolist())
        ],
    }


def _box_areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _mean(precision: np.ndarray) -> float | None:
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else None


def to_markdown(result: dict) -> str:
    """The tables of RESULTS.md."""
    curve = ", ".join(f"{step}: {ap:.3f}" for step, ap in result["curve"].items())
    names = size_names()
    lines = [
        f"Validation AP by step: {curve}", "",
        "| AP by size (px) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|",
        "| objects | " + " | ".join(str(result["num_objects"][name]) for name in names) + " |",
    ]  # fmt: skip
    rows = {"its edges are off by (sigma, px)": result["edge_error_px"], **result["ap"]}
    for what, row in rows.items():
        texts = ["-" if row[name] is None else f"{row[name]:.3f}" for name in names]
        lines.append(f"| {what} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
