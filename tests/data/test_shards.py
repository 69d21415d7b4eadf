"""Shards: whole or not at all, read by number, damage named."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from kd_tf import manifests
from kd_tf.data import label_map, records, shards
from kd_tf.data.shards import RecordSet
from kd_tf.data.verify import verify
from kd_tf.errors import RejectedError, UserError


def _example(name: str, *, encoded: bytes = b"pixels", sha256: str | None = None) -> bytes:
    empty = np.zeros(0, np.int32)
    return records.to_example(
        records.Record(
            source_id=name,
            image_id=0,
            encoded=encoded,
            format="jpeg",
            height=2,
            width=2,
            filename=name,
            sha256=sha256 or hashlib.sha256(encoded).hexdigest(),
            objects=records.human_objects(empty, empty, is_crowd=empty, areas=empty),
            class_names=("a",),
        )
    )


def _write(folder: str, sizes: list[int]) -> list[bytes]:
    """Shards of the given sizes with examples named s/0, s/1, ... in order."""
    everything = [_example(f"s/{number}") for number in range(sum(sizes))]
    for shard, size in enumerate(sizes):
        first = sum(sizes[:shard])
        shards.write_shard(
            folder,
            "train",
            shard=shard,
            num_shards=len(sizes),
            records=iter(everything[first : first + size]),
        )
    return everything


@pytest.mark.parametrize(
    ("num_items", "num_shards"),
    [(0, 1), (1, 1), (10, 3), (3, 10), (100, 7)],
)
def test_shard_rows_cover_each_row_once_and_evenly(num_items, num_shards):
    parts = [shards.shard_rows(num_items, num_shards, shard=k) for k in range(num_shards)]
    assert [row for part in parts for row in part] == list(range(num_items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shard_rows_outside_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 3\), got 3"):
        shards.shard_rows(10, 3, shard=3)


def test_shard_name():
    name = shards.shard_name("train", shard=3, num_shards=10)
    assert name == "train-00003-of-00010.tfrecord"


@pytest.mark.parametrize("folder", ["ram://shards/round_trip", "local"])
def test_write_then_read_by_number_across_shards(tmp_path, folder):
    folder = str(tmp_path) if folder == "local" else folder
    everything = _write(folder, [2, 0, 3])
    label_map.write(f"{folder}/label_map.pbtxt", ("a",))
    read = RecordSet.open(folder)
    assert len(read) == 5
    assert [read.read(number) for number in (4, 0, 2, 1, 3)] == [
        everything[n] for n in (4, 0, 2, 1, 3)
    ]
    assert read.source_ids == ("s/0", "s/1", "s/2", "s/3", "s/4")
    assert read.class_names == ("a",)


def test_written_shard_is_a_tfrecord_for_tensorflow(tmp_path):
    everything = _write(str(tmp_path), [3])
    dataset = tf.data.TFRecordDataset(str(tmp_path / "train-00000-of-00001.tfrecord"))
    assert list(dataset.as_numpy_iterator()) == everything


def test_foreign_file_without_index_is_scanned(tmp_path):
    path = str(tmp_path / "coco_train.record-00000-of-00001")
    content = [_example("x"), _example("y" * 50)]
    with tf.io.TFRecordWriter(path) as writer:
        for record in content:
            writer.write(record)
    read = RecordSet.open(str(tmp_path))
    assert list(read) == content
    assert read.source_ids == ("x", "y" * 50)
    assert read.class_names == ()


def test_write_shard_that_fails_leaves_nothing(tmp_path):
    def records_that_fail():
        yield _example("a")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        shards.write_shard(str(tmp_path), "p", shard=0, num_shards=1, records=records_that_fail())
    assert list(tmp_path.iterdir()) == []


def test_read_flipped_bit_names_file_and_record(tmp_path):
    _write(str(tmp_path), [1, 3])
    path = tmp_path / "train-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle record of three equally long ones
    path.write_bytes(bytes(content))
    read = RecordSet.open(str(tmp_path))
    read.read(1)
    with pytest.raises(RejectedError, match=r"damaged record: record 1 of .*train-00001-of-00002"):
        read.read(2)


@pytest.mark.parametrize("index", ["with", "without"])
def test_open_cut_file_is_named(tmp_path, index):
    _write(str(tmp_path), [3])
    path = tmp_path / "train-00000-of-00001.tfrecord"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if index == "without":
        (tmp_path / "train-00000-of-00001.tfrecord.idx").unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00001.tfrecord.* cut"):
        RecordSet.open(str(tmp_path))


def test_read_file_cut_after_opening_is_refused(tmp_path):
    _write(str(tmp_path), [4])
    read = RecordSet.open(str(tmp_path))
    path = tmp_path / "train-00000-of-00001.tfrecord"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(RejectedError, match="record 3 of"):
        read.read(3)


def test_open_file_that_is_no_tfrecord_is_refused(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(b"\x1f\x8b" + b"z" * 40)
    with pytest.raises(UserError, match="no TFRecord file from byte 0"):
        RecordSet.open(str(tmp_path))


def test_open_incomplete_folder_says_which_shard_is_missing(tmp_path):
    _write(str(tmp_path), [1, 1, 1])
    (tmp_path / "train-00001-of-00003.tfrecord").unlink()
    with pytest.raises(UserError, match=r"shards \[1\] of 3 are missing"):
        RecordSet.open(str(tmp_path))
    assert len(RecordSet.open(str(tmp_path / "*.tfrecord"))) == 2


def test_open_shards_of_two_runs_are_refused(tmp_path):
    _write(str(tmp_path), [1])
    _write(str(tmp_path), [1, 1])
    with pytest.raises(UserError, match="several runs"):
        RecordSet.open(str(tmp_path))


def test_open_nothing_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match="No records at"):
        RecordSet.open(str(tmp_path))


def test_verify_counts_and_finds_what_is_wrong(tmp_path):
    folder = str(tmp_path)
    content = [
        _example("s/0"),
        _example("s/1", sha256="00" * 32),  # re-encoded: its own digest is kept beside
        _example("s/0"),
        _example("s/3").replace(b"pixels", b"pixelz"),
    ]
    shards.write_shard(folder, "p", shard=0, num_shards=1, records=content)
    counts = manifests.Counts(seen=5, written=5)
    manifests.write(folder, manifests.Manifest("pseudo", {}, counts=counts))
    found = verify(folder)
    assert (found.num_records, found.num_objects, found.num_working) == (3, 0, 0)
    assert found.problems == (
        "record 2: s/0 occurs twice",
        "record 3: image bytes do not match their sha256: s/3",
        "4 records, the manifest says 5",
    )


def test_verify_good_folder_has_no_problems(tmp_path):
    _write(str(tmp_path), [2, 2])
    assert verify(str(tmp_path)).problems == ()
