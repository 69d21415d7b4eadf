"""The AP of a TFLite detector without anything of kd_tf: PIL, NumPy, LiteRT, pycocotools.

    python experiments/yolox_teacher/independent.py ssd ssd_mobilenet_v1.tflite \
        instances_val2017.json val2017 [--arrays=inputs.npz]

With --arrays the network sees exactly the arrays in the file (written by compare.py):
what is left to differ is decoding, suppression, mapping back and evaluation.
"""

import argparse
import contextlib
import io
import json
import os

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def iou_with(box, others):
    """IoU of one xyxy box with several."""
    x1, y1 = np.maximum(box[0], others[:, 0]), np.maximum(box[1], others[:, 1])
    x2, y2 = np.minimum(box[2], others[:, 2]), np.minimum(box[3], others[:, 3])
    inter = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return inter / (area + (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1]) - inter)


def greedy_nms(boxes, scores, threshold):
    """Rows kept, best first."""
    order, kept = list(np.argsort(-scores, kind="stable")), []
    while order:
        best = order.pop(0)
        kept.append(best)
        if order:
            overlap = iou_with(boxes[best], boxes[order])
            order = [row for row, value in zip(order, overlap, strict=True) if value <= threshold]
    return kept


def ssd_input(image):
    """Stretched to 300x300, RGB; scales back to the original per axis."""
    array = np.asarray(image.resize((300, 300), Image.BILINEAR))
    return array, (300 / image.width, 300 / image.height)


def yolox_input(image):
    """In the top-left corner of 416x416 grey, BGR."""
    scale = min(416 / image.width, 416 / image.height)
    width, height = round(image.width * scale), round(image.height * scale)
    array = np.full((416, 416, 3), 114, np.uint8)
    array[:height, :width] = np.asarray(image.resize((width, height), Image.BILINEAR))
    return array[..., ::-1], (width / image.width, height / image.height)


def ssd_detections(outputs, _):
    """Boxes in pixels of the 300x300 input, scores, COCO category ids (class index + 1)."""
    boxes, classes, scores, count = (outputs[i] for i in range(4))
    num = int(count[0])
    y1, x1, y2, x2 = boxes[0, :num].T * 300
    return np.stack([x1, y1, x2, y2], 1), scores[0, :num], classes[0, :num].astype(int) + 1


def yolox_detections(outputs, category_ids):
    """The same for YOLOX, class-wise NMS at 0.65, scores from 0.01."""
    raw = outputs[0][0]
    scores_all = raw[:, 4:5] * raw[:, 5:]
    best = scores_all.argmax(1)
    scores = scores_all[np.arange(len(best)), best]
    keep = scores >= 0.01
    cx, cy, w, h = raw[keep, :4].T
    boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    scores, best = scores[keep], best[keep]
    rows = []
    for index in np.unique(best):
        (members,) = np.nonzero(best == index)
        rows += members[greedy_nms(boxes[members], scores[members], 0.65)].tolist()
    rows = np.array(sorted(rows, key=lambda row: -scores[row]), int)
    return boxes[rows], scores[rows], np.array(category_ids)[best[rows]]


KINDS = {"ssd": (ssd_input, ssd_detections), "yolox": (yolox_input, yolox_detections)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model")
    parser.add_argument("instances")
    parser.add_argument("images")
    parser.add_argument("--arrays", help="npz: one uint8 input array per image id")
    arguments = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(arguments.instances)
    results = detect(arguments, truth)
    # pycocotools takes annotation id 0 for "no match"; these data have none.
    assert min(truth.getAnnIds()) > 0
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    print(json.dumps({"AP": judge.stats[0], "AP50": judge.stats[1], "num": len(results)}))


def detect(arguments, truth):
    """COCO results of the model on every image of `truth`."""
    to_input, to_boxes = KINDS[arguments.kind]
    category_ids = sorted(truth.getCatIds())
    arrays = np.load(arguments.arrays) if arguments.arrays else None
    network = Interpreter(model_path=arguments.model, num_threads=2)
    network.allocate_tensors()
    (into,) = network.get_input_details()
    details = sorted(network.get_output_details(), key=lambda detail: detail["name"])
    results = []
    for image_id in truth.getImgIds():
        name = truth.loadImgs([image_id])[0]["file_name"]
        image = Image.open(os.path.join(arguments.images, name)).convert("RGB")
        array, (scale_x, scale_y) = to_input(image)
        if arrays is not None:
            array = arrays[str(image_id)]
        network.set_tensor(into["index"], array[None].astype(into["dtype"]))
        network.invoke()
        outputs = [network.get_tensor(detail["index"]) for detail in details]
        boxes, scores, categories = to_boxes(outputs, category_ids)
        boxes = boxes / np.array([scale_x, scale_y, scale_x, scale_y])
        boxes = np.clip(boxes, 0, [image.width, image.height, image.width, image.height])
        for (x1, y1, x2, y2), score, category in zip(boxes, scores, categories, strict=True):
            if x2 > x1 and y2 > y1:
                results.append({
                    "image_id": image_id, "category_id": int(category), "score": float(score),
                    "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                })  # fmt: skip
    return results


if __name__ == "__main__":
    main()
