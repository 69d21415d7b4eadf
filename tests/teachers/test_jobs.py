"""The labelling job: shards, workers, restarts, fusion of several teachers, rejects, duplicates."""

import itertools
import os

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.records import from_example
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import LabelSettings, LabelWriter
from kd_tf.teachers.predict_job import Work, label_predictions, missing_shards
from kd_tf.teachers.predictions import Prediction, from_bytes, read_predictions, to_bytes
from tests.teachers.made import (
    CLASS_NAMES,
    SETTINGS,
    RectangleTeacher,
    contents,
    label,
    labeller,
    made_image,
    made_source,
)


def test_prediction_bytes_round_trip():
    found = Detections(
        np.array([[1.5, 2, 30, 40.25]], np.float32), np.array([0.7], np.float32),
        np.array([3], np.int32),
    )  # fmt: skip
    stored = Prediction(7, "made/ä b.png", 12, 50, 60, "ab" * 32, "jpeg", True, found, 2)
    again = from_bytes(to_bytes(stored))
    for field in ("row", "key", "image_id", "height", "width", "sha256", "format", "reencoded"):
        assert getattr(again, field) == getattr(stored, field)
    np.testing.assert_array_equal(again.detections.boxes, found.boxes)
    np.testing.assert_array_equal(again.detections.scores, found.scores)
    np.testing.assert_array_equal(again.detections.classes, found.classes)
    assert (again.num_outside, again.reason) == (2, "")


def test_labels_hold_every_image_and_detection(tmp_path):
    source = made_source(11)
    counts = label(source, tmp_path, work=Work(num_shards=3, batch_size=4))

    records = RecordSet.open(str(tmp_path / "pseudo"))
    assert records.source_ids == tuple(source.key(item) for item in source.items)
    assert records.class_names == CLASS_NAMES
    assert (counts.seen, counts.written, dict(counts.skipped)) == (11, 11, {})
    for number, serialized in enumerate(records):
        record = from_example(serialized, class_names=CLASS_NAMES)
        assert record.encoded == made_image(number)
        assert (record.height, record.width) == (24 + number % 5, 32 + number % 7)
        assert record.objects.classes.tolist() == [1 - number % 2] * 2
        np.testing.assert_allclose(record.objects.scores, [0.8, 0.2])
        assert record.objects.working.tolist() == [True, False]
        assert record.objects.teachers.tolist() == [0, 0]
        assert record.judged.tolist() == [0, 1]
        x, y = np.random.default_rng(number).integers(0, 12, 2)
        # At most 38 px become 32, so a bound is good to 1.2 px and the ramp.
        np.testing.assert_allclose(record.objects.boxes[0], [x, y, x + 12, y + 10], atol=2.0)


def test_label_predictions_finished_shards_are_not_done_again(tmp_path):
    teacher, source = RectangleTeacher(), made_source(10)
    folder, work = str(tmp_path / "one"), Work(num_shards=5, batch_size=4)
    label_predictions(teacher, source, name="one", folder=folder, work=work)
    assert teacher.num_images == 10
    whole = contents(tmp_path / "one")
    (tmp_path / "one" / "predictions-00003-of-00005.tfrecord").unlink()
    label_predictions(teacher, source, name="one", folder=folder, work=work)
    assert teacher.num_images == 12
    assert contents(tmp_path / "one") == whole
    label_predictions(teacher, source, name="one", folder=folder, work=work)
    assert teacher.num_images == 12


@pytest.mark.parametrize("num_workers", [2, 3])
def test_label_any_number_of_workers_gives_the_same_bytes(tmp_path, num_workers):
    source = made_source(10)
    label(source, tmp_path / "alone", work=Work(num_shards=4, batch_size=4))
    results = [
        label(source, tmp_path / "team", work=Work(4, worker_index=i, num_workers=num_workers))
        for i in range(num_workers)
    ]
    assert results[:-1] == [None] * (num_workers - 1)
    assert (results[-1].seen, results[-1].written) == (10, 10)
    assert contents(tmp_path / "team" / "pseudo") == contents(tmp_path / "alone" / "pseudo")


def test_label_rerun_with_another_number_of_workers_completes(tmp_path):
    source = made_source(10)
    assert label(source, tmp_path, work=Work(5, worker_index=1, num_workers=3)) is None
    assert missing_shards(str(tmp_path / "predictions" / "one"), num_shards=5) == [0, 2, 3]
    assert label(source, tmp_path, work=Work(5)).written == 10
    label(source, tmp_path / "alone", work=Work(num_shards=5))
    assert contents(tmp_path / "pseudo") == contents(tmp_path / "alone" / "pseudo")


def test_label_more_shards_than_images_gives_empty_shards(tmp_path):
    counts = label(made_source(2), tmp_path, work=Work(num_shards=5))
    assert counts.written == 2
    assert len(RecordSet.open(str(tmp_path / "pseudo"))) == 2


def test_label_two_teachers_with_disjoint_classes_give_the_union(tmp_path):
    source, work = made_source(6), Work(num_shards=2, batch_size=4)
    names = ("light", "night")
    teachers = {"a": RectangleTeacher(("light",)), "b": RectangleTeacher(("unused", "night"))}
    for name, teacher in teachers.items():
        label_predictions(teacher, source, name=name, folder=str(tmp_path / name), work=work)
    labellers = [
        labeller(tmp_path / "a", class_map=(0,), weights=(1.0, 0.0)),
        labeller(tmp_path / "b", class_map=(-1, 1), weights=(0.0, 1.0)),
    ]
    settings = LabelSettings(names, FusionSettings("wbf"), np.array([0.5, 0.9]))
    LabelWriter(
        source, labellers, folder=str(tmp_path / "pseudo"), work=work, settings=settings
    ).finish()
    for number, serialized in enumerate(RecordSet.open(str(tmp_path / "pseudo"))):
        record = from_example(serialized, class_names=names)
        bright = number % 2
        # Fused over the one teacher that knows the class, a score stays what it was.
        np.testing.assert_allclose(record.objects.scores, [0.8, 0.2], atol=1e-6)
        assert record.objects.classes.tolist() == [0 if bright else 1] * 2
        assert record.objects.teachers.tolist() == [0 if bright else 1] * 2
        assert record.objects.working.tolist() == [bool(bright), False]
        assert record.judged.tolist() == [0, 1]


def test_labels_judge_only_what_a_teacher_knows(tmp_path):
    source, work = made_source(2), Work(num_shards=1)
    label_predictions(
        RectangleTeacher(("bright",)), source, name="a", folder=str(tmp_path), work=work
    )
    settings = LabelSettings(("x", "bright"), FusionSettings(), np.array([0.5, 0.5]))
    one = labeller(tmp_path, class_map=(1,), weights=(0.0, 1.0))
    LabelWriter(source, [one], folder=str(tmp_path / "out"), work=work, settings=settings).finish()
    for serialized in RecordSet.open(str(tmp_path / "out")):
        assert from_example(serialized, class_names=("x", "bright")).judged.tolist() == [1]


def test_label_changed_thresholds_ask_no_teacher_again(tmp_path):
    source, work, teacher = made_source(4), Work(num_shards=2), RectangleTeacher()
    label(source, tmp_path, work=work, teacher=teacher)
    settings = LabelSettings(CLASS_NAMES, FusionSettings(), np.array([0.1, 0.1]))
    one = labeller(tmp_path / "predictions" / "one")
    LabelWriter(
        source, [one], folder=str(tmp_path / "again"), work=work, settings=settings
    ).finish()
    record = from_example(RecordSet.open(str(tmp_path / "again")).read(0), class_names=CLASS_NAMES)
    assert record.objects.working.tolist() == [True, True]
    assert teacher.num_images == 4


@pytest.mark.parametrize("num_workers", [1, 2])
def test_label_same_bytes_twice_are_kept_once(tmp_path, num_workers):
    # Image 1 again within its shard, and in a later one.
    source = made_source(12, bad={3: made_image(1), 9: made_image(1), 11: made_image(0)})
    for index in range(num_workers):
        work = Work(3, worker_index=index, num_workers=num_workers)
        counts = label(source, tmp_path, work=work)
    assert (counts.seen, counts.written) == (12, 9)
    assert counts.skipped["duplicate image"] == 3
    assert "made/00009.png: same bytes as made/00001.png" in counts.examples["duplicate image"]
    ids = RecordSet.open(str(tmp_path / "pseudo")).source_ids
    assert ids == tuple(f"made/{i:05d}.png" for i in range(12) if i not in (3, 9, 11))
    before = contents(tmp_path / "pseudo")
    assert label(source, tmp_path, work=Work(3)).written == 9
    assert contents(tmp_path / "pseudo") == before


def test_label_killed_between_index_and_shard_is_repaired(tmp_path):
    source = made_source(8, bad={6: made_image(1)})
    label(source, tmp_path, work=Work(num_shards=2))
    before = contents(tmp_path / "pseudo")
    # The shard still has the duplicate, its index is the new one.
    (tmp_path / "pseudo" / "pseudo-00001-of-00002.tfrecord").unlink()
    writer = LabelWriter(
        source, [labeller(tmp_path / "predictions" / "one")], folder=str(tmp_path / "pseudo"),
        work=Work(2), settings=SETTINGS,
    )  # fmt: skip
    writer.write(1)
    index = "pseudo-00001-of-00002.tfrecord.idx"
    (tmp_path / "pseudo" / index).write_bytes(before[index])
    writer.finish()
    assert contents(tmp_path / "pseudo") == before


def test_label_predictions_other_listing_is_refused(tmp_path):
    work = Work(num_shards=2)
    label_predictions(
        RectangleTeacher(), made_source(4), name="one", folder=str(tmp_path), work=work
    )
    for other in (made_source(5), made_source(3), made_source(4, name="other")):
        with pytest.raises(UserError, match="froze another list of images"):
            label_predictions(
                RectangleTeacher(), other, name="one", folder=str(tmp_path), work=work
            )


def test_writer_changed_image_is_refused(tmp_path):
    work = Work(num_shards=1)
    label_predictions(
        RectangleTeacher(), made_source(3), name="one", folder=str(tmp_path / "p"), work=work
    )
    changed = made_source(3, bad={1: made_image(77)})
    with pytest.raises(UserError, match=r"made/00001\.png changed after"):
        LabelWriter(
            changed, [labeller(tmp_path / "p")], folder=str(tmp_path / "out"), work=work,
            settings=SETTINGS,
        ).finish()  # fmt: skip
    assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".tfrecord")]


def test_label_failing_teacher_leaves_no_half_shard(tmp_path):
    class Failing(RectangleTeacher):
        def detect(self, images):
            if self.num_images >= 8:
                raise RuntimeError("out of patience")
            return super().detect(images)

    source = made_source(12)
    with pytest.raises(UserError, match=r"'one' failed on image made/00008\.png"):
        label(source, tmp_path, work=Work(3, batch_size=4), teacher=Failing())
    folder = tmp_path / "predictions" / "one"
    shards = [name for name in os.listdir(folder) if ".tfrecord" in name and ".idx" not in name]
    assert sorted(shards) == [f"predictions-0000{i}-of-00003.tfrecord" for i in (0, 1)]
    assert label(source, tmp_path, work=Work(3, batch_size=4)).written == 12


def test_label_in_memory_file_system(tmp_path):
    source, work = made_source(3), Work(num_shards=2)
    folder = "ram://test_jobs"
    label_predictions(RectangleTeacher(), source, name="a", folder=f"{folder}/p", work=work)
    counts = LabelWriter(
        source, [labeller(f"{folder}/p")], folder=f"{folder}/out", work=work, settings=SETTINGS
    ).finish()
    assert counts.written == 3
    assert len(RecordSet.open(f"{folder}/out")) == 3
    tf.io.gfile.rmtree(folder)


def test_read_predictions_come_in_listing_order(tmp_path):
    label_predictions(
        RectangleTeacher(),
        made_source(7),
        name="a",
        folder=str(tmp_path),
        work=Work(2, batch_size=3),
    )
    paths = [tmp_path / f"predictions-0000{i}-of-00002.tfrecord" for i in range(2)]
    rows = [p.row for p in itertools.chain(*(read_predictions(str(path)) for path in paths))]
    assert rows == list(range(7))
