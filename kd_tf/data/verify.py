"""Checks a folder of records: what `--verify` runs."""

import dataclasses
import hashlib

import tensorflow as tf

from kd_tf import files, manifests
from kd_tf.data.shards import RecordSet
from kd_tf.errors import RejectedError


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        num_records: Records read.
        num_objects: Entries of kd/object/* (of image/object/* in foreign records).
        num_working: Working labels, the standard keys.
        problems: One line for each thing that is wrong; empty where all is well.
    """

    num_records: int
    num_objects: int
    num_working: int
    problems: tuple[str, ...]


def verify(folder: str) -> Verification:
    """Reads every record of a folder: checksums, image digests, double ids, the manifest's count.

    Raises:
        UserError: There are no records, a shard is missing, or a file is not whole.
    """
    records = RecordSet.open(folder)
    problems, seen, sums = [], set(), [0, 0, 0]
    indexed = records.source_ids
    for number in range(len(records)):
        try:
            source_id, objects, working = _check_record(records.read(number))
        except RejectedError as error:
            problems.append(f"record {number}: {error}")
            continue
        sums = [sums[0] + 1, sums[1] + objects, sums[2] + working]
        if source_id in seen:
            problems.append(f"record {number}: {source_id} occurs twice")
        seen.add(source_id)
        if source_id != indexed[number]:
            problems.append(f"record {number}: is {source_id}, the index says {indexed[number]}")
    if files.is_folder(folder) and manifests.is_complete(folder):
        written = manifests.read(folder).counts.written
        if written != len(records):
            problems.append(f"{len(records)} records, the manifest says {written}")
    return Verification(*sums, tuple(problems))


def _check_record(serialized: bytes) -> tuple[str, int, int]:
    """(source id, objects, working labels) of a record whose image has the right digest."""
    features = tf.train.Example.FromString(serialized).features.feature

    def first(key: str) -> bytes:
        return features[key].bytes_list.value[0] if features[key].bytes_list.value else b""

    source_id = (first("image/source_id") or first("image/filename")).decode()
    wanted = (first("kd/encoded_sha256") or first("image/key/sha256")).decode()
    encoded = first("image/encoded")
    if encoded and wanted and hashlib.sha256(encoded).hexdigest() != wanted:
        raise RejectedError("image bytes do not match their sha256", source_id)
    working = len(features["image/object/bbox/xmin"].float_list.value)
    own = "kd/schema_version" in features
    objects = len(features["kd/object/bbox/xmin"].float_list.value) if own else working
    return source_id, objects, working
