"""What the student learns from one image: chosen when records are read, not when written."""

import dataclasses
from typing import Literal

import tensorflow as tf

from kd_tf.errors import UserError

Labels = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class SelectSettings:
    """Which detections are objects, which are in doubt, and how much each one counts.

    Attributes:
        score_threshold: Lowest score of an object, inclusive; one value or one per class.
        ignore_threshold: From here to the score threshold a detection is neither object nor
            background; one value or one per class.
        score_weighting: "none" weighs all objects 1, "linear" by the score, "power" by the
            score to `score_power`. A person's box always weighs 1.
        score_power: See above.
    """

    score_threshold: float | tuple[float, ...] = 0.5
    ignore_threshold: float | tuple[float, ...] = 0.3
    score_weighting: Literal["none", "linear", "power"] = "none"
    score_power: float = 2.0

    def per_class(self, num_classes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The score and the ignore thresholds, one per class.

        Raises:
            UserError: The wrong number of them, one outside [0, 1], or an ignore threshold
                above the score threshold.
        """
        score = _per_class(self.score_threshold, num_classes, name="score_threshold")
        ignore = _per_class(self.ignore_threshold, num_classes, name="ignore_threshold")
        for index, (low, high) in enumerate(zip(ignore, score, strict=True)):
            if low > high:
                raise UserError(
                    f"ignore_threshold {low} of class {index} is above its score_threshold {high}: "
                    "the ignore band lies below. Equal values switch it off."
                )
        return score, ignore


def _per_class(value: float | tuple[float, ...], num: int, *, name: str) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, tuple | list) else (float(value),) * num
    if len(values) != num:
        raise UserError(f"{name} has {len(values)} values for {num} classes.")
    for one in values:
        if not 0.0 <= one <= 1.0:
            raise UserError(f"{name} must be in [0, 1], got {one}.")
    return values


def select(objects: Labels, *, settings: SelectSettings, num_classes: int) -> Labels:
    """Keeps objects and what is in doubt, in the order given.

    Args:
        objects: Of one image, as `parse` gives them: "boxes_xyxy_unit" [N, 4], "scores" [N],
            "classes" [N] int32, "human" and "is_crowd" [N] bool.
        settings: Thresholds and weights.
        num_classes: Length of the class list.

    Returns:
        "boxes_xyxy_unit" [K, 4], "scores" [K], "classes" [K], "weights" [K] float32 (0 for
        what is ignored), "ignore" [K] bool (ignore band or crowd). K may be 0: an image on
        which the teacher is unsure yields no labels.
    """
    score_thresholds, ignore_thresholds = settings.per_class(num_classes)
    scores, classes, human = objects["scores"], objects["classes"], objects["human"]
    confident = human | (scores >= tf.gather(tf.constant(score_thresholds), classes))
    seen = human | (scores >= tf.gather(tf.constant(ignore_thresholds), classes))
    ignore = seen & (objects["is_crowd"] | ~confident)
    weights = tf.where(human, 1.0, _weights(scores, settings)) * tf.cast(~ignore, tf.float32)
    labels = {
        "boxes_xyxy_unit": objects["boxes_xyxy_unit"],
        "scores": scores,
        "classes": classes,
        "weights": weights,
        "ignore": ignore,
    }
    return {key: tf.boolean_mask(rows, seen) for key, rows in labels.items()}


def _weights(scores: tf.Tensor, settings: SelectSettings) -> tf.Tensor:
    power = {"none": 0.0, "linear": 1.0, "power": settings.score_power}
    if settings.score_weighting not in power:
        raise UserError(
            f"score_weighting must be one of {', '.join(power)}, got {settings.score_weighting!r}."
        )
    return tf.pow(scores, power[settings.score_weighting])


def cap(labels: Labels, *, max_boxes: int) -> Labels:
    """Keeps at most `max_boxes` rows, objects by score, then ignored ones by score, and pads.

    Where not all fit, larger boxes win among equal scores, so which ones stay does not depend on
    the order of the annotation.

    Returns:
        The same keys with exactly `max_boxes` rows: padding has class -1, weight 0, is not
        ignored and has a box of zeros. Beside them "num_cut", int32 scalar: how many objects
        (ignored ones not counted) did not fit; and "cut_classes" [K] int32, the classes of all
        rows that did not: where such a box lies is not background.
    """
    num = tf.shape(labels["scores"])[0]
    rank = labels["scores"] - 2.0 * tf.cast(labels["ignore"], tf.float32)
    order = tf.cond(
        num > max_boxes,
        lambda: _order_by_value(labels, rank),
        lambda: tf.argsort(rank, direction="DESCENDING", stable=True),
    )
    num_objects = tf.reduce_sum(tf.cast(~labels["ignore"], tf.int32))
    free = tf.maximum(max_boxes - num, 0)
    capped = {}
    for key, rows in labels.items():
        kept = tf.gather(rows, order[:max_boxes])
        empty = -1 if key == "classes" else False if rows.dtype == tf.bool else 0
        padding = [[0, free]] + [[0, 0]] * (len(rows.shape) - 1)
        capped[key] = tf.ensure_shape(
            tf.pad(kept, padding, constant_values=empty), [max_boxes, *rows.shape[1:]]
        )
    return capped | {
        "num_cut": tf.maximum(num_objects - max_boxes, 0),
        "cut_classes": tf.gather(labels["classes"], order[max_boxes:]),
    }


def _order_by_value(labels: Labels, rank: tf.Tensor) -> tf.Tensor:
    """Rows by rank, then by area, class and corners: a set of boxes has one order."""
    boxes = next(rows for key, rows in labels.items() if key.startswith("boxes"))
    sides = boxes[:, 2:] - boxes[:, :2]
    keys = [
        *(boxes[:, axis] for axis in (3, 2, 1, 0)),
        tf.cast(labels["classes"], tf.float32),
        -sides[:, 0] * sides[:, 1],
        -rank,
    ]
    order = tf.range(tf.shape(rank)[0])
    for key in keys:  # The last key decides first, as each sort is stable.
        order = tf.gather(order, tf.argsort(tf.gather(key, order), stable=True))
    return order
