"""Gives an image the size of a network's input, and takes boxes there and back."""

import numpy as np
import tensorflow as tf

from kd_tf.geometry.detections import Resize


def placement(
    original: tuple[int, int], target: tuple[int, int], *, resize: Resize
) -> tuple[float, float, float, float]:
    """Where an image lies in the network's input.

    Args:
        original: (height, width) of the image in pixels.
        target: (height, width) of the input in pixels.
        resize: As in `Needs.resize`.

    Returns:
        (scale_x, scale_y, offset_x, offset_y): a point of the image at x lies at
        `x * scale_x + offset_x` in the input. Scales are those of the rounded
        size in whole pixels, so they are exact.
    """
    if resize == "none":
        return 1.0, 1.0, 0.0, 0.0
    height, width = original
    if resize == "stretch":
        return target[1] / width, target[0] / height, 0.0, 0.0
    scale = min(target[0] / height, target[1] / width)
    new_height = min(max(int(np.rint(height * scale)), 1), target[0])
    new_width = min(max(int(np.rint(width * scale)), 1), target[1])
    centred = resize == "letterbox"
    return (
        new_width / width,
        new_height / height,
        float((target[1] - new_width) // 2) if centred else 0.0,
        float((target[0] - new_height) // 2) if centred else 0.0,
    )


def boxes_to_input(
    boxes: np.ndarray, original: tuple[int, int], target: tuple[int, int], *, resize: Resize
) -> np.ndarray:
    """Moves xyxy pixel boxes [N, 4] from the original image to the network's input."""
    scale_x, scale_y, offset_x, offset_y = placement(original, target, resize=resize)
    scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float64)
    offset = np.array([offset_x, offset_y, offset_x, offset_y], np.float64)
    return (boxes * scale + offset).astype(np.float32)


def boxes_to_original(
    boxes: np.ndarray, original: tuple[int, int], target: tuple[int, int], *, resize: Resize
) -> np.ndarray:
    """Moves xyxy pixel boxes [N, 4] from the input back, clipped to the original image."""
    scale_x, scale_y, offset_x, offset_y = placement(original, target, resize=resize)
    scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float64)
    offset = np.array([offset_x, offset_y, offset_x, offset_y], np.float64)
    limit = np.array([original[1], original[0], original[1], original[0]], np.float64)
    return np.clip((boxes - offset) / scale, 0.0, limit).astype(np.float32)


def resize_image(
    image: tf.Tensor, target: tuple[int, int], *, resize: Resize, pad_value: int = 114
) -> tf.Tensor:
    """Resizes an image [H, W, 3] uint8 to `target` (height, width), uint8, for `placement`.

    Bilinear, antialiased where it shrinks: small objects survive a strong
    reduction instead of falling between the samples.
    """
    if resize == "none":
        return image
    if resize == "stretch":
        return _resize(image, target[0], target[1])
    shape = tf.shape(image)
    height, width = tf.cast(shape[0], tf.float64), tf.cast(shape[1], tf.float64)
    scale = tf.minimum(target[0] / height, target[1] / width)
    new_height = tf.clip_by_value(tf.cast(tf.round(height * scale), tf.int32), 1, target[0])
    new_width = tf.clip_by_value(tf.cast(tf.round(width * scale), tf.int32), 1, target[1])
    small = _resize(image, new_height, new_width)
    centred = resize == "letterbox"
    top = (target[0] - new_height) // 2 if centred else 0
    left = (target[1] - new_width) // 2 if centred else 0
    rows = [top, target[0] - new_height - top]
    columns = [left, target[1] - new_width - left]
    padded = tf.pad(small, [rows, columns, [0, 0]], constant_values=pad_value)
    return tf.ensure_shape(padded, [*target, 3])


def _resize(image: tf.Tensor, height: int | tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
    same = tf.reduce_all(tf.equal(tf.shape(image)[:2], [height, width]))
    return tf.cond(
        same,
        lambda: image,
        lambda: tf.cast(
            tf.round(tf.image.resize(image, [height, width], antialias=True)), tf.uint8
        ),
    )
