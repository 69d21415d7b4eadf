"""Labelled data as stages see it: classes, splits, parts, leaks, rejects."""

import dataclasses
import json
import re

import numpy as np
import pytest

from kd_tf import config, documents, files, manifests
from kd_tf.data import records
from kd_tf.data.scenes import CLASS_NAMES, render_scene
from kd_tf.data.scenes_png import encode_png
from kd_tf.errors import UserError
from kd_tf.stages.labels import ensure_labeled
from kd_tf.stages.run import Run

NUM = 40


@pytest.fixture
def settings(tmp_path):
    return config.Config(
        workdir=str(tmp_path / "run"), labeled=(f"scenes:train?num={NUM}&size=64",), seed=3
    )


def _labeled(settings, **changes):
    return ensure_labeled(Run(dataclasses.replace(settings, **changes), redo=False))


def _ids(data, **part) -> set[str]:
    rows = data.rows(seed=3, **part)
    return {data.train.source_ids[row] for row in rows}


def test_validation_and_training_are_disjoint_and_complete(settings):
    data = _labeled(settings)
    train = set(data.train.source_ids)
    val = {data.validation().key(item).split("/", 1)[1] for item in data.validation().items}
    assert len(train) == 36 and len(val) == 4
    stored = documents.read_text(files.join(data.folder, "val_ids.txt")).split("\n")[:-1]
    assert len(stored) == 4
    assert {f"train/{name}" for name in stored} & train == set()
    assert {f"train/{name}" for name in stored} | train == {
        f"train/clear/{index:06d}" for index in range(NUM)
    }


def test_parts_are_nested_and_follow_the_seed(settings):
    data = _labeled(settings)
    parts = [_ids(data, fraction=fraction) for fraction in (0.05, 0.1, 0.5, 1.0)]
    assert [len(part) for part in parts] == [2, 4, 18, 36]
    assert parts[0] < parts[1] < parts[2] < parts[3]
    assert _ids(data, number=4) == parts[1]
    assert {data.train.source_ids[row] for row in data.rows(seed=4, number=4)} != parts[1]


def test_small_part_holds_every_class_where_it_can(settings):
    data = _labeled(settings)
    found = set()
    for row in data.rows(seed=3, number=8):
        record = records.from_example(data.train.read(int(row)), class_names=CLASS_NAMES)
        found |= set(record.objects.classes.tolist())
    assert found == set(range(len(CLASS_NAMES)))


def test_ids_file_chooses_the_images_it_lists(settings, tmp_path):
    data = _labeled(settings)
    wanted = [name.split("/", 1)[1] for name in data.train.source_ids[5:8]]
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(wanted))
    assert data.rows(seed=0, ids=str(path)).tolist() == [5, 6, 7]
    path.write_text(documents.read_text(files.join(data.folder, "val_ids.txt")))
    with pytest.raises(UserError, match="not trained on"):
        data.rows(seed=0, ids=str(path))


def test_val_data_that_is_trained_on_is_refused_unless_allowed(settings):
    leaky = {"val_data": "scenes:train?num=3&size=64&name=check"}
    with pytest.raises(UserError, match=r"(?s)3 of the 3 images of --val_data.*check/"):
        _labeled(settings, **leaky)
    data = _labeled(settings, **leaky, allow_leakage="check")
    assert (len(data.train), len(data.validation().items)) == (NUM, 3)


def test_classes_come_from_the_list_or_the_data(settings, tmp_path):
    assert _labeled(settings).class_names == CLASS_NAMES
    with pytest.raises(UserError, match="lists no class, or one of them twice"):
        _labeled(
            settings, classes="disc,ring,disc", drop_classes="", workdir=str(tmp_path / "twice")
        )
    with pytest.raises(UserError, match=r"--drop_classes=.*checker"):
        _labeled(settings, classes="disc,ring")
    path = tmp_path / "names.txt"
    path.write_text("ring\ndisc\n")
    rest = ",".join(name for name in CLASS_NAMES if name not in ("disc", "ring"))
    data = _labeled(settings, classes=str(path), drop_classes=rest, workdir=str(tmp_path / "other"))
    assert data.class_names == data.train.class_names == ("ring", "disc")


@pytest.fixture
def coco(tmp_path):
    """Five images; the third is no image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images, notes = [], []
    for index in range(5):
        pixels, labels = render_scene(seed=0, index=index + 1, size=64)
        content = b"text" if index == 2 else encode_png(pixels)
        (folder / f"{index}.png").write_bytes(content)
        images.append({"id": index, "file_name": f"{index}.png", "height": 64, "width": 64})
        for box, label in zip(labels.boxes.tolist(), labels.classes.tolist(), strict=True):
            notes.append(
                {
                    "id": len(notes),
                    "image_id": index,
                    "category_id": label + 7,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": 1.0,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i + 7, "name": name} for i, name in enumerate(CLASS_NAMES)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return f"coco:{path}?images={folder}"


def test_too_many_unusable_images_stop_the_run_and_are_named(settings, coco):
    with pytest.raises(UserError, match=r"(?s)1 of 5 images cannot be used.*not an image.*/2"):
        _labeled(settings, labeled=(coco,), val_fraction=0.3)


@pytest.mark.parametrize("number", range(5))
def test_repaired_images_are_read_again(settings, coco, tmp_path, number):
    changes = {"labeled": (coco,), "val_fraction": 0.3}
    photos = tmp_path / "photos"
    pixels, _ = render_scene(seed=0, index=3, size=64)
    (photos / "2.png").write_bytes(encode_png(pixels))
    good = (photos / f"{number}.png").read_bytes()
    whole = _labeled(settings, **changes, workdir=str(tmp_path / "whole"))
    # Cut behind its header, or not even that: the latter cannot be chosen for validation.
    for damaged in (good[:200], b"text"):
        (photos / f"{number}.png").write_bytes(damaged)
        with pytest.raises(UserError, match=r"1 of 5 images cannot be used"):
            _labeled(settings, **changes)
    (photos / f"{number}.png").write_bytes(good)
    data = _labeled(settings, **changes)
    assert data.train.source_ids == whole.train.source_ids
    assert [i.original_id for i in data.validation().items] == [
        i.original_id for i in whole.validation().items
    ]


def test_the_images_named_in_the_list_can_be_removed_and_the_run_goes_on(settings, coco, tmp_path):
    (tmp_path / "photos" / "4.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"All 2 of them are named in .*rejected\.txt"):
        _labeled(settings, labeled=(coco,), val_fraction=0.3)
    path = f"{settings.workdir}/labeled/rejected.txt"
    named = [re.search(r"/(\d)", line)[1] for line in documents.read_text(path).splitlines()]
    assert sorted(named) == ["2", "4"]
    for name in named:
        (tmp_path / "photos" / f"{name}.png").unlink()
    content = json.loads((tmp_path / "instances.json").read_text())
    kept = [image for image in content["images"] if str(image["id"]) not in named]
    content["images"] = kept
    content["annotations"] = [n for n in content["annotations"] if str(n["image_id"]) not in named]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    data = _labeled(settings, labeled=(coco,), val_fraction=0.3)
    assert len(data.train) + len(data.validation().items) == 3
    assert not files.exists(path)


def test_unusable_images_are_counted_and_listed_in_the_manifest(settings, coco):
    data = _labeled(settings, labeled=(coco,), val_fraction=0.3, max_bad_fraction=0.2)
    counts = manifests.read(data.folder).counts
    assert (counts.seen, counts.written) == (5, 4)
    assert dict(counts.skipped) == {"not an image": 1}
    assert "/2" in counts.examples["not an image"][0]
    assert len(data.train) + len(data.validation().items) == 4
    boxes = [records.from_example(one, class_names=CLASS_NAMES).objects.boxes for one in data.train]
    assert np.concatenate(boxes).shape[1] == 4
