"""Makes fusion.npz, what ensemble-boxes 1.0.9 says where every teacher knows every class.

    pip install ensemble-boxes==1.0.9 && python tests/teachers/golden/make_fusion.py

ensemble-boxes is needed here only. Its `soft_nms` returns the scores from before the
decay; the decayed ones are taken from the function it calls.
"""

import pathlib

import ensemble_boxes
import numpy as np
from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float

NUM_CASES, NUM_TEACHERS, NUM_CLASSES = 12, 3, 4
IOU_THRESHOLD = 0.55


def make_case(rng: np.random.Generator, *, number: int):
    """Detections of three teachers that see the same objects, each with errors of its own.

    No teacher has two boxes of a class that overlap: there ours differs from ensemble-boxes on
    purpose, which takes near-duplicates of one teacher for votes.
    """
    num = [0, 1, 100][number] if number < 3 else int(rng.integers(2, 60))
    centers, sides = rng.uniform(0.2, 0.8, (num, 2)), rng.uniform(0.02, 0.3, (num, 2))
    labels = rng.integers(0, NUM_CLASSES, num)
    boxes_list, scores_list, labels_list = [], [], []
    for _ in range(NUM_TEACHERS):
        seen = rng.random(num) < 0.8
        noise = rng.normal(0, 0.012, (seen.sum(), 4))
        halves = sides[seen] / 2
        boxes = np.concatenate([centers[seen] - halves, centers[seen] + halves], 1) + noise
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 0.005)
        boxes = np.clip(boxes, 0, 1).astype(np.float32)
        scores = rng.uniform(0.02, 1, seen.sum()).astype(np.float32)
        apart = without_overlaps(boxes, labels[seen])
        boxes_list.append(boxes[apart])
        scores_list.append(scores[apart])
        labels_list.append(labels[seen][apart])
    return boxes_list, scores_list, labels_list


def without_overlaps(boxes: np.ndarray, labels: np.ndarray) -> list[int]:
    """Rows of boxes of which none meets an earlier one of its class."""
    kept: list[int] = []
    for row, box in enumerate(boxes):
        others = boxes[[k for k in kept if labels[k] == labels[row]]].reshape(-1, 4)
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        if not (sides > 0).all(axis=1).any():
            kept.append(row)
    return kept


def soft_nms(boxes, scores, labels):
    """Boxes, decayed scores and labels of Gaussian soft-NMS, class by class."""
    found = []
    for label in np.unique(labels):
        rows = labels == label
        decayed = scores[rows].copy()
        # Sorts `decayed` along with the boxes and returns the order.
        order = cpu_soft_nms_float(boxes[rows].copy(), decayed, 0.5, 0.5, -1.0, 2)
        found.append((boxes[rows][order], decayed, np.full(len(order), label)))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def main():
    rng = np.random.default_rng(7)
    stored = {}
    for number in range(NUM_CASES):
        weights = [1, 1, 1] if number % 2 else [2, 1, 0.5]
        case = make_case(rng, number=number)
        for t in range(NUM_TEACHERS):
            for name, parts in zip(("boxes", "scores", "labels"), case, strict=True):
                stored[f"{number}/in/{t}/{name}"] = parts[t]
        stored[f"{number}/weights"] = np.array(weights, float)
        results = {"wbf": ensemble_boxes.weighted_boxes_fusion(
            *case, weights=weights, iou_thr=IOU_THRESHOLD
        )}  # fmt: skip
        if number % 2 and sum(map(len, case[1])):
            results["nms"] = ensemble_boxes.nms(*map(list, case), iou_thr=IOU_THRESHOLD)
            results["soft_nms"] = soft_nms(*(np.concatenate(parts) for parts in case))
        for method, result in results.items():
            for name, values in zip(("boxes", "scores", "labels"), result, strict=True):
                stored[f"{number}/{method}/{name}"] = np.asarray(values)
    np.savez_compressed(pathlib.Path(__file__).parent / "fusion.npz", **stored)


if __name__ == "__main__":
    main()
