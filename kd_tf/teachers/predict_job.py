"""Runs one teacher over a listing, shard by shard; finished files are the progress."""

import contextlib
import itertools
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging

from kd_tf import files, manifests, progress
from kd_tf.data.batches import load
from kd_tf.data.items import Source
from kd_tf.data.predict import Recaller, predict
from kd_tf.data.rejects import AT_LIMIT, LIST_NAME
from kd_tf.data.shards import INDEX_SUFFIX, shard_name, shard_rows, write_shard
from kd_tf.errors import RejectedError, UserError
from kd_tf.geometry.detections import Detector
from kd_tf.manifests import Counts
from kd_tf.teachers import bad_images
from kd_tf.teachers.bad_images import Work
from kd_tf.teachers.predictions import (
    PREFIX,
    Prediction,
    read_predictions,
    to_bytes,
    to_prediction,
)

LISTING = "listing.txt"


def label_predictions(
    teacher: Detector | Recaller,
    source: Source,
    *,
    name: str,
    folder: str,
    work: Work,
    score_floor: float = 0.01,
    on_shard: Callable[[int], None] | None = None,
) -> Counts | None:
    """Writes what a teacher says about every image of a source, as raw prediction shards.

    Shards that are there are skipped, so a killed job goes on where it was; at most one
    shard of work is lost.

    Args:
        teacher: What looks at the images; loaded by the caller.
        source: The frozen listing: row i of the job is `source.items[i]`.
        name: The teacher's name, for messages.
        folder: Where the shards go: WORKDIR/predictions/<name>.
        work: Shards, workers and limits.
        score_floor: Detections below it are not kept.
        on_shard: Called with each finished shard of this worker, so that what comes next
            (fusing, writing) can run beside the network.

    Returns:
        What became of the images, or None where other workers have shards to finish.

    Raises:
        UserError: The folder belongs to another listing, too many images are unusable,
            or the teacher fails.
    """
    limit, counts = (
        bad_images.Limit(source, name, folder, work),
        bad_images.listed(source),
    )
    limit.check(counts)
    with clear_write_errors(folder):
        _freeze_listing(source, folder)
    todo = [k for k in work.shards() if not files.exists(_path(folder, k, work.num_shards))]
    runs = [shard_rows(len(source.items), work.num_shards, shard=k) for k in todo]
    rows = [row for run in runs for row in run]
    done = set(work.shards()) - set(todo)
    if done:
        logging.info("%s: %d shards are there already, %d to do.", name, len(done), len(todo))
    report = on_shard or (lambda shard: None)
    for shard in sorted(done):
        report(shard)
    # One pass over the rows of all shards, so that the pipeline never runs dry between two
    # files; but no batch crosses a shard, so that its bytes are the same in every run.
    answers = predict(
        teacher, source, batch_size=work.batch_size, rows=rows,
        groups=[len(run) for run in runs], name=name,
    )  # fmt: skip
    stored = _kept(answers, source, score_floor=score_floor, max_detections=work.max_detections)
    with progress.bar(total=len(rows), unit="images", description=f"teacher {name}") as bar:
        for shard, run in zip(todo, runs, strict=True):
            mine = itertools.islice(stored, len(run))
            records = map(to_bytes, limit.watch(mine, counts=counts, bar=bar))
            with clear_write_errors(folder):
                write_shard(
                    folder, PREFIX, shard=shard, num_shards=work.num_shards, records=records
                )
            report(shard)
    counted = count_predictions(source, folder=folder, work=work, name=name)
    if counted is not None:
        _warn_of_dense(counted, work.max_detections)
    return counted


def _warn_of_dense(counts: Counts, max_detections: int) -> None:
    if counts.skipped_boxes[AT_LIMIT]:
        logging.warning(
            "%d images have as many detections as are kept, %d, the last still above %.2f: more "
            "were left out, and count as background. Give a larger --max_detections. The first: %s",
            counts.skipped_boxes[AT_LIMIT], max_detections, bad_images.TELLING_SCORE,
            ", ".join(counts.examples[AT_LIMIT][:3]),
        )  # fmt: skip


def missing_shards(folder: str, *, num_shards: int) -> list[int]:
    """The prediction shards that no worker has finished yet."""
    return [k for k in range(num_shards) if not files.exists(_path(folder, k, num_shards))]


def count_predictions(source: Source, *, folder: str, work: Work, name: str) -> Counts | None:
    """What became of all images, from the finished shards; None while some are missing.

    Raises:
        UserError: More images than `max_bad_fraction` are unusable.
    """
    missing = missing_shards(folder, num_shards=work.num_shards)
    if missing:
        logging.info(
            "%s: this worker is done; %d shards of other workers are not there yet (first: %s).",
            name, len(missing), shard_name(PREFIX, shard=missing[0], num_shards=work.num_shards),
        )  # fmt: skip
        return None
    counts = bad_images.listed(source)
    for shard in range(work.num_shards):
        for stored in _whole_shard(source, shard, folder=folder, num_shards=work.num_shards):
            bad_images.count(counts, stored, max_detections=work.max_detections)
    bad_images.Limit(source, name, folder, work).check(counts)
    files.remove_if_there(files.join(folder, LIST_NAME))
    return counts


def forget_repaired(source: Source, *, folder: str, num_shards: int) -> None:
    """Removes shards of unfinished work that left out an image which can be used by now.

    The teacher looks at their images again; shards whose rejects are as they were stay.
    """
    if manifests.is_complete(folder):
        return
    for shard in range(num_shards):
        path = _path(folder, shard, num_shards)
        if not files.exists(path):
            continue
        if any(_is_repaired(source, stored) for stored in read_predictions(path)):
            logging.info("%s: made anew, an image that it left out was repaired.", path)
            for one in (path, path + INDEX_SUFFIX):
                files.remove_if_there(one)


def _is_repaired(source: Source, stored: Prediction) -> bool:
    if not stored.reason or stored.row >= len(source.items):
        return False
    same = source.key(source.items[stored.row]) == stored.key
    return same and not load(source, stored.row)[1].reason


@contextlib.contextmanager
def clear_write_errors(folder: str) -> Iterator[None]:
    """Turns what a full disk or a read-only folder raises into a UserError that says so."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"{folder} cannot be written: {error}. Make room or give the right to write, then run "
            "the same command again: finished shards are kept."
        ) from error


def shard_path(folder: str, shard: int, *, num_shards: int) -> str:
    """Path of a prediction shard."""
    return _path(folder, shard, num_shards)


def _path(folder: str, shard: int, num_shards: int) -> str:
    return files.join(folder, shard_name(PREFIX, shard=shard, num_shards=num_shards))


def _kept(
    answers: Iterator, source: Source, *, score_floor: float, max_detections: int
) -> Iterator[Prediction]:
    for predicted in answers:
        yield to_prediction(
            predicted,
            key=source.key(predicted.item),
            score_floor=score_floor,
            max_detections=max_detections,
        )


def _whole_shard(
    source: Source, shard: int, *, folder: str, num_shards: int
) -> Iterator[Prediction]:
    """The predictions of a shard. Raises UserError unless they are those of exactly its rows."""
    path = _path(folder, shard, num_shards)
    rows = shard_rows(len(source.items), num_shards, shard=shard)
    try:
        for stored, row in itertools.zip_longest(read_predictions(path), rows):
            if stored is None or stored.row != row:
                raise RejectedError("other rows", f"expected {row}, found {stored and stored.row}")
            yield stored
    except RejectedError as error:
        raise UserError(
            f"{path} does not hold its {len(rows)} images, {rows.start} to {rows.stop - 1} of the "
            f"listing ({error}). Remove it, and {manifests.FILE_NAME} beside it if that is there, "
            "and run the same command again."
        ) from error


def _freeze_listing(source: Source, folder: str) -> None:
    """Writes the keys of the listing once; refuses a folder that has another listing."""
    path = files.join(folder, LISTING)
    if not files.exists(path):
        with files.writing(path) as file:
            for item in source.items:
                file.write(_line(source.key(item)))
        return
    wanted = (_line(source.key(item)) for item in source.items)
    with files.open_file(path, "rb") as file:
        for number, line in enumerate(wanted):
            found = file.readline()
            found = found if isinstance(found, bytes) else found.encode()
            if found != line:
                raise UserError(_other_listing(path, number, found, line))
        rest = file.readline()
    if rest:
        raise UserError(_other_listing(path, len(source.items), rest, b""))


def _line(key: str) -> bytes:
    return key.replace("\\", "\\\\").replace("\n", "\\n").encode("utf-8", "surrogateescape") + b"\n"


def _other_listing(path: str, number: int, found: bytes, wanted: bytes) -> str:
    was, now = (text.decode("utf-8", "replace").strip() or "the end" for text in (found, wanted))
    return (
        f"{path} froze another list of images: image {number} was {was}, is {now} now. Give the "
        f"same data, or --overwrite to begin anew (rename the folder where several processes work)."
    )
