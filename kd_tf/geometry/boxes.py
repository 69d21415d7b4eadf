"""Overlaps of boxes: xyxy, absolute pixels, float32; pure functions.

The functions without `pairwise` broadcast: boxes [..., 4] against boxes [..., 4].
A box whose right edge is left of its left edge has area 0.
"""

import math

import tensorflow as tf

# Keeps 0 / 0 away; that of torchvision.ops, so that the values can be compared.
_EPSILON = 1e-7


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Area of boxes [..., 4] in square pixels, [...], never negative."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return tf.nn.relu(x2 - x1) * tf.nn.relu(y2 - y1)


def intersection(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Common area of boxes [..., 4] and [..., 4] in square pixels, broadcast."""
    ax1, ay1, ax2, ay2 = tf.unstack(boxes_a, axis=-1)
    bx1, by1, bx2, by2 = tf.unstack(boxes_b, axis=-1)
    width = tf.nn.relu(tf.minimum(ax2, bx2) - tf.maximum(ax1, bx1))
    return width * tf.nn.relu(tf.minimum(ay2, by2) - tf.maximum(ay1, by1))


def iou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Intersection over union in [0, 1], broadcast; 0 where both boxes are empty."""
    common = intersection(boxes_a, boxes_b)
    return common / (area(boxes_a) + area(boxes_b) - common + _EPSILON)


def giou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Generalised IoU in [-1, 1], broadcast: has a gradient where boxes do not touch.

    Source: Rezatofighi et al. 2019, "Generalized Intersection over Union", eq. 2-3,
    https://arxiv.org/abs/1902.09630.
    """
    common = intersection(boxes_a, boxes_b)
    union = area(boxes_a) + area(boxes_b) - common
    width, height = _hull(boxes_a, boxes_b)
    hull = width * height
    return common / (union + _EPSILON) - (hull - union) / (hull + _EPSILON)


def ciou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Complete IoU in [-1.5, 1], broadcast: IoU less centre distance and aspect difference.

    The trade-off factor alpha is not differentiated, as in the paper's own code.

    Source: Zheng et al. 2020, "Distance-IoU Loss", eq. 8-11, https://arxiv.org/abs/1911.08287.
    """
    overlap = iou(boxes_a, boxes_b)
    ax, ay, a_width, a_height = _centre_and_size(boxes_a)
    bx, by, b_width, b_height = _centre_and_size(boxes_b)
    width, height = _hull(boxes_a, boxes_b)
    distance = (ax - bx) ** 2 + (ay - by) ** 2
    distance = distance / (width**2 + height**2 + _EPSILON)
    # h may be 0 in a prediction; the floor keeps the quotient and its gradient finite.
    a_aspect = tf.atan(a_width / tf.maximum(a_height, _EPSILON))
    b_aspect = tf.atan(b_width / tf.maximum(b_height, _EPSILON))
    aspect = 4.0 / math.pi**2 * (a_aspect - b_aspect) ** 2
    alpha = tf.stop_gradient(aspect / (1.0 - overlap + aspect + _EPSILON))
    return overlap - distance - alpha * aspect


def pairwise_ciou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Complete IoU of every box of [..., N, 4] with every box of [..., M, 4]: [..., N, M]."""
    return ciou(boxes_a[..., :, None, :], boxes_b[..., None, :, :])


def _centre_and_size(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return (x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1


def _hull(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Width and height of the smallest box around both."""
    ax1, ay1, ax2, ay2 = tf.unstack(boxes_a, axis=-1)
    bx1, by1, bx2, by2 = tf.unstack(boxes_b, axis=-1)
    width = tf.maximum(ax2, bx2) - tf.minimum(ax1, bx1)
    return width, tf.maximum(ay2, by2) - tf.minimum(ay1, by1)
