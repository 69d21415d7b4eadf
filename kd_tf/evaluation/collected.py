"""The detections of a whole data set, in flat arrays and in COCO's results file."""

import dataclasses
import json
from collections.abc import Iterable

import numpy as np

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.geometry.detections import Detections
from kd_tf.schema import NUMBER, WHOLE, check
from kd_tf.values import show


@dataclasses.dataclass(frozen=True)
class Collected:
    """Detections of all images, ordered by image; within one image as they came.

    About 40 bytes a detection: 20 MB for 5,000 images with 100 each.

    Attributes:
        image_index: [D] int64, row of `GroundTruth.image_ids`, ascending.
        boxes: [D, 4] float64, xyxy, pixels of the upright image.
        scores: [D] float64 in [0, 1].
        classes: [D] int32, indices into `GroundTruth.class_names`.
        num_images_seen: Images for which there was a prediction, empty or not; the others
            count as images in which nothing was found.
        num_unjudged: Detections left out because nobody could have marked their class in
            that image (see `Labels.judged`) and nobody did; 0 for data sets labelled in full.
    """

    image_index: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    num_images_seen: int
    num_unjudged: int = 0

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, image: int) -> slice:
        """The detections of the image at row `image` of `GroundTruth.image_ids`."""
        first, last = np.searchsorted(self.image_index, [image, image + 1])
        return slice(int(first), int(last))

    def take(self, rows: np.ndarray) -> "Collected":
        """Some of the detections: a mask [D] or row numbers, ascending."""
        columns = {
            name: getattr(self, name)[rows]
            for name in ("image_index", "boxes", "scores", "classes")
        }
        return dataclasses.replace(self, **columns)


def collect(truth: GroundTruth, predictions: Iterable[tuple[int, Detections]]) -> Collected:
    """Reads predictions once, in any order of images, and checks them.

    Args:
        truth: What they will be scored against.
        predictions: (image id, detections in pixels of the original upright image, classes
            as indices into `truth.class_names`). An image without an entry counts as one
            in which nothing was found.

    Raises:
        UserError: Unknown image id, the same image twice, a class outside the list, or a
            value that is not finite.
    """
    order = {int(image_id): row for row, image_id in enumerate(truth.image_ids)}
    parts: dict[int, Detections] = {}
    num_unjudged = 0
    for image_id, found in predictions:
        row = order.get(int(image_id))
        _check(image_id, found, known=row is not None, again=row in parts, truth=truth)
        if row in truth.judged and len(found):
            marked = truth.classes[truth.rows(row)]
            judged = np.isin(found.classes, np.union1d(truth.judged[row], marked))
            num_unjudged += int(np.sum(~judged))
            found = found[judged]
        parts[row] = found
    rows = sorted(parts)
    return Collected(
        image_index=np.repeat(np.array(rows, np.int64), [len(parts[row]) for row in rows]),
        boxes=_join([parts[row].boxes for row in rows], np.float64, (4,)),
        scores=_join([parts[row].scores for row in rows], np.float64, ()),
        classes=_join([parts[row].classes for row in rows], np.int32, ()),
        num_images_seen=len(rows),
        num_unjudged=num_unjudged,
    )


def write_results(truth: GroundTruth, found: Collected, *, path: str) -> None:
    """Writes `found` in COCO's results format, with the data set's own image and category ids.

    pycocotools' `loadRes` takes the file as it is. Numbers are written in full, so
    that whoever scores the file gets the numbers of `metrics.json`.
    """
    with files.writing(path) as file:
        file.write(b"[")
        for row, (x1, y1, x2, y2) in enumerate(found.boxes.tolist()):
            result = {
                "image_id": int(truth.image_ids[found.image_index[row]]),
                "category_id": truth.category_ids[found.classes[row]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": float(found.scores[row]),
            }
            file.write((",\n" if row else "\n").encode() + json.dumps(result).encode())
        file.write(b"\n]\n")


_ANEW = "Give --stage=evaluate --overwrite to score again."


def read_results(truth: GroundTruth, *, path: str) -> Collected:
    """Reads a results file that `write_results` wrote for the same data set."""
    results = documents.read_json(path)
    schema = [{"image_id": WHOLE, "category_id": WHOLE, "bbox": [NUMBER], "score": NUMBER}]
    check(results, schema, path=path, advice=_ANEW)
    image_row = {int(image_id): row for row, image_id in enumerate(truth.image_ids)}
    class_index = {number: index for index, number in enumerate(truth.category_ids)}
    for result in results:
        known = result["image_id"] in image_row and result["category_id"] in class_index
        if not known or len(result["bbox"]) != 4:
            raise UserError(f"{path} is damaged: {show(str(result), 200)} fits no image. {_ANEW}")
    boxes_xywh = _join([r["bbox"] for r in results], np.float64, (4,))
    images = np.array([image_row[r["image_id"]] for r in results], np.int64)
    order = np.argsort(images, kind="stable")
    return Collected(
        image_index=images[order],
        boxes=np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)[
            order
        ],
        scores=np.array([r["score"] for r in results], np.float64)[order],
        classes=np.array([class_index[r["category_id"]] for r in results], np.int32)[order],
        num_images_seen=len(np.unique(images)),
    )


def _check(
    image_id: int, found: Detections, *, known: bool, again: bool, truth: GroundTruth
) -> None:
    if not known:
        raise UserError(f"A prediction is for image id {image_id}, which the data set lacks.")
    if again:
        raise UserError(f"Two predictions are for image id {image_id}; give one.")
    if not (len(found.boxes) == len(found.scores) == len(found.classes)):
        raise UserError(
            f"Image id {image_id}: {len(found.boxes)} boxes, {len(found.scores)} scores and "
            f"{len(found.classes)} classes; the three must be as many."
        )
    if not (np.all(np.isfinite(found.boxes)) and np.all(np.isfinite(found.scores))):
        raise UserError(f"Image id {image_id}: a box or a score is NaN or infinite.")
    num_classes = len(truth.class_names)
    if len(found) and not 0 <= np.min(found.classes) <= np.max(found.classes) < num_classes:
        raise UserError(
            f"Image id {image_id}: class indices {np.min(found.classes)}.."
            f"{np.max(found.classes)} are outside the class list, 0..{num_classes - 1}."
        )


def _join(parts: list, dtype: type, tail: tuple[int, ...]) -> np.ndarray:
    parts = [np.asarray(part, dtype).reshape(-1, *tail) for part in parts]
    return np.concatenate([np.zeros((0, *tail), dtype), *parts])
