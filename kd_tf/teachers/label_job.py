"""Fuses what the teachers said, image by image, and writes the records a student learns from."""

import concurrent.futures
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from absl import logging

from kd_tf import files, progress
from kd_tf.data import label_map
from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.data.records import Record, pseudo_objects, to_example
from kd_tf.data.rejects import DUPLICATE
from kd_tf.data.shards import read_index, shard_name, shard_rows, write_shard
from kd_tf.errors import UserError
from kd_tf.manifests import Counts
from kd_tf.teachers.fusion import Fused
from kd_tf.teachers.labeller import Labeller, LabelSettings, fuse_teachers, judged_classes
from kd_tf.teachers.predict_job import (
    Work,
    clear_write_errors,
    count_predictions,
    shard_path,
)
from kd_tf.teachers.predictions import Prediction, read_predictions

PREFIX = "pseudo"
_ASK_AGAIN = "Remove the folder `predictions` of the workdir and run the same command again."
# Images fused together; what is in memory at most, whatever the size of the data set.
_CHUNK = 64


class LabelWriter:
    """Writes pseudo labels as record shards, from predictions, as these become complete.

    Args:
        source: The listing that the predictions are made of.
        labellers: The teachers, in the order of their index in the records.
        folder: Where the shards and the label map go: WORKDIR/pseudo.
        work: The same shards as the predictions'.
        settings: Classes, fusion, thresholds.
    """

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

    def write(self, shard: int) -> None:
        """Writes one shard, unless it is there or some teacher has not come so far."""
        if self._is_ready(shard) and not files.is_file(self._path(shard)):
            self._write(shard, skip=frozenset(), replace=False)

    def finish(self) -> Counts | None:
        """Writes what is missing, leaves out images that came twice, counts.

        Returns:
            What became of the images; None while other workers have predictions to finish.

        Raises:
            UserError: An image changed after the teachers saw it, or too many are unusable.
        """
        counts = count_predictions(
            self._source,
            folder=self._labellers[0].folder,
            work=self._work,
            name=self._labellers[0].name,
        )
        own = self._work.shards()
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

    def _write(self, shard: int, *, skip: frozenset[str], replace: bool) -> None:
        threads = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
        with clear_write_errors(self._folder), threads as pool:
            names = files.join(self._folder, label_map.FILE_NAME)
            if not files.exists(names):
                label_map.write(names, self._settings.class_names)
            write_shard(
                self._folder,
                PREFIX,
                shard=shard,
                num_shards=self._work.num_shards,
                records=self._records(shard, skip=skip, pool=pool),
                replace=replace,
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
        chunks = _ahead(_batched(good, _CHUNK), self._start_reading(rows, pool))
        for chunk, encoded in chunks:
            said = [[stored.detections for stored in answers] for answers in chunk]
            labels = fuse_teachers(said, self._labellers, fusion=self._settings.fusion)
            for answers, fused, content in zip(chunk, labels, encoded, strict=True):
                yield to_example(self._record(answers[0], fused, content))

    def _start_reading(
        self, rows: range, pool: concurrent.futures.Executor
    ) -> Callable[[Sequence[tuple[Prediction, ...]]], Iterator[bytes]]:
        def start(chunk: Sequence[tuple[Prediction, ...]]) -> Iterator[bytes]:
            _check_rows(chunk, rows)
            return pool.map(self._read, [answers[0] for answers in chunk])

        return start

    def _read(self, stored: Prediction) -> bytes:
        """The bytes a record keeps. The file must be the one the teachers saw."""
        encoded = self._source.read_bytes(self._source.items[stored.row])
        if hashlib.sha256(encoded).hexdigest() != stored.sha256:
            raise UserError(f"{stored.key} changed after the teachers looked at it. {_ASK_AGAIN}")
        return check_image(encoded).encoded if stored.reencoded else encoded

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
        index = read_index(self._path(shard))
        whole = index["file_bytes"] == files.size_bytes(self._path(shard))
        if not whole or twice & set(index["source_ids"]):
            logging.info("shard %d: %d images came twice.", shard, len(twice))
            self._write(shard, skip=twice, replace=True)


def remove_orphans(folder: str, *, answers: Sequence[str], num_shards: int) -> None:
    """Removes label shards whose predictions are gone: they were made of other ones.

    Args:
        folder: Where the label shards are.
        answers: The folders of all teachers' predictions.
        num_shards: Of the job.
    """
    for shard in range(num_shards):
        path = files.join(folder, shard_name(PREFIX, shard=shard, num_shards=num_shards))
        paths = [shard_path(one, shard, num_shards=num_shards) for one in answers]
        if files.exists(path) and not all(map(files.exists, paths)):
            logging.info("%s: made anew, its predictions were removed.", path)
            files.remove_if_there(path)


def _check_rows(chunk: Sequence[tuple[Prediction, ...]], rows: range) -> None:
    for answers in chunk:
        first = answers[0]
        if first.row not in rows or any(
            (stored.row, stored.sha256) != (first.row, first.sha256) for stored in answers
        ):
            raise UserError(
                f"The teachers' predictions for {first.key} were made of other images than "
                f"this listing's. {_ASK_AGAIN}"
            )


def _ahead(
    chunks: Iterator[tuple], start: Callable[[tuple], Iterator[bytes]]
) -> Iterator[tuple[tuple, Iterator[bytes]]]:
    """Each chunk with what `start` began for it; the next one is begun before this one is used."""
    waiting = None
    for chunk in chunks:
        begun = (chunk, start(chunk))
        if waiting is not None:
            yield waiting
        waiting = begun
    if waiting is not None:
        yield waiting


def _batched(items: Iterator, size: int) -> Iterator[tuple]:
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk
