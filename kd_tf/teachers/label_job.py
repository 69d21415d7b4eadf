"""Fuses what the teachers said, image by image, and writes the records a student learns from."""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import logging

from kd_tf import files, progress
from kd_tf.data import label_map
from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.data.records import Record, pseudo_objects, to_example
from kd_tf.data.shards import INDEX_SUFFIX, shard_name, shard_rows, write_shard
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections
from kd_tf.manifests import Counts
from kd_tf.teachers.fusion import Fused, FusionSettings, fuse
from kd_tf.teachers.predict_job import (
    Work,
    clear_write_errors,
    count_predictions,
    shard_path,
)
from kd_tf.teachers.predictions import Prediction, read_predictions

PREFIX = "pseudo"
DUPLICATE = "duplicate image"
# Images fused together; what is in memory at most, whatever the size of the data set.
_CHUNK = 64

Calibration = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Labeller:
    """One teacher's share in the labels.

    Attributes:
        name: The teacher's name.
        folder: Where its raw predictions lie.
        class_map: [K] int32, the run's class of each of the teacher's classes; -1 is dropped.
        weights: [C] float, how much it counts in each class of the run; 0 where it does not
            know the class.
        calibrate: (scores [N], run classes [N]) -> scores [N] comparable between teachers;
            None leaves them as they are.
    """

    name: str
    folder: str
    class_map: np.ndarray
    weights: np.ndarray
    calibrate: Calibration | None = None

    def in_run_classes(self, found: Detections) -> Detections:
        """The teacher's detections with the run's classes and comparable scores."""
        classes = self.class_map[found.classes].astype(np.int32)
        keep = classes >= 0
        scores = found.scores[keep]
        if self.calibrate is not None:
            scores = np.asarray(self.calibrate(scores, classes[keep]), np.float32)
        return Detections(found.boxes[keep], scores, classes[keep])


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """How the labels are made.

    Attributes:
        class_names: The run's class list.
        fusion: How several teachers become one; one teacher is left as it is.
        score_thresholds: [C] lowest score of a working label, per class.
    """

    class_names: tuple[str, ...]
    fusion: FusionSettings
    score_thresholds: np.ndarray


class LabelWriter:
    """Writes the record shards of one worker as the predictions for them become complete."""

    def __init__(
        self,
        source: Source,
        labellers: Sequence[Labeller],
        *,
        folder: str,
        work: Work,
        settings: LabelSettings,
    ):
        self._source = source
        self._labellers = tuple(labellers)
        self._folder = folder
        self._work = work
        self._settings = settings
        with clear_write_errors(folder):
            label_map.write(files.join(folder, label_map.FILE_NAME), settings.class_names)

    def write(self, shard: int) -> None:
        """Writes one shard, unless it is there. Needs every teacher's predictions of it."""
        if not files.exists(self._path(shard)):
            self._write(shard, skip=frozenset())

    def finish(self) -> Counts | None:
        """Writes what is missing, leaves out images that came twice, counts.

        Returns:
            What became of the images; None while other workers have predictions to finish.
        """
        counts = count_predictions(
            self._source,
            folder=self._labellers[0].folder,
            work=self._work,
            name=self._labellers[0].name,
        )
        own = [k for k in self._work.shards() if self._is_ready(k)]
        for shard in progress.follow(
            own, total=len(own), unit="shards", description="pseudo labels"
        ):
            self.write(shard)
        if counts is None or not all(map(self._is_ready, range(self._work.num_shards))):
            return None
        for shard in range(self._work.num_shards):
            self.write(shard)
        for shard, twice in self._duplicates(counts).items():
            self._leave_out(shard, twice)
        return counts

    def _path(self, shard: int) -> str:
        name = shard_name(PREFIX, shard=shard, num_shards=self._work.num_shards)
        return files.join(self._folder, name)

    def _is_ready(self, shard: int) -> bool:
        num = self._work.num_shards
        paths = [shard_path(who.folder, shard, num_shards=num) for who in self._labellers]
        return all(map(files.exists, paths))

    def _write(self, shard: int, *, skip: frozenset[str]) -> None:
        threads = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
        with clear_write_errors(self._folder), threads as pool:
            write_shard(
                self._folder,
                PREFIX,
                shard=shard,
                num_shards=self._work.num_shards,
                records=self._records(shard, skip=skip, pool=pool),
            )

    def _records(
        self, shard: int, *, skip: frozenset[str], pool: concurrent.futures.Executor
    ) -> Iterator[bytes]:
        num = self._work.num_shards
        rows = shard_rows(len(self._source.items), num, shard=shard)
        streams = [
            read_predictions(shard_path(who.folder, shard, num_shards=num))
            for who in self._labellers
        ]
        good = (
            answers
            for answers in zip(*streams, strict=True)
            if not answers[0].reason and answers[0].key not in skip
        )
        for chunk in _batched(good, _CHUNK):
            _check_rows(chunk, rows)
            encoded = pool.map(self._read, [answers[0] for answers in chunk])
            for answers, fused, content in zip(chunk, self._fuse(chunk), encoded, strict=True):
                yield to_example(self._record(answers[0], fused, content))

    def _read(self, stored: Prediction) -> bytes:
        """The bytes a record keeps. The file must be the one the teachers saw."""
        encoded = self._source.read_bytes(self._source.items[stored.row])
        if hashlib.sha256(encoded).hexdigest() != stored.sha256:
            raise UserError(
                f"{stored.key} changed after the teachers looked at it. Label the data anew "
                "with --overwrite."
            )
        return check_image(encoded).encoded if stored.reencoded else encoded

    def _fuse(self, chunk: Sequence[tuple[Prediction, ...]]) -> list[Fused]:
        mapped = [
            [
                who.in_run_classes(stored.detections)
                for stored, who in zip(answers, self._labellers, strict=True)
            ]
            for answers in chunk
        ]
        if len(self._labellers) == 1:
            return [_only(teachers[0], self._settings.fusion) for teachers in mapped]
        weights = np.stack([who.weights for who in self._labellers])
        return fuse(mapped, weights=weights, settings=self._settings.fusion)

    def _record(self, stored: Prediction, fused: Fused, encoded: bytes) -> Record:
        found = fused.detections
        item = self._source.items[stored.row]
        return Record(
            source_id=stored.key,
            image_id=stored.image_id,
            encoded=encoded,
            format=stored.format,
            height=stored.height,
            width=stored.width,
            filename=os.path.basename(item.location) or item.original_id,
            sha256=stored.sha256,
            objects=pseudo_objects(
                found.boxes,
                found.scores,
                classes=found.classes,
                teachers=fused.teachers,
                score_threshold=self._settings.score_thresholds,
            ),
            class_names=self._settings.class_names,
            judged=judged_classes(self._labellers),
        )

    def _duplicates(self, counts: Counts) -> dict[int, frozenset[str]]:
        """Keys, per shard, of images whose bytes an earlier image of the listing has."""
        first: dict[bytes, str] = {}
        found: dict[int, frozenset[str]] = {}
        num = self._work.num_shards
        for shard in range(num):
            twice = set()
            for stored in read_predictions(
                shard_path(self._labellers[0].folder, shard, num_shards=num)
            ):
                digest = bytes.fromhex(stored.sha256)
                if stored.reason or first.setdefault(digest, stored.key) == stored.key:
                    continue
                twice.add(stored.key)
                counts.written -= 1
                counts.skip(DUPLICATE, stored.key, detail=f"same bytes as {first[digest]}")
            if twice:
                found[shard] = frozenset(twice)
        return found

    def _leave_out(self, shard: int, twice: frozenset[str]) -> None:
        """Writes a shard again without some images, unless that has been done."""
        index = files.read_json(self._path(shard) + INDEX_SUFFIX)
        whole = index["file_bytes"] == files.size_bytes(self._path(shard))
        if not whole or twice & set(index["source_ids"]):
            logging.info("shard %d: %d images came twice.", shard, len(twice))
            self._write(shard, skip=twice)


def write_labels(
    source: Source,
    labellers: Sequence[Labeller],
    *,
    folder: str,
    work: Work,
    settings: LabelSettings,
) -> Counts | None:
    """Writes the pseudo labels of a source as record shards, from stored predictions.

    Args:
        source: The listing that the predictions were made of.
        labellers: The teachers, in the order of their index in the records.
        folder: Where the shards and the label map go: WORKDIR/pseudo.
        work: The same shards as the predictions'.
        settings: Classes, fusion, thresholds.

    Returns:
        What became of the images, or None where other workers have shards to finish.

    Raises:
        UserError: An image changed after the teachers saw it, or too many are unusable.
    """
    return LabelWriter(source, labellers, folder=folder, work=work, settings=settings).finish()


def judged_classes(labellers: Sequence[Labeller]) -> np.ndarray:
    """The classes [K] int32, ascending, that at least one of the teachers could have marked."""
    known = np.stack([who.weights > 0 for who in labellers]).any(axis=0)
    return np.flatnonzero(known).astype(np.int32)


def _only(found: Detections, settings: FusionSettings) -> Fused:
    """One teacher's detections, limited as fused ones are."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= settings.score_floor][: settings.max_detections]
    return Fused(found[order], np.zeros(len(order), np.int32))


def _check_rows(chunk: Sequence[tuple[Prediction, ...]], rows: range) -> None:
    for answers in chunk:
        first = answers[0]
        if first.row not in rows or any(
            (stored.row, stored.sha256) != (first.row, first.sha256) for stored in answers
        ):
            raise UserError(
                f"The teachers' predictions for {first.key} were made of other images than "
                "this listing's. Do the predictions again with --overwrite."
            )


def _batched(items: Iterator, size: int) -> Iterator[tuple]:
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk
