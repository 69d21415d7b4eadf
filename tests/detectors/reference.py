"""The losses once more, in plain NumPy float64 loops, from the papers' formulas.

Slow on purpose: one image, one anchor, one box at a time, no function shared with the package.
Whatever a gradient does not pass through (assignment, alpha, normaliser) can be handed in, so
that finite differences hold it fixed.
"""

import dataclasses
import math

import numpy as np

EPSILON = 1e-7


@dataclasses.dataclass
class Matched:
    """Of one image: box [A] (-1 for none), target [A]."""

    box: np.ndarray
    target: np.ndarray


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def cross_entropy(logit, target):
    """-y log p - (1 - y) log(1 - p), from the logit."""
    return target * np.logaddexp(0, -logit) + (1 - target) * np.logaddexp(0, logit)


def focal(logit, target):
    return abs(target - sigmoid(logit)) ** 2 * cross_entropy(logit, target)


def common_area(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    return width * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def iou(a, b):
    return common_area(a, b) / (area(a) + area(b) - common_area(a, b) + EPSILON)


def area(a):
    return max(a[2] - a[0], 0.0) * max(a[3] - a[1], 0.0)


def giou(a, b):
    union = area(a) + area(b) - common_area(a, b)
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return iou(a, b) - (hull - union) / (hull + EPSILON)


def aspect_alpha(a, b):
    v = aspect(a, b)
    return v / (1 - iou(a, b) + v + EPSILON)


def aspect(a, b):
    angles = [math.atan((c[2] - c[0]) / max(c[3] - c[1], EPSILON)) for c in (a, b)]
    return 4 / math.pi**2 * (angles[0] - angles[1]) ** 2


def ciou(a, b, alpha=None):
    alpha = aspect_alpha(a, b) if alpha is None else alpha
    centres = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return iou(a, b) - centres / (width**2 + height**2 + EPSILON) - alpha * aspect(a, b)


def serve(box, preference, valid):
    """Boxes without an anchor take the free one they prefer, round by round."""
    box, given = box.copy(), set()
    while True:
        waiting = [m for m in np.flatnonzero(valid) if not (box == m).any()]
        if not waiting:
            return box
        wishes = {}
        for m in waiting:
            free = [a for a in range(len(box)) if a not in given]
            wish = max(free, key=lambda a: preference[m, a])
            wishes.setdefault(wish, []).append(m)
        for anchor, boxes in wishes.items():
            box[anchor] = max(boxes, key=lambda m: preference[m, anchor])
            given.add(anchor)


def nearness(point, box):
    distance = math.hypot(point[0] - (box[0] + box[2]) / 2, point[1] - (box[1] + box[3]) / 2)
    return -distance / (1 + distance)


def match_task_aligned(scores, predicted, points, boxes, classes, valid):
    """Task-aligned assignment of one image."""
    num_anchors = len(points)
    overlap = np.zeros((len(boxes), num_anchors))
    alignment, preference = np.zeros_like(overlap), np.zeros_like(overlap)
    wanted = np.zeros_like(overlap, bool)
    for m in np.flatnonzero(valid):
        x1, y1, x2, y2 = boxes[m]
        inside = [a for a, (x, y) in enumerate(points) if x1 < x < x2 and y1 < y < y2]
        for a in range(num_anchors):
            overlap[m, a] = max(ciou(boxes[m], predicted[a]), 0.0)
            alignment[m, a] = scores[a, classes[m]] * overlap[m, a] ** 6
            preference[m, a] = nearness(points[a], boxes[m])
        preference[m, inside] += 1 + alignment[m, inside]
        wanted[m, sorted(inside, key=lambda a: -alignment[m, a])[:13]] = True
    box = np.array(
        [
            max(np.flatnonzero(wanted[:, a]), key=lambda m: overlap[m, a])
            if wanted[:, a].any()
            else -1
            for a in range(num_anchors)
        ]
    )
    box = serve(box, preference, valid)
    target = np.zeros(num_anchors)
    for m in np.flatnonzero(valid):
        mine = np.flatnonzero(box == m)
        if alignment[m, mine].max() > 0:
            scale = overlap[m, mine].max() / alignment[m, mine].max()
            target[mine] = alignment[m, mine] * scale
    return Matched(box, target)


def class_loss(logits, labels, image, matched, *, loss, covers):
    """Sum over anchors and classes of one image."""
    classes, weights, ignore = (labels[k][image] for k in ("classes", "weights", "ignore"))
    judged = labels["judged"][image]
    valid = [m for m in range(len(classes)) if classes[m] >= 0 and not ignore[m]]
    background = max((weights[m] for m in valid), default=1.0)
    total = 0.0
    for a, m in enumerate(matched.box):
        for c in range(logits.shape[1]):
            hidden = any(
                ignore[k] and classes[k] == c and covers(k, a) for k in range(len(classes))
            )
            sure = judged[c] and not hidden
            if m >= 0:
                own = classes[m] == c
                if own or sure:
                    target = matched.target[a] if own else 0.0
                    total += weights[m] * loss(logits[a, c], target)
                continue
            if sure:
                total += background * loss(logits[a, c], 0.0)
    return total


def yolo_boxes(distances, points, strides):
    """Boxes [A, 4] from logits [A, 64]."""
    exp = np.exp(distances.reshape(-1, 4, 16))
    mean = (exp / exp.sum(-1, keepdims=True) * np.arange(16)).sum(-1) * strides[:, None]
    return np.concatenate([points - mean[:, :2], points + mean[:, 2:]], axis=1)


def match_yolo(outputs, labels, points, strides):
    """One `Matched` per image, and each positive's alpha by (image, anchor)."""
    matched, alphas = [], {}
    for i, (distances, logits) in enumerate(zip(outputs["boxes"], outputs["classes"], strict=True)):
        predicted = yolo_boxes(distances, points, strides)
        valid = (labels["classes"][i] >= 0) & ~labels["ignore"][i]
        boxes = labels["boxes"][i].astype(np.float64)
        matched.append(
            match_task_aligned(
                sigmoid(logits), predicted, points, boxes, labels["classes"][i], valid
            )
        )
        for a in np.flatnonzero(matched[-1].box >= 0):
            alphas[i, a] = aspect_alpha(predicted[a], boxes[matched[-1].box[a]])
    return matched, alphas


def yolo_loss(outputs, labels, points, strides, *, matched, alphas):
    """The terms of the YOLO loss, gains included, and the normaliser."""
    sums = {"class": 0.0, "box": 0.0, "dfl": 0.0, "normalizer": 0.0}
    for i, (distances, logits) in enumerate(zip(outputs["boxes"], outputs["classes"], strict=True)):
        boxes = labels["boxes"][i].astype(np.float64)

        def covers(m, a, boxes=boxes):
            (x, y), (x1, y1, x2, y2) = points[a], boxes[m]
            return x1 < x < x2 and y1 < y < y2

        sums["class"] += 0.5 * class_loss(
            logits, labels, i, matched[i], loss=cross_entropy, covers=covers
        )
        predicted = yolo_boxes(distances, points, strides)
        for a in np.flatnonzero(matched[i].box >= 0):
            m = matched[i].box[a]
            weight = labels["weights"][i, m] * matched[i].target[a]
            sums["normalizer"] += weight
            sums["box"] += 7.5 * weight * (1 - ciou(predicted[a], boxes[m], alphas[i, a]))
            edges = np.concatenate([points[a] - boxes[m, :2], boxes[m, 2:] - points[a]])
            sums["dfl"] += 1.5 * weight * _distribution_loss(distances[a], edges / strides[a])
    return sums


def _distribution_loss(logits, edges):
    total = 0.0
    for side, edge in zip(logits.reshape(4, 16), np.clip(edges, 0, 14.99), strict=True):
        log_p = side - np.log(np.exp(side).sum())
        low = math.floor(edge)
        total -= (low + 1 - edge) * log_p[low] + (edge - low) * log_p[low + 1]
    return total / 4


def retinanet_boxes(offsets, anchors):
    """Boxes [A, 4] from offsets [A, 4]."""
    x1, y1, x2, y2 = anchors.astype(np.float64).T
    dx, dy, dw, dh = offsets.T
    x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
    w, h = (x2 - x1) * np.exp(dw), (y2 - y1) * np.exp(dh)
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)


def match_retinanet(outputs, labels, anchors):
    """One `Matched` per image."""
    x1, y1, x2, y2 = anchors.astype(np.float64).T
    points = np.stack([np.round((x1 + x2) / 2, 3), np.round((y1 + y2) / 2, 3)], axis=1)
    matched = []
    for i, (offsets, logits) in enumerate(zip(outputs["boxes"], outputs["classes"], strict=True)):
        classes = labels["classes"][i]
        matched.append(
            match_task_aligned(
                sigmoid(logits),
                retinanet_boxes(offsets, anchors),
                points,
                labels["boxes"][i].astype(np.float64),
                classes,
                (classes >= 0) & ~labels["ignore"][i],
            )
        )
    return matched


def retinanet_loss(outputs, labels, anchors, *, matched):
    """The terms of the RetinaNet loss, gains included, and the normaliser."""
    sums = {"class": 0.0, "box": 0.0, "normalizer": 0.0}
    for i, (offsets, logits) in enumerate(zip(outputs["boxes"], outputs["classes"], strict=True)):
        boxes = labels["boxes"][i].astype(np.float64)

        def covers(m, a, boxes=boxes):
            (ax1, ay1, ax2, ay2), (x1, y1, x2, y2) = anchors[a], boxes[m]
            return x1 < (ax1 + ax2) / 2 < x2 and y1 < (ay1 + ay2) / 2 < y2

        sums["class"] += class_loss(logits, labels, i, matched[i], loss=focal, covers=covers)
        predicted = retinanet_boxes(offsets, anchors)
        for a in np.flatnonzero(matched[i].box >= 0):
            m = matched[i].box[a]
            weight = labels["weights"][i, m] * matched[i].target[a]
            sums["box"] += 2.0 * weight * (1 - giou(predicted[a], boxes[m]))
            sums["normalizer"] += weight
    return sums
