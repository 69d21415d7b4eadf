"""COCO files of other tools: what can be understood is, and every box is counted."""

import json
import math

import numpy as np
import pytest

from kd_tf.data.labeled import write_labeled
from kd_tf.data.records import from_example
from kd_tf.data.rejects import check_fraction, lost_boxes
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import box, labels_and_reasons, open_spec

# The box [1, 2, 10, 5] of `made.box` as xyxy.
XYXY = [[1, 2, 11, 7]]
SQUARE = [[1, 2, 11, 2, 11, 7, 1, 7]]
NAN = math.nan


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"category_id": "3"}, id="category_id_as_text"),
        pytest.param({"category_id": 3.0}, id="category_id_as_float"),
        pytest.param({"image_id": 7.0}, id="image_id_as_float"),
        pytest.param({"image_id": " 7 "}, id="image_id_as_text"),
        pytest.param({"bbox": ["1", "2.0", "1e1", 5]}, id="numbers_as_text"),
        pytest.param({"id": "one"}, id="annotation_id_as_word"),
        pytest.param({"bbox": None, "segmentation": SQUARE}, id="polygon_without_bbox"),
        pytest.param({"bbox": [], "segmentation": SQUARE}, id="polygon_with_empty_bbox"),
        pytest.param({"bbox": None, "segmentation": SQUARE[0]}, id="polygon_not_in_a_list"),
        pytest.param(
            {"bbox": None, "segmentation": [[1, 2, 6, 7, 1, 7], [6, 3, 11, 3, 6, 7]]},
            id="box_around_several_polygons",
        ),
        pytest.param({"iscrowd": "0"}, id="iscrowd_0_as_text"),
        pytest.param({"iscrowd": "false"}, id="iscrowd_false_as_text"),
        pytest.param({"iscrowd": False}, id="iscrowd_false"),
        pytest.param({"iscrowd": None}, id="iscrowd_null"),
        pytest.param({"area": "big"}, id="area_as_word"),
    ],
)
def test_annotation_is_understood(tmp_path, changes):
    labels, reasons = labels_and_reasons(made.coco(tmp_path, annotations=[box(**changes)]))
    np.testing.assert_array_equal(labels.boxes, XYXY)
    assert (labels.classes.tolist(), labels.is_crowd.tolist(), reasons) == ([0], [False], [])
    assert labels.judged is None


def test_mask_without_bbox_gives_its_box(tmp_path):
    # Column by column, 24 high: rows 2 to 6 of columns 1 to 10.
    counts = [24 + 2, *([5, 19] * 9), 5, 24 * 29 + 17]
    mask = {"size": [24, 40], "counts": counts}
    annotation = box(bbox=None, segmentation=mask, iscrowd=1)
    labels, reasons = labels_and_reasons(made.coco(tmp_path, annotations=[annotation]))
    np.testing.assert_array_equal(labels.boxes, XYXY)
    assert (labels.is_crowd.tolist(), reasons) == ([True], [])


@pytest.mark.parametrize("crowd", [1, "1", True, "true"], ids=str)
def test_crowd_is_understood(tmp_path, crowd):
    labels, _ = labels_and_reasons(made.coco(tmp_path, annotations=[box(iscrowd=crowd)]))
    assert labels.is_crowd.tolist() == [True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"iscrowd": [0]}, "bad annotation", id="iscrowd_list"),
        pytest.param({"iscrowd": NAN}, "bad annotation", id="iscrowd_nan"),
        pytest.param({"iscrowd": "maybe"}, "bad annotation", id="iscrowd_word"),
        pytest.param({"iscrowd": 2}, "bad annotation", id="iscrowd_2"),
        pytest.param({"category_id": "cat"}, "bad annotation", id="category_id_word"),
        pytest.param({"category_id": None}, "bad annotation", id="category_id_null"),
        pytest.param({"category_id": 3.5}, "bad annotation", id="category_id_fraction"),
        pytest.param({"category_id": True}, "bad annotation", id="category_id_true"),
        pytest.param({"category_id": 10**400}, "bad annotation", id="category_id_of_401_digits"),
        pytest.param({"bbox": None}, "box not finite", id="no_bbox_and_no_polygon"),
        pytest.param({"bbox": {"x": 1}}, "box not finite", id="bbox_table"),
        pytest.param({"bbox": [1, 2, [3], 4]}, "box not finite", id="bbox_with_a_list"),
        pytest.param({"bbox": [1, 2, "wide", 4]}, "box not finite", id="bbox_with_a_word"),
        pytest.param({"bbox": [1, 2, 10**400, 4]}, "box not finite", id="bbox_with_401_digits"),
        pytest.param(
            {"bbox": None, "segmentation": [[1, 2, NAN, 2, 5, 5]]}, "box not finite",
            id="polygon_with_nan",
        ),
        pytest.param(
            {"bbox": None, "segmentation": {"size": [24, 40], "counts": [-1, 961]}},
            "box not finite", id="mask_of_another_size",
        ),
        pytest.param({"category_id": 55}, "annotation of an unknown category", id="unknown_class"),
    ],
)  # fmt: skip
def test_annotation_that_is_lost_is_counted_and_its_image_is_no_background(
    tmp_path, changes, reason
):
    spec = made.coco(tmp_path, annotations=[box(**changes)])
    labels, reasons = labels_and_reasons(spec)
    assert (labels.boxes.tolist(), reasons) == ([], [reason])
    assert labels.judged.tolist() == []


def test_image_that_keeps_a_box_is_judged_as_before(tmp_path):
    spec = made.coco(tmp_path, annotations=[box(), box(id=2, bbox=[5, 5, 0, 0])])
    labels, reasons = labels_and_reasons(spec)
    assert (labels.boxes.tolist(), labels.judged, reasons) == (XYXY, None, ["box without area"])


def test_image_without_annotations_is_background(tmp_path):
    labels, reasons = labels_and_reasons(made.coco(tmp_path, annotations=[]))
    assert (len(labels.boxes), labels.judged, reasons) == (0, None, [])


def test_annotation_of_an_unknown_image_and_category_counts_once(tmp_path):
    wrong = box(id=2, image_id=99, category_id=88)
    _, reasons = labels_and_reasons(made.coco(tmp_path, annotations=[box(), wrong]))
    assert reasons == ["annotation of an unknown image"]


def test_ids_of_two_types_are_one_id(tmp_path):
    images = [
        {"id": "7", "file_name": "a.png", "height": "24", "width": 40.0},
        {"id": 8, "file_name": "b.png", "height": 24, "width": 40},
    ]
    picture = made.encode(made.colours())
    spec = made.coco(
        tmp_path,
        images=images,
        annotations=[box(image_id=7), box(id=2, image_id="8")],
        files={"a.png": picture, "b.png": picture},
    )
    source = open_spec(spec)
    assert [(item.image_id, item.height, item.width) for item in source.items] == [
        (7, 24, 40),
        (8, 24, 40),
    ]
    assert [source.read_labels(item)[0].boxes.tolist() for item in source.items] == [XYXY, XYXY]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_file_with_a_byte_order_mark(tmp_path, encoding):
    spec = made.coco(tmp_path)
    path = tmp_path / "instances.json"
    path.write_bytes(path.read_text().encode(encoding))
    np.testing.assert_array_equal(labels_and_reasons(spec)[0].boxes, XYXY)


def test_fractions_given_as_pixels_are_refused(tmp_path):
    annotations = [box(bbox=[0.1, 0.2, 0.5, 0.25]), box(id=2, bbox=[0.5, 0.5, 0.5, 0.5])]
    with pytest.raises(UserError, match=r"all 2 boxes lie within 0..1, such as \[0.1, 0.2"):
        open_spec(made.coco(tmp_path, annotations=annotations))
    # One box in pixels, and they are pixels.
    assert open_spec(made.coco(tmp_path / "b", annotations=[*annotations, box(id=3)]))


ROBOFLOW = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 3, "name": "cat", "supercategory": "pets"},
    {"id": 90, "name": "dog", "supercategory": "pets"},
]


def test_heading_that_nobody_uses_is_no_class(tmp_path):
    source = open_spec(made.coco(tmp_path, categories=ROBOFLOW))
    assert (source.class_names, source.category_ids) == (("cat", "dog"), (3, 90))
    used = open_spec(
        made.coco(
            tmp_path / "b", categories=ROBOFLOW, annotations=[box(), box(id=2, category_id=0)]
        )
    )
    assert used.class_names == ("pets", "cat", "dog")


def _labeled(tmp_path, annotations):
    source = open_spec(made.coco(tmp_path / "data", annotations=annotations))
    return source, write_labeled(source, folder=str(tmp_path / "out"), prefix="a", num_shards=1)


def test_given_boxes_are_kept_or_lost_one_by_one(tmp_path):
    annotations = [
        box(id=1), box(id=2, bbox=[5, 5, 0, 0]), box(id=3, category_id=55), box(id=4, image_id=99),
        box(id=5, category_id="x"), box(id=6, bbox=[-5, 1, 10, 5]), {"bbox": [1, 2, 3, 4]},
    ]  # fmt: skip
    _, counts = _labeled(tmp_path, annotations)
    assert counts.kept_boxes == 2
    assert lost_boxes(counts) == {
        "box without area": 1, "annotation of an unknown category": 1,
        "annotation of an unknown image": 1, "bad annotation": 2,
    }  # fmt: skip
    assert counts.kept_boxes + sum(lost_boxes(counts).values()) == len(annotations)
    assert counts.skipped_boxes["box clipped to the image"] == 1


@pytest.mark.parametrize(
    ("num_bad", "fraction", "refused"),
    [
        pytest.param(1, 0.1, False, id="a_tenth_is_allowed"),
        pytest.param(2, 0.1, True, id="above_a_tenth"),
        pytest.param(10, 0.99, True, id="all_boxes_nan"),
    ],
)
def test_limit_counts_boxes_too(tmp_path, num_bad, fraction, refused):
    annotations = [box(id=n, bbox=[NAN] * 4 if n < num_bad else [1, 2, 10, 5]) for n in range(10)]
    _, counts = _labeled(tmp_path, annotations)
    if refused:
        with pytest.raises(UserError, match=rf"set: {num_bad} of 10 boxes cannot be used"):
            check_fraction(counts, max_bad_fraction=fraction, where="set")
    else:
        check_fraction(counts, max_bad_fraction=fraction, where="set")


def test_record_of_an_image_that_lost_its_boxes_is_judged_by_nobody(tmp_path):
    source, _ = _labeled(tmp_path, [box(bbox=[5, 5, 0, 0])])
    (serialized,) = RecordSet.open(str(tmp_path / "out"))
    assert from_example(serialized, class_names=source.class_names).judged.tolist() == []


def test_any_value_anywhere_gives_a_reject_or_one_sentence(tmp_path):
    random = np.random.default_rng(1)
    spec = made.coco(tmp_path)
    path = tmp_path / "instances.json"
    good = json.loads(path.read_text())
    odd = [None, [], {}, [[]], "", "x", "²", "\ud800", -1, 0.5, NAN, math.inf, 10**400, True, "7"]
    for _ in range(600):
        content = json.loads(json.dumps(good))
        part = content[str(random.choice(list(content)))]
        entry = part[int(random.integers(len(part)))]
        for key in random.choice(list(entry), 2):
            entry[str(key)] = odd[int(random.integers(len(odd)))]
        path.write_text(json.dumps(content))
        try:
            source = open_spec(spec)
            for item in source.items:
                source.read_labels(item)
        except UserError as error:
            assert len(str(error)) < 2000
