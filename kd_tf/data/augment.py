"""Carries out an augmentation plan on pixels, boxes and what belongs to them, inside the graph.

Everything geometric is one resampling per image: zoom, cut, and the place on the canvas or in
a mosaic are one `ScaleAndTranslate`, the same kernel as the plain letterbox's. Without any
augmentation the result is exactly `geometry.letterbox.resize_image`.
"""

import tensorflow as tf

from kd_tf.data.select import Labels

PAD_VALUE = 114.0
# A box of which less than this is left, or whose shorter side is below so many pixels, is in
# doubt: the student can neither find it nor be blamed for finding it. It is ignored.
MIN_VISIBLE = 0.2
MIN_SIDE_PX = 2.0


def place(
    pixels: tf.Tensor,
    labels: Labels,
    *,
    tile: tf.Tensor,
    image_size: tuple[int, int],
    view: tuple[int | tf.Tensor, int | tf.Tensor],
) -> tuple[tf.Tensor, Labels]:
    """Puts one image on grey, and its boxes with it.

    Args:
        pixels: [H, W, 3] uint8.
        labels: Its labels as `select` gives them.
        tile: [16] float32 as in `Plan.tiles`.
        image_size: (height, width) of the network's input: at zoom 1 the image has the size
            that the letterbox would give it.
        view: (height, width) of the canvas, the input or a part of it.

    Returns:
        The canvas [*view, 3] float32 in 0..255, and the labels with "boxes" [K, 4] float32
        xyxy pixels of the canvas in place of "boxes_xyxy_unit". Boxes quite outside are
        gone; slivers are ignored.
    """
    size = tf.shape(pixels)[:2]
    new_size = _zoomed_size(size, image_size, zoom=tile[0])
    free = tf.stack(view) - new_size
    corner = tf.cast(tf.floor(tile[2:0:-1] * tf.cast(free, tf.float32)), tf.int32)
    canvas = _resample(pixels, corner=corner, new_size=new_size, view=view)
    canvas = tf.tensordot(canvas, tf.reshape(tile[4:], [3, 4])[:, :3], [[2], [1]]) + tile[7::4]
    canvas = _on_grey(canvas, corner=corner, view=view)
    labels = _place_boxes(labels, corner=corner, new_size=new_size, view=view, zoom=tile[0])
    return tf.cond(
        tile[3] > 0.5, lambda: _mirror(canvas, labels, width=view[1]), lambda: (canvas, labels)
    )


def _zoomed_size(size: tf.Tensor, image_size: tuple[int, int], *, zoom: tf.Tensor) -> tf.Tensor:
    """(height, width) in whole pixels, at zoom 1 that of the letterbox."""
    size = tf.cast(size, tf.float64)
    scale = tf.reduce_min(tf.constant(image_size, tf.float64) / size)
    return tf.maximum(tf.cast(tf.round(size * scale * tf.cast(zoom, tf.float64)), tf.int32), 1)


def _resample(pixels: tf.Tensor, *, corner: tf.Tensor, new_size: tf.Tensor, view) -> tf.Tensor:
    """The part of the zoomed image that the view shows, float32.

    An image that fits is not moved here: a shift inside the kernel changes the rounding of
    one pixel in a thousand, and then the result would not be the letterbox's.
    """
    resampled = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=tf.minimum(new_size, tf.stack(view)),
        scale=tf.cast(new_size, tf.float32) / tf.cast(tf.shape(pixels)[:2], tf.float32),
        translation=tf.cast(tf.minimum(corner, 0), tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    return tf.round(resampled[0])


def _on_grey(part: tf.Tensor, *, corner: tf.Tensor, view) -> tf.Tensor:
    before = tf.maximum(corner, 0)
    after = tf.stack(view) - before - tf.shape(part)[:2]
    padding = tf.stack([before, after], axis=1)
    return tf.pad(part, tf.pad(padding, [[0, 1], [0, 0]]), constant_values=PAD_VALUE)


def _place_boxes(
    labels: Labels, *, corner: tf.Tensor, new_size: tf.Tensor, view, zoom: tf.Tensor
) -> Labels:
    repeat = tf.constant([1, 0, 1, 0])  # (y, x) to (x, y, x, y)
    full = labels["boxes_xyxy_unit"] * tf.cast(tf.gather(new_size, repeat), tf.float32)
    full += tf.cast(tf.gather(corner, repeat), tf.float32)
    limit = tf.cast(tf.gather(tf.stack(view), repeat), tf.float32)
    boxes = tf.clip_by_value(full, 0.0, limit)
    sides = boxes[:, 2:] - boxes[:, :2]
    visible = tf.reduce_prod(sides, axis=1) / tf.reduce_prod(full[:, 2:] - full[:, :2], axis=1)
    small = tf.reduce_min(sides, axis=1) < MIN_SIDE_PX
    # What was small before stays an object: only what the augmentation did puts it in doubt.
    doubtful = (visible < MIN_VISIBLE) | (small & ((visible < 0.999) | (zoom < 1.0)))
    moved = {key: rows for key, rows in labels.items() if key != "boxes_xyxy_unit"}
    moved |= {
        "boxes": boxes,
        "ignore": labels["ignore"] | doubtful,
        "weights": tf.where(doubtful, 0.0, labels["weights"]),
    }
    inside = tf.reduce_all(sides > 0.0, axis=1)
    return {key: tf.boolean_mask(rows, inside) for key, rows in moved.items()}


def _mirror(canvas: tf.Tensor, labels: Labels, *, width) -> tuple[tf.Tensor, Labels]:
    x1, y1, x2, y2 = tf.unstack(labels["boxes"], axis=1)
    width = tf.cast(width, tf.float32)
    boxes = tf.stack([width - x2, y1, width - x1, y2], axis=1)
    return tf.reverse(canvas, [1]), labels | {"boxes": boxes}


def mosaic_views(
    centre: tf.Tensor, image_size: tuple[int, int]
) -> list[tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """The four parts of a mosaic, row by row, each as ((top, left), (height, width)).

    Args:
        centre: [2] float32, where they meet as shares of width and height.
        image_size: (height, width) of the whole.
    """
    height, width = image_size
    x = tf.cast(tf.round(centre[0] * width), tf.int32)
    y = tf.cast(tf.round(centre[1] * height), tf.int32)
    zero = tf.constant(0)
    return [
        ((zero, zero), (y, x)),
        ((zero, x), (y, width - x)),
        ((y, zero), (height - y, x)),
        ((y, x), (height - y, width - x)),
    ]


def join_mosaic(
    tiles: list[tuple[tf.Tensor, Labels]], corners: list[tuple[tf.Tensor, tf.Tensor]]
) -> tuple[tf.Tensor, Labels]:
    """Four placed images as one, their labels one behind the other."""
    canvases = [canvas for canvas, _ in tiles]
    top, bottom = tf.concat(canvases[:2], axis=1), tf.concat(canvases[2:], axis=1)
    moved = []
    for (_, labels), (y, x) in zip(tiles, corners, strict=True):
        shift = tf.cast(tf.stack([x, y, x, y]), tf.float32)
        moved.append(labels | {"boxes": labels["boxes"] + shift})
    return tf.concat([top, bottom], axis=0), join_labels(moved)


def join_labels(parts: list[Labels]) -> Labels:
    """Labels of several images one behind the other."""
    return {key: tf.concat([part[key] for part in parts], axis=0) for key in parts[0]}


def mix(
    first: tuple[tf.Tensor, Labels], second: tuple[tf.Tensor, Labels], *, share: tf.Tensor
) -> tuple[tf.Tensor, Labels]:
    """Two images blended, `share` of the first; all boxes of both count in full.

    Source: Zhang et al. 2019, "Bag of Freebies for Training Object Detection Neural
    Networks"; without the loss weights, since both images stay well visible.
    """
    canvas = first[0] * share + second[0] * (1.0 - share)
    return canvas, join_labels([first[1], second[1]])
