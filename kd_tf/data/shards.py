"""TFRecord shards that are there whole or not at all, each with an index for reading by number."""

import dataclasses
import functools
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np
import tensorflow as tf

from kd_tf import documents, files
from kd_tf.data import label_map
from kd_tf.errors import RejectedError, UserError
from kd_tf.values import Json, show

INDEX_SUFFIX = ".idx"
_HEADER_BYTES = 12  # uint64 length and its checksum
_FRAME_BYTES = 16  # the header and the checksum of the data
_SHARD = re.compile(r"^(?P<prefix>.*)-(?P<shard>\d{5})-of-(?P<num>\d{5})(?:\.\w+)?$")
_RECORD_FILE = re.compile(r"\.(tfrecords?|record)(-\d{5}-of-\d{5})?$")


def shard_name(prefix: str, *, shard: int, num_shards: int) -> str:
    """The file name of a shard, for example `train-00003-of-00010.tfrecord`."""
    return f"{prefix}-{shard:05d}-of-{num_shards:05d}.tfrecord"


def shard_rows(num_items: int, num_shards: int, *, shard: int) -> range:
    """The rows of a listing that a shard holds: contiguous, sizes differ by at most one.

    Raises:
        ValueError: `shard` is not in [0, num_shards).
    """
    if not 0 <= shard < num_shards:
        raise ValueError(f"shard must be in [0, {num_shards}), got {shard}.")
    return range(shard * num_items // num_shards, (shard + 1) * num_items // num_shards)


def write_shard(
    folder: str,
    prefix: str,
    *,
    shard: int,
    num_shards: int,
    records: Iterable[bytes],
    replace: bool = True,
) -> int:
    """Writes one shard and its index; the shard file appears only when both are whole.

    Args:
        folder: Where; made if it is not there.
        prefix: First part of the file name.
        shard: Its number, from 0.
        num_shards: How many there will be.
        records: Serialized examples; consumed one at a time.
        replace: Whether a shard that another worker finished in the meantime is replaced.

    Returns:
        The number of records written.
    """
    path = files.join(folder, shard_name(prefix, shard=shard, num_shards=num_shards))
    lengths, names = [], []
    with files.writing(path, replace=replace) as file:
        for record in records:
            header = struct.pack("<Q", len(record))
            file.write(header + _masked_crc(header) + record + _masked_crc(record))
            lengths.append(len(record))
            names.append(_names(record))
        # The index first: a shard that is there has its index, whenever the process dies.
        index = {
            "version": 1,
            "file_bytes": sum(lengths) + _FRAME_BYTES * len(lengths),
            "lengths": lengths,
            "source_ids": [source_id for source_id, _ in names],
            "sha256": [digest for _, digest in names],
        }
        if replace or not files.is_file(path):
            files.write_text(path + INDEX_SUFFIX, json.dumps(index) + "\n")
    return len(lengths)


def _masked_crc(data: bytes) -> bytes:
    """TFRecord's checksum. Source: tensorflow/core/lib/hash/crc32c.h, `Mask`."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _names(record: bytes) -> tuple[str, str]:
    """Identity of a record's image and the sha256 of its file; "" where it does not say."""
    features = tf.train.Example.FromString(record).features.feature

    def text(key: str) -> str:
        values = features[key].bytes_list.value if key in features else ()
        return values[0].decode("utf-8", "replace") if values else ""

    return text("image/source_id") or text("image/filename"), text("image/key/sha256")


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """Records of several shard files, read by number.

    Safe to use from several threads: every read opens the file for itself (0.1 ms on a
    local disk, as much as a seek in an open one, whose buffer must be filled anew too).

    Attributes:
        paths: The shard files, sorted.
        shards: [N] int32, which file holds a record.
        offsets: [N] int64, where its frame begins.
        lengths: [N] int64, bytes of the record itself.
        label_map: Name of each integer label, from label_map.pbtxt beside the shards; may be empty.
    """

    paths: tuple[str, ...]
    shards: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    label_map: dict[int, str]

    @classmethod
    def open(cls, pattern: str) -> "RecordSet":
        """Opens a folder, a glob or a file; files without an index are scanned once.

        Raises:
            UserError: Nothing found, a shard is missing, or a file is not whole.
        """
        paths = find_shards(pattern)
        lengths = [_lengths(path) for path in paths]
        offsets = [np.cumsum(part + _FRAME_BYTES) - part - _FRAME_BYTES for part in lengths]
        names = files.join(os.path.dirname(paths[0]), label_map.FILE_NAME)
        return cls(
            paths=tuple(paths),
            shards=np.repeat(
                np.arange(len(paths), dtype=np.int32), [len(part) for part in lengths]
            ),
            offsets=np.concatenate(offsets),
            lengths=np.concatenate(lengths),
            label_map=label_map.read(names) if files.exists(names) else {},
        )

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels; empty where there is no label map."""
        return tuple(self.label_map.values())

    @functools.cached_property
    def source_ids(self) -> tuple[str, ...]:
        """Identity of every image; foreign shards are read once for it."""
        return tuple(source_id for source_id, _ in self._all_names)

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """sha256 of every image's original file -> identity, where records say it."""
        return {digest: source_id for source_id, digest in self._all_names if digest}

    @functools.cached_property
    def _all_names(self) -> list[tuple[str, str]]:
        indexes = [_own_index(path) for path in self.paths]
        if all(indexes):
            pairs = (zip(one["source_ids"], one["sha256"], strict=True) for one in indexes)
            return [pair for part in pairs for pair in part]
        return [_names(self.read(number)) for number in range(len(self))]

    def read(self, number: int) -> bytes:
        """Record `number` in [0, len).

        Raises:
            RejectedError: Its checksum is wrong or the file ends early; names file and record.
        """
        path, length = self.paths[self.shards[number]], int(self.lengths[number])
        with files.open_file(path, "rb") as file:
            file.seek(int(self.offsets[number]))
            frame = file.read(length + _FRAME_BYTES)
        record = frame[_HEADER_BYTES:-4]
        header = frame[:8]
        whole = len(frame) == length + _FRAME_BYTES and header == struct.pack("<Q", length)
        if (
            not whole
            or frame[8:_HEADER_BYTES] != _masked_crc(header)
            or frame[-4:] != _masked_crc(record)
        ):
            within = number - int(np.searchsorted(self.shards, self.shards[number]))
            raise RejectedError(
                "damaged record", f"record {within} of {path}; write that shard anew"
            )
        return record

    def __iter__(self) -> Iterator[bytes]:
        return (self.read(number) for number in range(len(self)))


def read_shard(path: str) -> Iterator[bytes]:
    """The records of one shard file in order, one at a time in memory.

    Five times as fast as an eager tf.data iterator, whose every step costs 0.2 ms.

    Raises:
        RejectedError: A checksum is wrong or the file ends within a record.
    """
    with files.open_file(path, "rb") as file:
        number = 0
        while header := file.read(_HEADER_BYTES):
            (length,) = struct.unpack("<Q", header[:8]) if len(header) == _HEADER_BYTES else (0,)
            sound = header[8:] == _masked_crc(header[:8])
            record, checksum = (file.read(length), file.read(4)) if sound else (b"", b"")
            if not sound or checksum != _masked_crc(record):
                raise RejectedError(
                    "damaged record", f"record {number} of {path}; write that shard anew"
                )
            yield record
            number += 1


def find_shards(pattern: str) -> list[str]:
    """Record files of a folder or glob, sorted, temporary files and indexes left out.

    Raises:
        UserError: None found, or the names say that some of them are missing.
    """
    if files.is_folder(pattern):
        names = [name for name in files.list_folder(pattern) if _RECORD_FILE.search(name)]
        paths = [files.join(pattern, name) for name in names]
    else:
        paths = [
            path
            for path in files.find(pattern)
            if not path.endswith((INDEX_SUFFIX, ".pbtxt", ".json")) and ".part-" not in path
        ]
    if not paths:
        raise UserError(
            f"No records at {pattern}: give a folder that holds *.tfrecord files, or a glob."
        )
    _check_complete(paths, pattern)
    return paths


def _check_complete(paths: list[str], pattern: str) -> None:
    found: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        if match := _SHARD.match(path):
            key = (match["prefix"], int(match["num"]))
            found.setdefault(key, set()).add(int(match["shard"]))
    prefixes = [prefix for prefix, _ in found]
    for (prefix, num), shards in found.items():
        if prefixes.count(prefix) > 1:
            raise UserError(
                f"{prefix}-* holds shards of several runs (different numbers behind -of-). "
                "Remove the older ones."
            )
        # A glob may pick some of the shards on purpose; a folder is all or nothing.
        if files.is_folder(pattern) and len(shards) < num:
            missing = sorted(set(range(num)) - shards)
            raise UserError(
                f"{prefix}: shards {missing[:10]} of {num} are missing. Finish the run that "
                "writes them, or give a glob of the files to read."
            )


def read_index(path: str) -> dict | None:
    """The index beside a shard; None where there is none. Raises UserError for a damaged one.

    It may be that of another content: a kill between the two leaves the newer index.
    """
    if not files.exists(path + INDEX_SUFFIX):
        return None
    index = documents.read_json(path + INDEX_SUFFIX)
    fault = _index_fault(index)
    if fault:
        raise UserError(
            f"{path + INDEX_SUFFIX} is damaged: {fault}. Remove it: records are found without it."
        )
    return index


def _own_index(path: str) -> dict | None:
    index = read_index(path)
    if index and index["file_bytes"] != files.size_bytes(path):
        raise UserError(
            f"{path} has {files.size_bytes(path)} bytes, its index says {index['file_bytes']}: "
            "the file was cut or changed. Write that shard anew."
        )
    return index


def _index_fault(index: Json) -> str:
    """What is wrong with an index; "" for a sound one."""
    if not isinstance(index, dict):
        return f"it holds {show(index)}, a table is needed"
    lengths, names, digests = (index.get(key) for key in ("lengths", "source_ids", "sha256"))
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        return "lengths must be whole numbers"
    for key, texts in (("source_ids", names), ("sha256", digests)):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return f"{key} must be texts"
        if len(texts) != len(lengths):
            return f"{key} has {len(texts)} entries for {len(lengths)} records"
    if index.get("file_bytes") != sum(lengths) + _FRAME_BYTES * len(lengths):
        return f"file_bytes is {show(index.get('file_bytes'))}, its records take another number"
    return ""


def _lengths(path: str) -> np.ndarray:
    index = _own_index(path)
    return np.array(index["lengths"] if index else list(_scan(path)), np.int64)


def _scan(path: str) -> Iterator[int]:
    """Lengths of the records of a file without an index."""
    end, offset = files.size_bytes(path), 0
    with files.open_file(path, "rb") as file:
        while offset < end:
            file.seek(offset)
            header = file.read(_HEADER_BYTES)
            if len(header) < _HEADER_BYTES or header[8:] != _masked_crc(header[:8]):
                raise UserError(
                    f"{path} is no TFRecord file from byte {offset} on: damaged, cut or compressed."
                )
            (length,) = struct.unpack("<Q", header[:8])
            offset += length + _FRAME_BYTES
            if offset > end:
                raise UserError(f"{path} ends within a record, at byte {end}: the file was cut.")
            yield length
