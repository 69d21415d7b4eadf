"""COCO files: exact against pycocotools, and small in memory."""

import gc
import json
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO

from kd_tf import files
from kd_tf.data.sources.instances_json import read_instances
from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import box, open_spec

PNG = made.encode(made.colours())


def test_open_coco_on_real_photos_agrees_with_pycocotools(real_data):
    # The independent reader is pycocotools 2.0.11.
    folder = real_data / "coco_tiny"
    num_boxes = num_crowd = 0
    for split in ("train2017", "val2017"):
        path = folder / "annotations" / f"instances_{split}.json"
        source = open_spec(f"coco:{path}?images={folder}/{split}")
        theirs = COCO(str(path))
        assert source.category_ids == tuple(sorted(theirs.getCatIds()))
        assert [item.image_id for item in source.items] == sorted(theirs.getImgIds())
        for item in source.items:
            labels, rejects = source.read_labels(item)
            # They list crowds last; ours keep the order of the file, as getAnnIds does.
            notes = theirs.loadAnns(theirs.getAnnIds(imgIds=[item.image_id]))
            xywh = np.array([note["bbox"] for note in notes]).reshape(-1, 4)
            xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            np.testing.assert_allclose(labels.boxes, xyxy, atol=0.05, err_msg=str(item))
            ids = [source.category_ids[index] for index in labels.classes]
            assert ids == [note["category_id"] for note in notes]
            assert labels.is_crowd.tolist() == [bool(note["iscrowd"]) for note in notes]
            np.testing.assert_allclose(labels.areas, [n["area"] for n in notes], rtol=1e-5)
            assert rejects == []
            num_boxes += len(notes)
            num_crowd += int(labels.is_crowd.sum())
    assert (len(source.items), num_crowd) == (50, 10)
    assert num_boxes > 700


def test_open_coco_keeps_sparse_ids_crowds_and_order(tmp_path):
    notes = [
        box(id=5, category_id=90, bbox=[0, 0, 4, 4], area=9),
        box(id=0, category_id=3, iscrowd=1),
        box(id=2, category_id=90, bbox=[1, 1, 2, 2], area=0),
    ]
    source = open_spec(made.coco(tmp_path, annotations=notes))
    assert source.class_names == ("cat", "dog")
    assert source.category_ids == (3, 90)
    assert source.key(source.items[0]) == "set/7"
    labels, _ = source.read_labels(source.items[0])
    assert labels.boxes.tolist() == [[0, 0, 4, 4], [1, 2, 11, 7], [1, 1, 3, 3]]
    assert labels.classes.tolist() == [1, 0, 1]
    assert labels.is_crowd.tolist() == [False, True, False]
    assert labels.areas.tolist() == [9, 50, 4]  # a stated area of 0 is none
    assert labels.judged is None


def test_open_coco_lists_images_by_id_with_and_without_boxes(tmp_path):
    images = [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 40} for n in (9, 2, 7)]
    spec = made.coco(tmp_path, images=images, files={f"{n}.png": PNG for n in (9, 2, 7)})
    source = open_spec(spec)
    assert [item.image_id for item in source.items] == [2, 7, 9]
    assert [len(source.read_labels(item)[0].boxes) for item in source.items] == [0, 1, 0]
    assert source.read_bytes(source.items[2]) == PNG


def test_open_coco_without_annotations_is_unlabelled(tmp_path):
    spec = made.coco(tmp_path)
    path = tmp_path / "instances.json"
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    source = open_spec(spec)
    assert source.read_labels is None
    assert source.class_names == ()
    assert len(source.items) == 1


def test_fingerprint_follows_the_annotations_and_not_the_folder(tmp_path):
    same = [open_spec(made.coco(tmp_path / name)).fingerprint for name in ("a", "b")]
    other = open_spec(made.coco(tmp_path / "c", annotations=[box(bbox=[1, 2, 10, 6])])).fingerprint
    assert same[0] == same[1] != other


@pytest.mark.parametrize(
    "categories",
    [
        pytest.param([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], id="same_id_twice"),
        pytest.param([{"id": "one", "name": "a"}], id="id_is_a_word"),
        pytest.param([{"id": 1}], id="no_name"),
    ],
)
def test_open_coco_refuses_bad_categories(tmp_path, categories):
    with pytest.raises(UserError, match="category"):
        open_spec(made.coco(tmp_path, categories=categories))


def test_read_instances_keeps_nothing_of_an_annotation_that_stands_elsewhere(tmp_path):
    path = tmp_path / "x.json"
    image = {"id": 7, "file_name": "a.png"}
    content = {"info": {"sample": box(id=99)}, "images": [image], "annotations": [box(id=4)]}
    path.write_text(json.dumps(content))
    assert read_instances(str(path)).annotations.ids.tolist() == [4]


def test_100_000_annotations_take_less_than_1_kb_an_image(tmp_path):
    num_images, num_boxes = 20_000, 100_000
    spec = made.coco(tmp_path)
    polygon = [[1.5] * 6]
    image = '{"id": %d, "file_name": "%012d.jpg", "height": 480, "width": 640}'
    note = json.dumps(box(id=-5, image_id=-6, segmentation=polygon))
    note = note.replace("-5", "%d").replace("-6", "%d")
    images = ", ".join(image % (3 * n, n) for n in range(num_images))
    notes = ", ".join(note % (n, 3 * (n * 7919 % num_images)) for n in range(num_boxes))
    categories = '{"id": 3, "name": "cat"}'
    text = f'{{"images": [{images}], "categories": [{categories}], "annotations": [{notes}]}}'
    (tmp_path / "instances.json").write_text(text)
    del images, notes
    gc.collect()
    tracemalloc.start()
    source = open_spec(spec)
    gc.collect()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.items) == num_images
    assert kept / num_images < 1000  # 540 measured
    # While reading: the file, twice (bytes and text), and less than 1 KB an image beside it.
    assert (peak - 2 * len(text)) / num_images < 1000  # 890 measured


def test_open_coco_on_a_store_that_is_no_local_disk(tmp_path):
    spec = made.coco(tmp_path)
    for name in ("instances.json", "images/a.png"):
        files.copy(str(tmp_path / name), f"ram://coco/{name}")
    source = open_spec(spec.replace(str(tmp_path), "ram://coco"))
    assert source.read_bytes(source.items[0]) == PNG
    assert source.read_labels(source.items[0])[0].boxes.tolist() == [[1, 2, 11, 7]]
