"""Finds in the features of a TensorFlow dataset where images, boxes, labels and ids are."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kd_tf.errors import UserError

_ID_KEYS = ("image/id", "image/filename", "image/file_name", "image_id")
# COCO's crowds, Open Images' groups and VOC's difficult objects are neither object nor background.
_CROWD_KEYS = ("is_crowd", "is_group_of", "is_difficult")


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """Where things are in an example of the data set.

    Attributes:
        image: The encoded image.
        image_id: The image's own id; "" where it has none.
        objects: The sequence of objects with boxes (yxyx, fractions); "" where there is none.
        box, label, crowd, area: Within `objects`; "" where there is none.
        verified: A sequence of labels of the whole image with a confidence; "" where none.
        class_names: Names of the labels.
        verified_names: Names of the labels of `verified`.
        sources: Names of who said it, for `verified`; may be empty.
    """

    image: str
    image_id: str
    objects: str
    box: str
    label: str
    crowd: str
    area: str
    verified: str
    class_names: tuple[str, ...]
    verified_names: tuple[str, ...]
    sources: tuple[str, ...]


def find_keys(features: Mapping, *, where: str) -> Keys:
    """Finds the keys by the types of the features.

    Args:
        features: `builder.info.features`.
        where: The data set, for the message.

    Raises:
        UserError: There is no image, or boxes are in more than one place.
    """
    import tensorflow_datasets as tfds

    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if not images:
        raise UserError(f"{where} has no image among its features: {', '.join(features)}.")
    groups = {key: _fields(feature) for key, feature in features.items()}
    boxed = {
        key: box
        for key, fields in groups.items()
        for box, field in fields.items()
        if isinstance(field, tfds.features.BBoxFeature)
    }
    if len(boxed) > 1:
        raise UserError(f"{where} has boxes in several features: {', '.join(boxed)}.")
    objects, box = next(iter(boxed.items()), ("", ""))
    fields = groups.get(objects, {})
    label = _label_key(fields)
    verified = _verified_key(groups, objects) if objects else ""
    return Keys(
        image="image" if "image" in images else images[0],
        image_id=next((key for key in _ID_KEYS if key in features), ""),
        objects=objects,
        box=box,
        label=label,
        crowd=next((key for key in _CROWD_KEYS if key in fields), ""),
        area="area" if "area" in fields else "",
        verified=verified,
        class_names=tuple(fields[label].names) if label else (objects,) if objects else (),
        verified_names=tuple(groups[verified]["label"].names) if verified else (),
        sources=tuple(getattr(groups.get(verified, {}).get("source"), "names", ())),
    )


def _fields(feature: object) -> dict:
    """The features of each element of a sequence; none for anything else."""
    inner = getattr(feature, "feature", None)
    return dict(inner.items()) if isinstance(inner, Mapping) or hasattr(inner, "items") else {}


def _label_key(fields: Mapping) -> str:
    labels = [key for key, field in fields.items() if hasattr(field, "names")]
    return "label" if "label" in labels else next(iter(labels), "")


def _verified_key(groups: Mapping, objects: str) -> str:
    """Open Images' labels of the whole image: 0 says that people looked and found none."""
    found = [
        key
        for key, fields in groups.items()
        if key != objects and "confidence" in fields and hasattr(fields.get("label"), "names")
    ]
    return "objects" if "objects" in found else next(iter(found), "")


def raw_objects(example: Mapping, keys: Keys) -> tuple[np.ndarray, ...]:
    """Boxes xyxy as fractions [N, 4], classes [N], crowd [N] bool and areas [N] of an example."""
    objects = example[keys.objects]
    boxes_yxyx = np.asarray(objects[keys.box], np.float64).reshape(-1, 4)
    num = len(boxes_yxyx)
    crowd = np.asarray(objects[keys.crowd]) == 1 if keys.crowd else np.zeros(num, bool)
    areas = np.asarray(objects[keys.area], np.float32) if keys.area else np.full(num, np.nan)
    classes = np.asarray(objects[keys.label]) if keys.label else np.zeros(num, np.int64)
    return boxes_yxyx[:, [1, 0, 3, 2]], classes, crowd, areas


def judged_classes(example: Mapping, keys: Keys, *, class_of_verified: np.ndarray) -> np.ndarray:
    """Classes that count as searched for in an image with verified labels.

    Those with boxes (Open Images boxes every instance of a class it boxes) and those that
    people verified to be absent. A class verified to be present but without boxes is left
    open: its instances may be boxed under a narrower name.

    Returns:
        Sorted class indices [K] int32.
    """
    labels = example[keys.verified]
    absent = np.asarray(labels["confidence"]) == 0
    if keys.sources:
        machine = [rank for rank, name in enumerate(keys.sources) if "machine" in name]
        absent &= ~np.isin(labels["source"], machine)
    classes = class_of_verified[np.asarray(labels["label"], np.int64)[absent]]
    marked = np.asarray(example[keys.objects][keys.label]) if keys.label else classes[:0]
    return np.unique(np.concatenate([classes[classes >= 0], marked])).astype(np.int32)
