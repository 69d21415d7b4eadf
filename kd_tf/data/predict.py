"""Runs any detector over a source: the one way teachers, students and exports see images."""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from kd_tf.data.batches import Batch, Facts, batches, load, padded_rows
from kd_tf.data.check_detections import BadDetectionsError, check_detections
from kd_tf.data.items import Item, Reject, Source
from kd_tf.errors import UserError, where_raised
from kd_tf.geometry.detections import Detections, Detector, Needs, no_detections
from kd_tf.geometry.letterbox import boxes_to_original

# A box this thin in the original image is padding or rounding, no object.
_THINNEST_PX = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Predicted:
    """What a detector says about one image, or why it could not be asked.

    Attributes:
        row: Index of the image in `Source.items`.
        item: The image.
        height, width: Pixels of the upright image; 0 for a reject.
        sha256: Hex digest of the original file; empty for a reject.
        format: Format of the bytes that records keep ("jpeg", "png", ...).
        reencoded: Whether those bytes differ from the original file.
        detections: Boxes in pixels of the original upright image, clipped to it, in the
            detector's order; those without area after clipping are left out.
        num_outside: How many were left out for that.
        reject: Why there are no detections, or None.
    """

    row: int
    item: Item
    height: int
    width: int
    sha256: str
    format: str
    reencoded: bool
    detections: Detections
    num_outside: int = 0
    reject: Reject | None = None


class Recaller(Protocol):
    """A detector whose answers are known already, such as a results file."""

    def needs(self) -> Needs:
        """Its class names; the size says nothing."""
        ...

    def recall(self, item: Item) -> Detections:
        """Its detections in one image, boxes in pixels of the upright original."""
        ...


def predict(
    detector: Detector | Recaller,
    source: Source,
    *,
    batch_size: int,
    rows: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    name: str = "the detector",
) -> Iterator[Predicted]:
    """Detects objects in images of a source, in the order of `rows`.

    Reading, decoding and resizing run in parallel with the network, and so does what the
    caller does with the results. A constant number of images is in memory.

    Args:
        detector: Teacher, student or export; or a `Recaller`.
        source: Where the images come from.
        batch_size: Images the detector sees at once; 1 where it takes any size.
        rows: Indices into `source.items`, each once; None means all.
        groups: Sizes of consecutive runs of `rows` that no batch crosses, so that a run's
            results don't depend on what is done before it; None means one run.
        name: The detector's name, for error messages.

    Yields:
        One `Predicted` per row. An image that cannot be used comes back with a reject.

    Raises:
        UserError: The detector fails, or what it gives is no set of detections; names the
            detector and the image.
    """
    rows = range(len(source.items)) if rows is None else rows
    if hasattr(detector, "recall"):
        yield from _recall(detector, source, rows=rows, name=name)
        return
    needs = detector.needs()
    batch_size = 1 if needs.resize == "none" else batch_size
    padded = padded_rows(rows, groups=groups or [len(rows)], batch_size=batch_size)
    images = batches(source, padded, needs=needs, batch_size=batch_size)
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as network:
        running = collections.deque()
        for batch in images:
            found = network.submit(_detect, detector, batch, source, name=name)
            running.append((batch, found))
            if len(running) > 1:
                yield from _to_original(*running.popleft(), source, needs=needs, name=name)
        while running:
            yield from _to_original(*running.popleft(), source, needs=needs, name=name)


def _predicted(
    row: int, facts: Facts, *, source: Source, detections: Detections, num_outside: int = 0
) -> Predicted:
    item = source.items[row]
    reject = Reject(source.key(item), facts.reason, facts.detail) if facts.reason else None
    return Predicted(
        row, item, facts.height, facts.width, facts.sha256, facts.format, facts.reencoded,
        no_detections() if reject else detections, num_outside, reject,
    )  # fmt: skip


def _detect(detector: Detector, batch: Batch, source: Source, *, name: str) -> list[Detections]:
    try:
        return detector.detect(batch.images)
    except (UserError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        key = source.key(source.items[_failing_row(detector, batch)])
        raise UserError(
            f"Teacher or model {name!r} failed on image {key}: {type(error).__name__}: "
            f"{error}{where_raised(error)}"
        ) from error


def _failing_row(detector: Detector, batch: Batch) -> int:
    """The first image that fails alone; the first of the batch where none does."""
    for position, row in enumerate(batch.rows):
        try:
            detector.detect(batch.images[position : position + 1])
        except Exception:  # noqa: BLE001 - a plug-in may raise anything; the caller raises it
            return row
    return batch.rows[0]


def _to_original(
    batch: Batch,
    found: "concurrent.futures.Future[list[Detections]]",
    source: Source,
    *,
    needs: Needs,
    name: str,
) -> Iterator[Predicted]:
    detections = found.result()
    if not isinstance(detections, list | tuple) or len(detections) != len(batch.rows):
        given = len(detections) if hasattr(detections, "__len__") else type(detections).__name__
        raise UserError(
            f"Teacher or model {name!r} gave {given} results for a batch of {len(batch.rows)} "
            f"images that begins with {source.key(source.items[batch.rows[0]])}; "
            "`detect` must return one Detections per image."
        )
    for row, facts, image, single in zip(
        batch.rows, batch.facts, batch.images, detections, strict=True
    ):
        if facts.reason:
            yield _predicted(row, facts, source=source, detections=single)
            continue
        single = _checked(single, needs, size=image.shape[:2], what=(name, source, row))
        original = (facts.height, facts.width)
        boxes = boxes_to_original(single.boxes, original, image.shape[:2], resize=needs.resize)
        yield _clipped(facts, row, source=source, found=single, boxes=boxes)


def _checked(
    found: Detections, needs: Needs, *, size: tuple[int, int], what: tuple[str, Source, int]
) -> Detections:
    name, source, row = what
    try:
        return check_detections(found, num_classes=len(needs.class_names), size=size)
    except BadDetectionsError as error:
        raise UserError(
            f"Teacher or model {name!r}, image {source.key(source.items[row])}: {error}"
        ) from error


def _clipped(
    facts: Facts, row: int, *, source: Source, found: Detections, boxes: np.ndarray
) -> Predicted:
    keep = (boxes[:, 2:] - boxes[:, :2] > _THINNEST_PX).all(axis=1)
    kept = Detections(boxes, found.scores, found.classes)[keep]
    return _predicted(
        row, facts, source=source, detections=kept, num_outside=int(len(keep) - keep.sum())
    )


def _recall(
    detector: Recaller, source: Source, *, rows: Sequence[int], name: str
) -> Iterator[Predicted]:
    needs = detector.needs()
    for row in rows:
        facts = load(source, row)[1]
        if facts.reason:
            yield _predicted(row, facts, source=source, detections=no_detections())
            continue
        size = (facts.height, facts.width)
        found = detector.recall(source.items[row])
        found = _checked(found, needs, size=size, what=(name, source, row))
        limit = np.array([facts.width, facts.height] * 2, np.float32)
        boxes = np.clip(found.boxes, 0.0, limit)
        yield _clipped(facts, row, source=source, found=found, boxes=boxes)
