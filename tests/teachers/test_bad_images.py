"""Unusable images and damaged shards in the labelling job: counted, refused, read again."""

import dataclasses

import pytest

from kd_tf.data.items import Reject
from kd_tf.data.shards import RecordSet, write_shard
from kd_tf.errors import UserError
from kd_tf.manifests import Counts, Manifest, write
from kd_tf.teachers.label_job import remove_orphans
from kd_tf.teachers.predict_job import Work, forget_repaired, missing_shards
from kd_tf.teachers.predictions import read_predictions, to_bytes
from tests.teachers.made import RectangleTeacher, contents, label, made_source

SHARD_OF_ONE = "predictions-00000-of-00001.tfrecord"


def test_label_bad_images_are_counted_by_reason(tmp_path):
    source = made_source(10, bad={2: b"", 7: b"missing"})
    counts = label(source, tmp_path, work=Work(num_shards=2, max_bad_fraction=0.2))
    assert (counts.seen, counts.written) == (10, 8)
    assert dict(counts.skipped) == {"empty file": 1, "missing file": 1}
    assert counts.examples["empty file"] == ["made/00002.png: 0 bytes"]
    assert len(RecordSet.open(str(tmp_path / "pseudo"))) == 8


def test_label_too_many_bad_images_stop_the_job_with_the_first(tmp_path):
    source = made_source(40, bad=dict.fromkeys(range(20, 33), b""))
    with pytest.raises(UserError, match=r"5 of 40 images .* more than 10.00%") as caught:
        label(source, tmp_path, work=Work(num_shards=4, max_bad_fraction=0.1, batch_size=4))
    assert "made/00020.png: 0 bytes (empty file)" in str(caught.value)
    # All 13 are named, also those that the teacher had not come to.
    listed = (tmp_path / "predictions" / "one" / "rejected.txt").read_text().splitlines()
    assert listed == [f"made/{row:05d}.png: 0 bytes (empty file)" for row in range(20, 33)]
    assert "All 13 of them are named in" in str(caught.value)
    # Shards before the trouble are finished, the one in trouble is not there.
    done = missing_shards(str(tmp_path / "predictions" / "one"), num_shards=4)
    assert done == [2, 3]


def test_label_images_left_out_by_the_listing_count_as_bad(tmp_path):
    rejects = tuple(Reject(f"record {i}", "damaged record") for i in range(4))
    source = dataclasses.replace(made_source(6, bad={5: b""}), rejects=rejects)
    teacher, predictions = RectangleTeacher(), tmp_path / "predictions" / "one"
    with pytest.raises(UserError, match=r"(?s)4 of 10 images .*4 x damaged record.*record 0"):
        label(source, tmp_path, work=Work(1, max_bad_fraction=0.39), teacher=teacher)
    assert teacher.num_images == 0
    with pytest.raises(UserError, match=r"5 of 10 images .*1 x empty file"):
        label(source, tmp_path, work=Work(1, max_bad_fraction=0.4), teacher=teacher)
    counts = label(source, tmp_path, work=Work(1, max_bad_fraction=0.5), teacher=teacher)
    assert (counts.seen, counts.written, counts.skipped.total()) == (10, 5, 5)
    assert len(list(read_predictions(str(predictions / SHARD_OF_ONE)))) == 6


@pytest.mark.parametrize(
    "kept", [pytest.param((0, 1), id="cut"), pytest.param((0, 2, 1), id="other_order"),
             pytest.param((0, 1, 2, 2), id="twice")],
)  # fmt: skip
def test_label_shard_without_exactly_its_rows_is_refused(tmp_path, kept):
    source, folder = made_source(3), tmp_path / "predictions" / "one"
    label(source, tmp_path, work=Work(1))
    stored = list(read_predictions(str(folder / SHARD_OF_ONE)))
    write_shard(
        str(folder), "predictions", shard=0, num_shards=1,
        records=[to_bytes(stored[row]) for row in kept],
    )  # fmt: skip
    with pytest.raises(UserError, match=rf"{SHARD_OF_ONE} does not hold its 3 images.*Remove it"):
        label(source, tmp_path, work=Work(1))
    (folder / SHARD_OF_ONE).unlink()
    assert label(source, tmp_path, work=Work(1)).written == 3


def test_finished_predictions_are_kept_whatever_is_counted_later(tmp_path):
    source, folder = made_source(10, bad={2: b""}), tmp_path / "predictions" / "one"
    label(source, tmp_path, work=Work(2, max_bad_fraction=0.2))
    before = contents(folder)
    with pytest.raises(UserError, match="1 of 10 images cannot be used"):
        label(source, tmp_path, work=Work(2, max_bad_fraction=0.05))
    named = (folder / "rejected.txt").read_text()
    assert named == "made/00002.png: 0 bytes (empty file)\n"
    (folder / "rejected.txt").unlink()
    assert contents(folder) == before
    write(str(folder), Manifest("predictions", {}))
    forget_repaired(made_source(10), folder=str(folder), num_shards=2)
    assert missing_shards(str(folder), num_shards=2) == []


def _label_shared(source, folder, *, num_workers) -> Counts | None:
    for index in range(num_workers):
        work = Work(4, index, num_workers, batch_size=4, max_bad_fraction=0.1)
        counts = label(source, folder, work=work)
    return counts


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize(
    "bad", [pytest.param((0, 1, 9, 20, 21, 22), id="early"),
            pytest.param((0, 9, 12, 20, 29), id="late")],
)  # fmt: skip
def test_label_goes_on_with_repaired_images(tmp_path, num_workers, bad):
    damaged = made_source(40, bad=dict.fromkeys(bad, b""))
    with pytest.raises(UserError, match=r"5 of 40 images"):
        _label_shared(damaged, tmp_path / "team", num_workers=num_workers)
    folder = str(tmp_path / "team" / "predictions" / "one")
    for source, is_kept in ((damaged, True), (made_source(40), False)):
        before = missing_shards(folder, num_shards=4)
        forget_repaired(source, folder=folder, num_shards=4)
        assert (missing_shards(folder, num_shards=4) == before) == is_kept
    remove_orphans(str(tmp_path / "team" / "pseudo"), answers=[folder], num_shards=4)
    assert _label_shared(made_source(40), tmp_path / "team", num_workers=num_workers).written == 40
    _label_shared(made_source(40), tmp_path / "whole", num_workers=1)
    for part in ("pseudo", "predictions/one"):
        assert contents(tmp_path / "team" / part) == contents(tmp_path / "whole" / part)
