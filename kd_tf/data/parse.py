"""Records as tensors, inside the input pipeline's graph."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from kd_tf.data.objects import HUMAN

_UNKNOWN, _DROPPED = -1, -2
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class ClassTable:
    """Finds the run's classes by name; a label number only leads to its label map's name."""

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        drop: Sequence[str] = (),
        label_maps: Sequence[Mapping[int, str]] = ({},),
    ):
        """Builds the tables.

        Args:
            class_names: The run's class list.
            drop: Names whose objects are left out.
            label_maps: Of each set of records, name by label; empty where there is none.
        """
        by_text = dict.fromkeys(drop, _DROPPED)
        by_text |= {name: index for index, name in enumerate(class_names)}
        by_label = {
            f"{number}:{label}": by_text.get(name, _UNKNOWN)
            for number, names in enumerate(label_maps)
            for label, name in names.items()
        }
        self.num_classes = len(class_names)
        self._by_text = _table(by_text)
        self._by_label = _table(by_label)
        # Without a list of judged classes an image was judged for all that its set knows.
        self._known = tf.constant(
            [[not names or name in names.values() for name in class_names] for names in label_maps]
        )

    def classes(self, texts: tf.Tensor, labels: tf.Tensor, *, number: tf.Tensor) -> tf.Tensor:
        """Class indices [N] int32 by text, or by label where there is no text.

        Dropped classes are -2, unknown ones -1. `number` is the index of the set of records.
        """
        keys = tf.strings.join([tf.strings.as_string(number), tf.strings.as_string(labels)], ":")
        return tf.cond(
            tf.size(texts) > 0,
            lambda: self._by_text.lookup(texts),
            lambda: self._by_label.lookup(keys),
        )

    def judged(self, texts: tf.Tensor, labels: tf.Tensor, *, number: tf.Tensor) -> tf.Tensor:
        """[C] bool of the classes judged in an image; without labels all that its set knows."""
        # Unknown and dropped classes land in columns behind the last and are cut off.
        classes = self.classes(texts, labels, number=number) % (self.num_classes + 2)
        listed = tf.reduce_any(tf.one_hot(classes, self.num_classes + 2, True, False), axis=0)
        return tf.where(
            tf.size(labels) > 0, listed[: self.num_classes], tf.gather(self._known, number)
        )


def _table(content: Mapping[str, int]) -> tf.lookup.StaticHashTable:
    content = content or {"": _UNKNOWN}
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(list(content), tf.string), tf.constant(list(content.values()), tf.int32)
        ),
        default_value=_UNKNOWN,
    )


def parse(serialized: tf.Tensor, table: ClassTable, *, number: tf.Tensor) -> dict[str, tf.Tensor]:
    """Everything a record says, unselected.

    Args:
        serialized: A string scalar, ours or foreign with the standard keys.
        table: The run's classes.
        number: int32 scalar, the index of the set the record comes from.

    Returns:
        "encoded" and "id" strings; "boxes_xyxy_unit" [N, 4] float32 in 0..1, boxes without
        area left out; "scores" [N] float32; "classes" [N] int32; "human" and "is_crowd"
        [N] bool; "judged" [C] bool. Running it fails, naming the image, where a class is
        neither in the table nor dropped.
    """
    features = tf.io.parse_single_example(serialized, _FEATURES)
    own = tf.size(features["kd/schema_version"]) > 0

    def pick(key: str, standard: str = "") -> tf.Tensor:
        names = f"kd/object/{key}", f"image/object/{standard or key}"
        return tf.cond(own, lambda: features[names[0]], lambda: features[names[1]])

    boxes = tf.stack([pick(f"bbox/{side}") for side in _SIDES], axis=1)
    boxes = tf.clip_by_value(boxes, 0.0, 1.0)
    num = tf.shape(boxes)[:1]
    texts = pick("text", "class/text")
    classes = table.classes(texts, pick("label", "class/label"), number=number)
    # Open Images calls a crowd a group, VOC's difficult objects count as one; our own records
    # never have these keys.
    crowd = _filled(pick("is_crowd"), num, 0)
    crowd += _filled(features["image/object/group_of"], num, 0)
    crowd += _filled(features["image/object/difficult"], num, 0)
    objects = {
        "boxes_xyxy_unit": boxes,
        "scores": _filled(features["kd/object/score"], num, 1.0),
        "classes": classes,
        "human": _filled(features["kd/object/teacher"], num, HUMAN) == HUMAN,
        "is_crowd": crowd > 0,
    }
    unknown = tf.boolean_mask(tf.range(num[0]), classes == _UNKNOWN)
    known = tf.Assert(
        tf.size(unknown) == 0,
        [features["image/source_id"], tf.gather(texts, unknown[: tf.size(texts)]), _NOT_LISTED],
    )
    with tf.control_dependencies([known]):
        usable = (classes >= 0) & tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)
    return {key: tf.boolean_mask(rows, usable) for key, rows in objects.items()} | {
        "encoded": features["image/encoded"],
        "id": features["image/source_id"],
        "judged": table.judged(
            features["kd/judged_texts"], features["kd/judged_classes"], number=number
        ),
    }


_NOT_LISTED = "is not in the run's class list: add it to --classes or drop it by name."


def _filled(values: tf.Tensor, num: tf.Tensor, default: float) -> tf.Tensor:
    """A list of one value per object, the default for all of them where the key is absent."""
    return tf.cond(
        tf.size(values) > 0,
        lambda: values,
        lambda: tf.fill(num, tf.constant(default, values.dtype)),
    )


def _lists(prefix: str, dtype: tf.DType, *keys: str) -> dict[str, tf.io.FixedLenSequenceFeature]:
    return {
        prefix + key: tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True) for key in keys
    }


_BOX_KEYS = tuple(f"bbox/{side}" for side in _SIDES)
_FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/source_id": tf.io.FixedLenFeature([], tf.string, ""),
    **_lists("image/object/", tf.float32, *_BOX_KEYS),
    **_lists("image/object/", tf.int64, "class/label", "is_crowd", "group_of", "difficult"),
    **_lists("image/object/", tf.string, "class/text"),
    **_lists("kd/", tf.int64, "schema_version", "judged_classes"),
    **_lists("kd/", tf.string, "judged_texts"),
    **_lists("kd/object/", tf.float32, *_BOX_KEYS, "score"),
    **_lists("kd/object/", tf.int64, "label", "teacher", "is_crowd"),
    **_lists("kd/object/", tf.string, "text"),
}
