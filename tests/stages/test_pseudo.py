"""Stage pseudo through its settings, with teachers that know the truth."""

import dataclasses

import numpy as np
import pytest

from kd_tf import documents, files, manifests, stages
from kd_tf.data import records
from kd_tf.data.scenes import CLASS_NAMES, render_scene, scene_labels
from kd_tf.data.scenes_png import encode_png
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError
from tests.stages.oracle import NUM

HALF, REST = CLASS_NAMES[:4], CLASS_NAMES[4:]


def _pseudo(settings) -> list[records.Record]:
    stages.run(settings)
    found = RecordSet.open(files.join(settings.workdir, "pseudo"))
    return [records.from_example(one, class_names=CLASS_NAMES) for one in found]


def test_labels_are_what_the_teacher_said(settings):
    for index, record in enumerate(_pseudo(settings)):
        truth = scene_labels(seed=0, index=index, size=64, split="unlabeled")
        working = record.objects.working
        assert working.sum() == len(truth.boxes)
        order = np.lexsort(record.objects.boxes[working].T)
        expected = np.lexsort(truth.boxes.T)
        np.testing.assert_allclose(
            record.objects.boxes[working][order], truth.boxes[expected], atol=1e-3
        )
        assert record.objects.classes[working][order].tolist() == truth.classes[expected].tolist()


def test_two_teachers_of_disjoint_classes_label_the_union(settings):
    half = "python:tests.stages.oracle:build?name=half&classes=" + "+".join(HALF)
    rest = "python:tests.stages.oracle:build?name=rest&classes=" + "+".join(REST)
    both = dataclasses.replace(settings, teacher=(half, rest), calibration="none")
    for index, record in enumerate(_pseudo(both)):
        truth = scene_labels(seed=0, index=index, size=64, split="unlabeled")
        working = record.objects.working
        assert sorted(record.objects.classes[working]) == sorted(truth.classes)
        # Known to one of two teachers: fusion leaves the score as it was.
        np.testing.assert_allclose(record.objects.scores[working], 0.9, atol=1e-5)
        assert record.judged is None or record.judged.tolist() == list(range(len(CLASS_NAMES)))


def test_classes_no_teacher_knows_are_not_judged(settings):
    half = "python:tests.stages.oracle:build?name=half&classes=" + "+".join(HALF)
    for record in _pseudo(dataclasses.replace(settings, teacher=(half,))):
        assert record.judged.tolist() == [0, 1, 2, 3]


def test_auto_thresholds_lie_between_right_and_wrong(settings):
    wrong = "python:tests.stages.oracle:build?name=all&wrong=3"
    auto = dataclasses.replace(settings, teacher=(wrong,), score_threshold="auto")
    _pseudo(auto)
    found = documents.read_json(files.join(settings.workdir, "pseudo", "thresholds.json"))
    assert set(found) == set(CLASS_NAMES)
    # Right detections score .9, false ones .45, both of class 0.
    assert 0.45 < found[CLASS_NAMES[0]]["score"] < 0.9
    assert found[CLASS_NAMES[0]]["ignore"] < found[CLASS_NAMES[0]]["score"]


def test_adding_a_teacher_does_not_ask_the_other_again(settings):
    _pseudo(settings)
    path = files.join(settings.workdir, "predictions", "all", "manifest.json")
    before = files.read_bytes(path)
    more = dataclasses.replace(
        settings,
        teacher=(*settings.teacher, "python:tests.stages.oracle:build?name=more&score=0.7"),
        calibration="none",
    )
    with pytest.raises(UserError, match="teacher: was"):
        stages.run(more)
    _pseudo(dataclasses.replace(more, overwrite=True))
    assert files.read_bytes(path) == before
    table = documents.read_json(files.join(settings.workdir, "pseudo", "agreement.json"))
    assert table["names"] == ["all", "more"] and table["matrix"][0][1] == 1.0


def test_without_unlabeled_the_training_images_are_labelled(settings):
    found = _pseudo(dataclasses.replace(settings, unlabeled=()))
    # Half of the labelled images choose checkpoints, so they are not labelled for training.
    assert len(found) == NUM // 2


def test_teacher_below_the_wanted_ap_is_refused(settings):
    blind = dataclasses.replace(
        settings, teacher=("python:tests.stages.oracle:build?wrong=5&score=0.0&name=bad",),
        min_teacher_ap=0.99,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"Teacher bad has AP 0\.\d+.*min_teacher_ap=0.99"):
        stages.run(blind)
    assert not manifests.is_complete(files.join(settings.workdir, "pseudo"))


def test_classes_no_teacher_knows_decide_about_no_teacher_and_no_threshold(settings):
    half = "python:tests.stages.oracle:build?name=half&classes=" + "+".join(HALF)
    _pseudo(
        dataclasses.replace(settings, teacher=(half,), score_threshold="auto", min_teacher_ap=0.99)
    )
    found = documents.read_json(files.join(settings.workdir, "pseudo", "thresholds.json"))
    assert all(found[name]["why"].startswith("F1 1.000 on ") for name in HALF)
    assert all(" on 0 objects" in found[name]["why"] for name in REST)


def test_a_class_that_maps_nowhere_is_refused_unless_dropped(settings):
    few = dataclasses.replace(settings, labeled=(f"scenes:train?num={NUM}&size=64&classes=disc",))
    with pytest.raises(UserError, match="square"):
        stages.run(few)
    stages.run(dataclasses.replace(few, drop_unknown_classes=True))
    found = RecordSet.open(files.join(settings.workdir, "pseudo"))
    assert found.class_names == ("disc",)


def test_two_workers_finish_one_job(settings):
    first = dataclasses.replace(settings, num_workers=2, worker_index=0)
    stages.run(first)
    assert not manifests.is_complete(files.join(settings.workdir, "pseudo"))
    assert len(_pseudo(dataclasses.replace(first, worker_index=1))) == NUM


@pytest.mark.parametrize("num_workers", [1, 2])
def test_repaired_images_are_labelled_by_the_next_run(settings, tmp_path, num_workers):
    photos = tmp_path / "photos"
    photos.mkdir()
    good = {}
    for index in range(NUM):
        pixels, _ = render_scene(seed=0, index=index, size=64, split="unlabeled")
        good[photos / f"{index:02d}.png"] = encode_png(pixels)
    for number, (path, content) in enumerate(good.items()):
        path.write_bytes(b"text" if number in (7, 20) else content)
    told = dataclasses.replace(settings, unlabeled=(f"images:{photos}",), num_workers=num_workers)

    def run_all() -> None:
        for index in range(num_workers):
            stages.run(dataclasses.replace(told, worker_index=index, max_bad_fraction=0.05))

    with pytest.raises(UserError, match="2 of 24 images cannot be used"):
        run_all()
    for path, content in good.items():
        path.write_bytes(content)
    run_all()
    found = RecordSet.open(files.join(settings.workdir, "pseudo"))
    assert [name.rsplit("/", 1)[1] for name in found.source_ids] == [path.name for path in good]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_images_named_in_the_list_can_be_removed_and_the_run_goes_on(
    settings, tmp_path, num_workers
):
    photos = tmp_path / "photos"
    photos.mkdir()
    good = {}
    for index in range(NUM):
        pixels, _ = render_scene(seed=0, index=index, size=64, split="unlabeled")
        good[photos / f"{index:02d}.png"] = encode_png(pixels)
    for number, (path, content) in enumerate(good.items()):
        path.write_bytes(b"text" if number in (7, 20) else content)
    told = dataclasses.replace(settings, unlabeled=(f"images:{photos}",), num_workers=num_workers)

    def run_all() -> None:
        for index in range(num_workers):
            stages.run(dataclasses.replace(told, worker_index=index, max_bad_fraction=0.05))

    with pytest.raises(UserError, match="2 of 24 images cannot be used"):
        run_all()
    (listed,) = (tmp_path / settings.workdir / "predictions").glob("*/rejected.txt")
    named = [photos / line.split(": ")[0].rsplit("/", 1)[1] for line in listed.open()]
    assert [path.name for path in named] == ["07.png", "20.png"]
    for path in named:
        path.unlink()
    run_all()
    found = RecordSet.open(files.join(settings.workdir, "pseudo"))
    left = [path.name for path in good if path not in named]
    assert [name.rsplit("/", 1)[1] for name in found.source_ids] == left
    assert not listed.exists()


def test_labels_leave_as_coco_and_yolo(settings):
    stages.run(dataclasses.replace(settings, also_write="coco,yolo"))
    found = documents.read_json(files.join(settings.workdir, "pseudo", "coco.json"))
    truth = sum(
        len(scene_labels(seed=0, index=i, size=64, split="unlabeled").boxes) for i in range(NUM)
    )
    assert len(found["images"]) == NUM and len(found["annotations"]) == truth


def test_answers_that_were_removed_are_asked_for_and_labels_made_anew(settings):
    both = dataclasses.replace(settings, score_threshold="auto")
    before = [record.source_id for record in _pseudo(both)]
    pseudo = files.join(settings.workdir, "pseudo")
    hashed = manifests.identity_hash(pseudo)
    # The labels of an unfinished stage: its manifest is written last.
    files.remove(files.join(pseudo, "manifest.json"))
    files.remove(files.join(settings.workdir, "predictions"))
    stale = files.join(pseudo, "pseudo-00001-of-00003.tfrecord")
    files.write_bytes(stale, b"made of other predictions")
    assert [record.source_id for record in _pseudo(both)] == before
    assert manifests.identity_hash(pseudo) == hashed
    # The labels of a finished stage.
    files.remove(files.join(settings.workdir, "predictions"))
    with pytest.raises(UserError, match=r"predictions all: .*not there"):
        stages.run(both)
    assert len(_pseudo(dataclasses.replace(both, overwrite=True))) == NUM


def test_a_teacher_that_fails_at_once_binds_no_settings(settings):
    broken = dataclasses.replace(settings, teacher=("python:tests.stages.oracle:build_broken",))
    with pytest.raises(UserError, match="broken"):
        stages.run(broken)
    assert len(_pseudo(dataclasses.replace(settings, fusion_iou=0.4))) == NUM


def _results(tmp_path, *, indices) -> str:
    """What a perfect teacher of another framework would have written about training scenes."""
    told = []
    for index in indices:
        truth = scene_labels(seed=0, index=index, size=64, split="train")
        for (x1, y1, x2, y2), kind in zip(truth.boxes.tolist(), truth.classes, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            told.append({"image_id": index, "category_id": int(kind), "bbox": box, "score": 0.9})
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES)]
    files.write_json(str(tmp_path / "results.json"), told)
    files.write_json(str(tmp_path / "categories.json"), {"categories": categories})
    return f"results:{tmp_path}/results.json?categories={tmp_path}/categories.json"


@pytest.mark.parametrize("threshold", ["0.5", "auto"])
def test_results_of_all_labelled_images_label_those_for_training(settings, tmp_path, threshold):
    spec = _results(tmp_path, indices=range(NUM))
    told = dataclasses.replace(settings, unlabeled=(), teacher=(spec,), score_threshold=threshold)
    found = _pseudo(told)
    assert len(found) == NUM // 2
    for record in found:
        index = int(record.source_id.rsplit("/", 1)[1])
        truth = scene_labels(seed=0, index=index, size=64, split="train")
        assert record.objects.working.sum() == len(truth.boxes)


def test_results_for_unknown_images_stop_the_job_before_it_writes(settings, tmp_path):
    spec = _results(tmp_path, indices=range(NUM + 2))
    told = dataclasses.replace(settings, unlabeled=(), teacher=(spec,))
    with pytest.raises(UserError, match=r"results.json.* for 2 images .*24, 25"):
        stages.run(told)
    found = files.list_folder(files.join(settings.workdir, "predictions", "results"))
    assert not [name for name in found if name.endswith(".tfrecord")]


def test_classes_that_do_not_fit_are_refused_before_an_image_is_labelled(settings):
    few = dataclasses.replace(settings, labeled=(f"scenes:train?num={NUM}&size=64&classes=disc",))
    with pytest.raises(UserError, match="square"):
        stages.run(few)
    found = files.list_folder(files.join(settings.workdir, "predictions", "all"))
    assert not [name for name in found if name.endswith(".tfrecord")]


def test_dry_run_of_an_empty_workdir_says_what_would_run(settings):
    auto = dataclasses.replace(settings, score_threshold="auto", dry_run=True)
    for unlabeled in (settings.unlabeled, ()):
        stages.run(dataclasses.replace(auto, unlabeled=unlabeled))
    assert not files.exists(settings.workdir)


def test_rules_that_were_edited_are_read_again(settings, tmp_path):
    path = str(tmp_path / "rules.txt")
    files.write_text(path, "disc=ring")
    ruled = dataclasses.replace(settings, class_map=path)
    stages.run(ruled)
    files.write_text(path, "disc=star")
    with pytest.raises(UserError, match="file of --class_map: was"):
        stages.run(ruled)
