"""People's labels of pseudo-labelled images, found by the image's identity."""

from collections.abc import Callable, Sequence

import numpy as np

from kd_tf.data.items import Source
from kd_tf.data.records import Record, from_example
from kd_tf.data.shards import RecordSet
from kd_tf.errors import RejectedError
from kd_tf.geometry.detections import Detections, no_detections

# (identity `<source>/<original id>`) -> the objects people marked, without crowds; None: nobody
# looked at that image.
People = Callable[[str], Detections | None]


def from_records(records: RecordSet | None, class_names: tuple[str, ...]) -> People:
    """Labels of the labelled records of a run; of no image where the classes have none in common.

    Args:
        records: Labelled records, or None.
        class_names: The run's classes; objects of others are left out.
    """
    if records is None or not set(records.class_names) & set(class_names):
        return lambda _: None
    number_of = {source_id: number for number, source_id in enumerate(records.source_ids)}

    def look_up(source_id: str) -> Detections | None:
        number = number_of.get(source_id)
        return None if number is None else working(records_at(records, number, class_names))

    return look_up


def from_sources(sources: Sequence[Source], class_names: tuple[str, ...]) -> People:
    """Labels of the data sets themselves, where those have labels.

    Args:
        sources: What was pseudo-labelled.
        class_names: The run's classes; objects of others are left out.
    """
    owners = {
        source.key(item): (source, item)
        for source in sources
        if source.read_labels is not None
        for item in source.items
    }

    def look_up(source_id: str) -> Detections | None:
        if source_id not in owners:
            return None
        source, item = owners[source_id]
        try:
            labels, _ = source.read_labels(item)
        except RejectedError:
            return None
        index = {name: number for number, name in enumerate(class_names)}
        to_run = np.array([index.get(name, -1) for name in source.class_names], np.int32)
        if not len(labels.classes):
            return no_detections()
        classes = to_run[labels.classes]
        keep = (classes >= 0) & ~labels.is_crowd
        boxes = labels.boxes[keep].astype(np.float32)
        return Detections(boxes, np.ones(len(boxes), np.float32), classes[keep])

    return look_up


def records_at(records: RecordSet, number: int, class_names: tuple[str, ...]) -> Record:
    """One record; objects of classes that are not in the list are left out."""
    drop = tuple(name for name in records.class_names if name not in class_names)
    return from_example(
        records.read(number), class_names=class_names, drop=drop, label_map=records.label_map
    )


def working(record: Record) -> Detections:
    """The labels at the working threshold, without crowds."""
    rows = record.objects.working & ~record.objects.is_crowd
    objects = record.objects
    return Detections(objects.boxes[rows], objects.scores[rows], objects.classes[rows])
