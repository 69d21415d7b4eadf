"""Facts about pseudo labels, read once from their records, beside people's labels."""

import collections
from collections.abc import Iterator, Mapping

import numpy as np

from kd_tf.data.records import Record
from kd_tf.data.shards import RecordSet
from kd_tf.evaluation.agreement import count_common
from kd_tf.evaluation.operating_point import SCORE_BINS
from kd_tf.evaluation.report.data import LabelFacts
from kd_tf.evaluation.report.people import People, records_at, working


def read_labels(
    pseudo: RecordSet,
    people: People,
    *,
    thresholds: Mapping[str, float],
    learned: frozenset[str] = frozenset(),
) -> LabelFacts:
    """Counts what the pseudo labels hold.

    Args:
        pseudo: Records with pseudo labels.
        people: People's labels of all, some or none of the same images.
        thresholds: Class -> score threshold, to draw beside the scores.
        learned: sha256 of the images that a teacher learned from: they are compared with nothing.
    """
    class_names = pseudo.class_names
    counts = collections.Counter()
    per_image, truth_per_image = collections.Counter(), collections.Counter()
    classes = np.zeros(len(class_names), np.int64)
    truth_classes = np.zeros(len(class_names), np.int64)
    scores = np.zeros((len(class_names), len(SCORE_BINS) - 1), np.int64)
    for record in records(pseudo):
        labels = working(record)
        counts["images"] += 1
        counts["empty"] += not len(labels)
        per_image[len(labels)] += 1
        classes += _count(labels.classes, len(class_names))
        scores += _histogram(record, len(class_names))
        truth = people(record.source_id)
        if truth is not None and record.sha256 in learned:
            counts["learned"] += 1
        elif truth is not None:
            truth_per_image[len(truth)] += 1
            truth_classes += _count(truth.classes, len(class_names))
            counts["compared"] += len(labels)
            counts["common"] += count_common(labels, truth)
    return LabelFacts(
        num_images=counts["images"],
        num_empty=counts["empty"],
        num_boxes=int(classes.sum()),
        boxes_per_image=dict(sorted(per_image.items())),
        class_counts=dict(zip(class_names, classes.tolist(), strict=True)),
        scores=dict(zip(class_names, scores.tolist(), strict=True)),
        thresholds=dict(thresholds),
        num_truth_images=sum(truth_per_image.values()),
        truth_boxes_per_image=dict(sorted(truth_per_image.items())),
        truth_class_counts=dict(zip(class_names, truth_classes.tolist(), strict=True)),
        num_compared=counts["compared"],
        num_common=counts["common"],
        num_learned=counts["learned"],
    )


def records(pseudo: RecordSet) -> Iterator[Record]:
    """The records in order, one at a time in memory."""
    for number in range(len(pseudo)):
        yield records_at(pseudo, number, pseudo.class_names)


def _count(classes: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(classes, minlength=num_classes)


def _histogram(record: Record, num_classes: int) -> np.ndarray:
    """[C, 20] detections per score bin, above the threshold and below."""
    result = np.zeros((num_classes, len(SCORE_BINS) - 1), np.int64)
    bins = np.clip(np.digitize(record.objects.scores, SCORE_BINS) - 1, 0, result.shape[1] - 1)
    np.add.at(result, (record.objects.classes, bins), 1)
    return result
