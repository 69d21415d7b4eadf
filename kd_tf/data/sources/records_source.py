"""`records:GLOB`: TFRecords with the keys of the Object Detection API, ours or anybody's."""

import hashlib
import io
import os
from collections.abc import Callable, Sequence

import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError

from kd_tf import files
from kd_tf.data import images, label_map
from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.records import Record, from_example
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import packed, reading
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec
from kd_tf.values import show


def open_records(spec: Spec) -> Source:
    """Lists record files: every record is read once, no image is decoded.

    Classes are those of label_map.pbtxt beside the files, else the texts found in the
    records, sorted. Labels are the working labels (`image/object/*`). The image's own id is
    its `image/source_id`, else its file name, else its number. `image_id` is the record's
    own where all have one (a source_id of digits counts), else the rank.

    Raises:
        UserError: There are no records, a shard is missing or was cut, or no record can be used.
    """
    records = RecordSet.open(spec.location)
    class_names = records.class_names or _texts(records, spec)
    rejects: list[Reject] = []
    items: list[Item] = []
    digest = hashlib.sha256()
    for number in range(len(records)):
        try:
            serialized = records.read(number)
            record = _parse(records, serialized, class_names=class_names)
        except RejectedError as error:
            what = f"record {number} of {spec.location}"
            rejects.append(Reject(what, error.reason, error.detail))
            continue
        items.append(_item(record, number))
        digest.update(hashlib.sha256(serialized).digest())
    if not items:
        first = f"; the first reject: {rejects[0].reason}, {rejects[0].detail}" if rejects else ""
        raise UserError(f"{spec.text}: no usable record{first}.")

    def read_bytes(item: Item) -> bytes:
        return _read(records, _number(item), class_names=class_names).encoded

    def read_sha256(item: Item) -> str:
        return _read(records, _number(item), class_names=class_names).sha256

    return Source(
        name=spec.name,
        class_names=class_names,
        items=_with_unique_ids(_with_unique_names(items, spec)),
        read_bytes=read_bytes,
        read_labels=_label_reader(records, class_names=class_names, name=spec.name),
        rejects=tuple(rejects),
        fingerprint=reading.fingerprint([digest.digest(), *class_names]),
        read_sha256=read_sha256,
    )


def _texts(records: RecordSet, spec: Spec) -> tuple[str, ...]:
    """The class names in records without a label map; a damaged record is met again later.

    Raises:
        UserError: There are labels as numbers alone, which nothing names.
    """
    texts, numbers = set(), set()
    for number in range(len(records)):
        try:
            features = tf.train.Example.FromString(records.read(number)).features.feature
        except (RejectedError, DecodeError):
            continue
        if "image/object/class/text" in features:
            texts.update(features["image/object/class/text"].bytes_list.value)
        elif "image/object/class/label" in features:
            numbers.update(features["image/object/class/label"].int64_list.value)
    if numbers and not texts:
        beside = files.join(os.path.dirname(records.paths[0]), label_map.FILE_NAME)
        raise UserError(
            f"{spec.text}: the records name classes by numbers alone ({sorted(numbers)[:10]}). "
            f"Put {beside} beside them, with item {{ id: 1 name: '...' }} for each number."
        )
    return tuple(sorted(text.decode("utf-8", "replace") for text in texts))


def _with_unique_names(items: Sequence[Item], spec: Spec) -> list[Item]:
    """Items that differ: where records share a name, all are called by name and number."""
    if len({item.original_id for item in items}) == len(items):
        return list(items)
    logging.warning(
        "%s: records share the name %s, so images are known by their number in the files.",
        spec.text, show(items[0].original_id),
    )  # fmt: skip
    return [
        Item(
            rank, f"{item.original_id}#{_number(item):08d}", item.location, item.height, item.width
        )
        for rank, item in enumerate(items, start=1)
    ]


def _read(records: RecordSet, number: int, *, class_names: tuple[str, ...]) -> Record:
    return _parse(records, records.read(number), class_names=class_names)


def _parse(records: RecordSet, serialized: bytes, *, class_names: tuple[str, ...]) -> Record:
    return from_example(serialized, class_names=class_names, label_map=records.label_map)


def _item(record: Record, number: int) -> Item:
    name = record.source_id or f"record-{number:08d}"
    image_id = int(name) if name.isdecimal() and len(name) < 19 else record.image_id
    # The file name is for teachers whose results are joined by it.
    location = f"{number}/{record.filename}"
    return Item(image_id, name, location, record.height, record.width)


def _number(item: Item) -> int:
    return int(item.location.partition("/")[0])


def _with_unique_ids(items: Sequence[Item]) -> list[Item]:
    if len({item.image_id for item in items}) == len(items):
        return list(items)
    return [
        Item(rank, item.original_id, item.location, item.height, item.width)
        for rank, item in enumerate(items, start=1)
    ]


def _label_reader(
    records: RecordSet, *, class_names: tuple[str, ...], name: str
) -> Callable[[Item], tuple[Labels, list[Reject]]]:
    def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
        record = _read(records, _number(item), class_names=class_names)
        rows = record.objects.working
        raw = packed.raw_boxes(
            record.objects.boxes[rows],
            record.objects.classes[rows],
            is_crowd=record.objects.is_crowd[rows],
            areas=record.objects.areas[rows],
        )
        return packed.to_labels(
            raw,
            item=item,
            header=images.read_header(io.BytesIO(record.encoded)),
            judged=record.judged,
            key=f"{name}/{item.original_id}",
        )

    return read_labels
