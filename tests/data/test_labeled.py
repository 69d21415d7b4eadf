"""People's labels written to shards: nothing lost in silence, and a cut-off run goes on."""

import dataclasses

import numpy as np
import pytest

from kd_tf import files
from kd_tf.data import labeled, records
from kd_tf.data.items import Item
from kd_tf.data.scenes import open_scenes
from kd_tf.errors import RejectedError
from kd_tf.specs import DATA_KINDS, parse


@pytest.fixture(scope="module")
def scenes():
    return open_scenes(parse("scenes:train?num=10&size=64", DATA_KINDS))


def _with_faults(source):
    """Item 3 cannot be decoded, item 7 is item 2 under another name."""

    def read_bytes(item):
        row = source.items.index(item)
        return b"no image" if row == 3 else source.read_bytes(source.items[2 if row == 7 else row])

    return dataclasses.replace(source, read_bytes=read_bytes)


def test_write_labeled_counts_what_it_left_out(scenes, tmp_path):
    counts = labeled.write_labeled(
        _with_faults(scenes), folder=str(tmp_path), prefix="train", num_shards=3
    )
    assert (counts.seen, counts.written) == (10, 8)
    assert dict(counts.skipped) == {"not an image": 1, "duplicate image": 1}
    assert scenes.key(scenes.items[3]) in counts.examples["not an image"][0]
    assert f"same as {scenes.key(scenes.items[2])}" in counts.examples["duplicate image"][0]
    assert len(labeled.open_labeled(str(tmp_path), "train")) == 8


def test_write_labeled_keeps_labels_and_bytes(scenes, tmp_path):
    labeled.write_labeled(scenes, folder=str(tmp_path), prefix="train", num_shards=2)
    found = labeled.open_labeled(str(tmp_path), "train")
    assert found.class_names == scenes.class_names
    for row, item in enumerate(scenes.items):
        record = records.from_example(found.read(row), class_names=scenes.class_names)
        labels, _ = scenes.read_labels(item)
        np.testing.assert_allclose(record.objects.boxes, labels.boxes, atol=1e-4)
        assert record.objects.classes.tolist() == labels.classes.tolist()
        assert record.encoded == scenes.read_bytes(item)
        assert record.source_id == scenes.key(item)


def test_write_labeled_cut_off_goes_on_and_gives_the_same_files(scenes, tmp_path):
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    source = _with_faults(scenes)
    expected = labeled.write_labeled(source, folder=whole, prefix="train", num_shards=4)

    def dies_late(item: Item) -> bytes:
        if source.items.index(item) == 8:
            raise KeyboardInterrupt
        return source.read_bytes(item)

    with pytest.raises(KeyboardInterrupt):
        labeled.write_labeled(
            dataclasses.replace(source, read_bytes=dies_late),
            folder=parts,
            prefix="train",
            num_shards=4,
        )
    counts = labeled.write_labeled(source, folder=parts, prefix="train", num_shards=4)
    assert counts.to_json() == expected.to_json()
    assert files.list_folder(parts) == files.list_folder(whole)
    for name in files.list_folder(whole):
        assert files.read_bytes(files.join(parts, name)) == files.read_bytes(
            files.join(whole, name)
        ), name


def test_write_labeled_leaves_out_known_images(scenes, tmp_path):
    labeled.write_labeled(scenes, folder=str(tmp_path / "a"), prefix="val", num_shards=1)
    digests = labeled.open_labeled(str(tmp_path / "a"), "val").digests
    assert len(digests) == 10
    counts = labeled.write_labeled(
        scenes, folder=str(tmp_path / "b"), prefix="train", num_shards=1, known=digests
    )
    assert (counts.written, counts.skipped["duplicate image"]) == (0, 10)


def test_write_labeled_bad_label_file_is_a_reject(scenes, tmp_path):
    def read_labels(item):
        raise RejectedError("broken annotation", "line 3")

    counts = labeled.write_labeled(
        dataclasses.replace(scenes, read_labels=read_labels),
        folder=str(tmp_path),
        prefix="train",
        num_shards=1,
    )
    assert (counts.seen, counts.written, counts.skipped["broken annotation"]) == (10, 0, 10)
