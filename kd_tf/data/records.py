"""One labelled image as a tf.train.Example: the only place that knows the keys.

The keys of the TensorFlow Object Detection API hold the working labels, so any
standard reader understands the file. Beside them lie ours:

    kd/schema_version        int, 1; a record without it is foreign
    kd/image_id              int
    kd/encoded_sha256        only where the bytes are not the original file's
    kd/object/bbox/{xmin,ymin,xmax,ymax}   0..1
    kd/object/label          from 1, in the class list of the label map beside the shards
    kd/object/text, /score   what training reads: classes go by text, never by integer
    kd/object/teacher        index of the teacher, -1 for a person
    kd/object/is_crowd, /area   area in square pixels
    kd/object/working        whether it is among the standard labels
    kd/judged_classes        labels from 1; absent or empty means all, [0] means none
    kd/judged_texts          their names
"""

import dataclasses
import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from kd_tf.data import images
from kd_tf.data.feature_reader import FeatureReader
from kd_tf.data.objects import HUMAN, Objects, Record, human_objects, pseudo_objects
from kd_tf.errors import RejectedError

__all__ = [
    "HUMAN",
    "Objects",
    "Record",
    "from_example",
    "human_objects",
    "pseudo_objects",
    "to_example",
]

SCHEMA_VERSION = 1
# Boxes mapped through float32 sizes may stick out by rounding; anything more is a mistake upstream.
_ROUNDING_PX = 0.01
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def to_example(record: Record) -> bytes:
    """A serialized tf.train.Example; the same record gives the same bytes.

    Raises:
        RejectedError: A box without area or outside the image, a score that is not in [0, 1],
            a class index outside the class list, or an image without a size.
    """
    _check(record)
    digest = hashlib.sha256(record.encoded).hexdigest()
    features = {
        "image/encoded": [record.encoded],
        "image/format": [record.format.encode()],
        "image/height": [record.height],
        "image/width": [record.width],
        "image/filename": [record.filename.encode()],
        "image/source_id": [record.source_id.encode()],
        "image/key/sha256": [record.sha256.encode()],
        "kd/schema_version": [SCHEMA_VERSION],
        "kd/image_id": [record.image_id],
        **_standard_features(record),
        **_own_features(record),
        **_judged_features(record),
    }
    if record.encoded and digest != record.sha256:
        features["kd/encoded_sha256"] = [digest.encode()]
    example = tf.train.Example()
    for key, values in features.items():
        _fill(example.features.feature[key], key, values)
    # Deterministic: the map of features is written sorted by key.
    return example.SerializeToString(deterministic=True)


def _check(record: Record) -> None:
    objects, name = record.objects, record.source_id
    if record.height < 1 or record.width < 1:
        raise RejectedError("image without a size", f"{name}: {record.height}x{record.width}")
    boxes = objects.boxes
    limit = np.array([record.width, record.height] * 2) + _ROUNDING_PX
    inside = (boxes >= -_ROUNDING_PX).all(axis=1) & (boxes <= limit).all(axis=1)
    if not inside.all():  # NaN compares false, so it lands here too
        raise RejectedError(
            "box outside the image",
            f"{name}: {boxes[~inside][0].tolist()} in {record.width}x{record.height}",
        )
    area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not area.all():
        raise RejectedError("box without area", f"{name}: {boxes[~area][0].tolist()}")
    in_range = (objects.scores >= 0) & (objects.scores <= 1)
    if not in_range.all():
        raise RejectedError("score outside [0, 1]", f"{name}: {objects.scores[~in_range][0]}")
    judged = objects.classes[:0] if record.judged is None else record.judged
    for classes in (objects.classes, judged):
        if len(classes) and not 0 <= classes.min() <= classes.max() < len(record.class_names):
            raise RejectedError(
                "class outside the class list",
                f"{name}: {classes.tolist()}, known are 0..{len(record.class_names) - 1}",
            )


def _standard_features(record: Record) -> dict[str, Sequence]:
    objects, rows = record.objects, record.objects.working
    classes = objects.classes[rows]
    return {
        **_box_features("image/object/bbox", objects.boxes[rows], record),
        "image/object/class/label": classes + 1,
        "image/object/class/text": _texts(classes, record),
        "image/object/is_crowd": objects.is_crowd[rows].astype(int),
        "image/object/area": objects.areas[rows],
    }


def _own_features(record: Record) -> dict[str, Sequence]:
    objects = record.objects
    return {
        **_box_features("kd/object/bbox", objects.boxes, record),
        "kd/object/label": objects.classes + 1,
        "kd/object/text": _texts(objects.classes, record),
        "kd/object/score": objects.scores,
        "kd/object/teacher": objects.teachers,
        "kd/object/is_crowd": objects.is_crowd.astype(int),
        "kd/object/area": objects.areas,
        "kd/object/working": objects.working.astype(int),
    }


def _box_features(prefix: str, boxes: np.ndarray, record: Record) -> dict[str, Sequence]:
    unit = np.clip(boxes / np.array([record.width, record.height] * 2, np.float64), 0.0, 1.0)
    return {f"{prefix}/{side}": unit[:, axis] for axis, side in enumerate(_SIDES)}


def _texts(classes: np.ndarray, record: Record) -> list[bytes]:
    return [record.class_names[index].encode() for index in classes]


def _judged_features(record: Record) -> dict[str, Sequence]:
    if record.judged is None:
        return {}
    judged = np.unique(record.judged)
    if not len(judged):
        return {"kd/judged_classes": [0], "kd/judged_texts": [b""]}
    return {"kd/judged_classes": judged + 1, "kd/judged_texts": _texts(judged, record)}


_FLOAT_KEYS = (*_SIDES, "score", "area")
_BYTES_KEYS = ("encoded", "format", "filename", "source_id", "text", "judged_texts")


def _fill(feature: tf.train.Feature, key: str, values: Sequence) -> None:
    last = key.rsplit("/", 1)[-1]
    if isinstance(values, np.ndarray):
        values = values.tolist()  # protobuf takes 5 times as long for NumPy's own numbers
    if last in _FLOAT_KEYS:
        kind = feature.float_list
    elif last in _BYTES_KEYS or last.endswith("sha256"):
        kind = feature.bytes_list
    else:
        kind = feature.int64_list
    kind.SetInParent()  # An empty list has a type too.
    kind.value.extend(values)


def from_example(
    serialized: bytes,
    *,
    class_names: tuple[str, ...],
    drop: Sequence[str] = (),
    label_map: Mapping[int, str] | None = None,
) -> Record:
    """Reads a record; one that is not ours too (its labels are a person's, all classes judged).

    Args:
        serialized: What `to_example` gave, or any example with the standard keys.
        class_names: The run's class list; classes are found in it by their text.
        drop: Names of classes whose objects are left out.
        label_map: Name of each integer label, for foreign records without texts.

    Raises:
        RejectedError: Not an example, no size, or a class that is neither in the list nor dropped.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError as error:
        raise RejectedError("not a tf.train.Example", str(error)) from error
    reader = FeatureReader(features)
    source_id = reader.text("image/source_id") or reader.text("image/filename")
    height, width = reader.number("image/height"), reader.number("image/width")
    if (height < 1 or width < 1) and not reader.has("kd/schema_version"):
        height, width = _stored_size(reader.bytes("image/encoded"))
    if height < 1 or width < 1:
        raise RejectedError("image without a size", f"{source_id}: {height}x{width}")
    objects = _read_objects(reader, width=width, height=height)
    texts = _read_texts(reader, label_map or {})
    if len(texts) != len(objects.boxes):
        raise RejectedError(
            "lists of different lengths", f"{len(texts)} classes for {len(objects.boxes)} boxes"
        )
    known = {name: index for index, name in enumerate(class_names)}
    unknown = sorted(set(texts) - set(known) - set(drop))
    if unknown:
        raise RejectedError(
            "class outside the class list", f"{source_id}: {unknown}; known: {list(class_names)}"
        )
    encoded = reader.bytes("image/encoded")
    return Record(
        source_id=source_id,
        image_id=reader.number("kd/image_id"),
        encoded=encoded,
        format=reader.text("image/format"),
        height=height,
        width=width,
        filename=reader.text("image/filename"),
        sha256=reader.text("image/key/sha256") or hashlib.sha256(encoded).hexdigest(),
        objects=_of_known_classes(objects, texts, known),
        class_names=tuple(class_names),
        judged=_read_judged(reader, known, label_map or {}),
    )


def _stored_size(encoded: bytes) -> tuple[int, int]:
    """Height and width of an image as it is stored, for records that do not say."""
    header = images.read_header(io.BytesIO(encoded))
    return header.height, header.width


def _of_known_classes(objects: Objects, texts: Sequence[str], known: dict[str, int]) -> Objects:
    rows = np.array([text in known for text in texts], bool)
    kept = {field.name: getattr(objects, field.name)[rows] for field in dataclasses.fields(Objects)}
    kept["classes"] = np.array([known[text] for text in texts if text in known], np.int32)
    return Objects(**kept)


def _read_objects(reader: FeatureReader, *, width: int, height: int) -> Objects:
    own = reader.has("kd/schema_version")
    prefix = "kd/object" if own else "image/object"
    num = len(reader.list(f"{prefix}/bbox/xmin"))
    unit = [reader.array(f"{prefix}/bbox/{side}", num=num, default=np.nan) for side in _SIDES]
    boxes = np.stack(unit, axis=1) * np.array([width, height] * 2, np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    areas = reader.array(f"{prefix}/area", num=num, default=np.nan)
    crowd = reader.array(f"{prefix}/is_crowd", num=num, default=0)
    if not own:
        # Open Images calls a crowd a group; a difficult object of VOC counts as one, too.
        for key in ("image/object/group_of", "image/object/difficult"):
            crowd = crowd.astype(bool) | reader.array(key, num=num, default=0).astype(bool)
    return Objects(
        boxes.astype(np.float32),
        reader.array("kd/object/score", num=num, default=1.0).astype(np.float32),
        np.zeros(num, np.int32),
        reader.array("kd/object/teacher", num=num, default=HUMAN).astype(np.int32),
        crowd.astype(bool),
        np.where(np.isnan(areas), sides[:, 0] * sides[:, 1], areas).astype(np.float32),
        reader.array("kd/object/working", num=num, default=1).astype(bool),
    )


def _read_texts(reader: FeatureReader, label_map: Mapping[int, str]) -> list[str]:
    own = reader.has("kd/schema_version")
    if own:
        return reader.texts("kd/object/text")
    texts = reader.texts("image/object/class/text")
    if texts:
        return texts
    labels = reader.list("image/object/class/label", "int64_list")
    return [label_map.get(label, f"label {label}, not in the label map") for label in labels]


def _read_judged(
    reader: FeatureReader, known: Mapping[str, int], label_map: Mapping[int, str]
) -> np.ndarray | None:
    labels = reader.list("kd/judged_classes", "int64_list")
    if not len(labels):
        return None
    texts = reader.texts("kd/judged_texts") or [label_map.get(label, "") for label in labels]
    return np.array(sorted(known[text] for text in texts if text in known), np.int32)
