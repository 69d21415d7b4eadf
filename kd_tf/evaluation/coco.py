"""COCO's twelve numbers and the AP of each class, over all images, in original pixels."""

from collections.abc import Iterable

import faster_coco_eval
import numpy as np

from kd_tf.evaluation.collected import Collected, collect
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.geometry.detections import Detections

NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
# x, y, width, height, beyond the edges of any image, as detections may stick out of it.
_EVERYWHERE = [-1e6, -1e6, 2e6, 2e6]


def evaluate(
    truth: GroundTruth, predictions: Iterable[tuple[int, Detections]] | Collected
) -> dict[str, float | int | dict[str, float | None] | None]:
    """Scores predictions as pycocotools does.

    The work is done by faster-coco-eval, a port of pycocotools' loops to C++; tests
    compare all numbers with pycocotools itself to 1e-9. Images and annotations get
    ids from 1 in the order of the data set's own ids: pycocotools takes an annotation
    with id 0 for "no match", which turns a perfect detection into AP 0.

    Args:
        truth: What people marked.
        predictions: As for `collect`, read once; or what `collect` gave.

    Returns:
        The numbers called `NAMES`; "per_class": class name -> AP; "num_images",
        "num_detections". A number over an empty set (no object of that size or class)
        is None, which JSON writes as null.
    """
    found = predictions if isinstance(predictions, Collected) else collect(truth, predictions)
    judge = _run(truth, found)
    metrics = {name: _number(value) for name, value in zip(NAMES, judge.stats[:12], strict=True)}
    precision = np.asarray(judge.eval["precision"])
    metrics["per_class"] = {
        name: _mean(precision[:, :, index, 0, -1]) for index, name in enumerate(truth.class_names)
    }
    metrics["num_images"] = truth.num_images
    metrics["num_images_predicted"] = found.num_images_seen
    metrics["num_objects"] = int(np.sum(~truth.is_crowd))
    metrics["num_detections"] = len(found)
    metrics["num_unjudged_detections"] = found.num_unjudged
    return metrics


def _run(truth: GroundTruth, found: Collected) -> faster_coco_eval.COCOeval_faster:
    annotated = faster_coco_eval.COCO(_dataset(truth))
    judge = faster_coco_eval.COCOeval_faster(
        annotated, annotated.loadRes(_rows(found)), iouType="bbox", print_function=_silent
    )
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge


def _dataset(truth: GroundTruth) -> dict:
    """The ground truth as COCO's instances file would hold it.

    Where not every object of a class is marked, a crowd box everywhere takes the detections
    that find none, so they are ignored as LVIS has it.
    """
    corners = truth.boxes.tolist()
    return {
        "info": {},
        "images": [
            {"id": row + 1, "height": int(height), "width": int(width)}
            for row, (height, width) in enumerate(truth.sizes)
        ],
        "categories": [
            {"id": index + 1, "name": name} for index, name in enumerate(truth.class_names)
        ],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(truth.image_index[row]) + 1,
                "category_id": int(truth.classes[row]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(truth.areas[row]),
                "iscrowd": int(truth.is_crowd[row]),
            }
            for row, (x1, y1, x2, y2) in enumerate(corners)
        ]
        + [
            {
                "id": truth.num_objects + number,
                "image_id": image + 1,
                "category_id": index + 1,
                "bbox": _EVERYWHERE,
                "area": 0.0,
                "iscrowd": 1,
            }
            for number, (image, index) in enumerate(truth.not_exhaustive.tolist(), start=1)
        ],
    }


def _rows(found: Collected) -> np.ndarray:
    """[D, 7] float64: image id, x, y, width, height, score, category id."""
    return np.column_stack(
        [
            found.image_index + 1,
            found.boxes[:, :2],
            found.boxes[:, 2:] - found.boxes[:, :2],
            found.scores,
            found.classes + 1,
        ]
    )


def _number(value: float) -> float | None:
    """COCO writes -1 for "there is nothing to measure"."""
    return None if value < 0 or np.isnan(value) else float(value)


def _mean(precision: np.ndarray) -> float | None:
    measured = precision[precision > -1]
    return float(np.mean(measured)) if measured.size else None


def _silent(*_: object) -> None:
    """Swallows the library's own progress lines."""
