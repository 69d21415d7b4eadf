"""Writes people's labels to record shards, once, so that training reads one format only."""

import concurrent.futures
import os
from collections.abc import Iterator, Mapping, Sequence

from kd_tf import documents, files, progress
from kd_tf.data import label_map
from kd_tf.data.images import check_image
from kd_tf.data.items import Item, Reject, Source
from kd_tf.data.records import Record, human_objects, to_example
from kd_tf.data.rejects import DUPLICATE, count_rejects
from kd_tf.data.shards import RecordSet, shard_name, shard_rows, write_shard
from kd_tf.errors import RejectedError
from kd_tf.manifests import COUNTS_SCHEMA, Counts
from kd_tf.schema import check

# Images decoded at once; what is in memory at most, whatever the size of the data set.
_WINDOW = 64


def write_labeled(
    source: Source,
    *,
    folder: str,
    prefix: str,
    num_shards: int,
    known: Mapping[str, str] | None = None,
) -> Counts:
    """Writes the images and labels of a source as record shards.

    Shards that are there are kept, so a run that was cut off goes on. An image whose
    bytes were met before is left out and counted.

    Args:
        source: A labelled source; its class list becomes the label map.
        folder: Where the shards go.
        prefix: First part of their names.
        num_shards: How many files; some may be empty.
        known: sha256 -> identity of images that must not be written again.

    Returns:
        What became of the images of all shards.
    """
    label_map.write(files.join(folder, label_map.FILE_NAME), source.class_names)
    met = dict(known or {})
    counts = Counts()
    count_rejects(counts, source.rejects)
    with progress.bar(total=len(source.items), unit="images", description=prefix) as bar:
        for shard in range(num_shards):
            rows = shard_rows(len(source.items), num_shards, shard=shard)
            path = files.join(folder, shard_name(prefix, shard=shard, num_shards=num_shards))
            if not files.exists(path):
                _write_shard(source, rows, path=path, met=met, place=(shard, num_shards))
            else:
                met.update(RecordSet.open(path).digests)
            counts.add(_read_counts(_counts_path(path)))
            bar.update(len(rows))
    return counts


def _write_shard(
    source: Source, rows: range, *, path: str, met: dict[str, str], place: tuple[int, int]
) -> None:
    counts = Counts()
    folder, name = os.path.split(path)

    def records() -> Iterator[bytes]:
        for item, result in _prepared(source, [source.items[row] for row in rows]):
            counts.seen += 1
            if isinstance(result, RejectedError):
                counts.skip(result.reason, source.key(item), detail=str(result))
                continue
            record, rejects = result
            if record.sha256 in met:
                counts.skip(DUPLICATE, record.source_id, detail=f"same as {met[record.sha256]}")
                continue
            met[record.sha256] = record.source_id
            counts.written += 1
            counts.kept_boxes += len(record.objects)
            count_rejects(counts, rejects)
            yield to_example(record)
        # Beside the shard before it appears, so a shard that is there has its counts.
        files.write_json(_counts_path(path), counts.to_json())

    prefix = name.split("-")[0]
    write_shard(folder, prefix, shard=place[0], num_shards=place[1], records=records())


def _prepared(
    source: Source, items: Sequence[Item]
) -> Iterator[tuple[Item, tuple[Record, list[Reject]] | RejectedError]]:
    """Decoding releases Python's lock, so threads use all cores."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), _WINDOW):
            part = items[start : start + _WINDOW]
            yield from zip(part, pool.map(lambda item: _prepare(source, item), part), strict=True)


def _prepare(source: Source, item: Item) -> tuple[Record, list[Reject]] | RejectedError:
    try:
        image = check_image(source.read_bytes(item))
        labels, rejects = source.read_labels(item)
    except RejectedError as error:
        return error
    objects = human_objects(
        labels.boxes, labels.classes, is_crowd=labels.is_crowd, areas=labels.areas
    )
    record = Record(
        source_id=source.key(item),
        image_id=item.image_id,
        encoded=image.encoded,
        format=image.format,
        height=image.height,
        width=image.width,
        filename=os.path.basename(item.location),
        sha256=source.read_sha256(item) if source.read_sha256 else image.sha256,
        objects=objects,
        class_names=source.class_names,
        judged=labels.judged,
    )
    return record, rejects


def _read_counts(path: str) -> Counts:
    content = documents.read_json(path)
    advice = "Move the folder `labeled` away and run the same command again."
    check(content, COUNTS_SCHEMA, path=path, advice=advice)
    return Counts.from_json(content)


def _counts_path(shard: str) -> str:
    return f"{shard}.counts"


def remove(folder: str, prefix: str) -> None:
    """Removes what `write_labeled` wrote, so that every image is read again."""
    for name in files.list_folder(folder):
        if name.startswith(f"{prefix}-"):
            files.remove(files.join(folder, name))


def open_labeled(folder: str, prefix: str) -> RecordSet:
    """The records that `write_labeled` wrote."""
    return RecordSet.open(files.join(folder, f"{prefix}-*.tfrecord"))
