"""One test for each row of ODD_INPUTS.md about files, boxes and COCO files."""

import json
import pathlib
import re

import numpy as np
import pytest

from kd_tf import files
from kd_tf.data.survey import survey
from kd_tf.errors import RejectedError, UserError
from tests.data import made, test_odd_images
from tests.data.made import box, labels_and_reasons, listing_reasons, open_spec
from tests.export import test_one_verdict

PIXELS = made.colours()
PNG = made.encode(PIXELS)
SIZE = {"height": 24, "width": 40}


def _reject_reason(spec: str) -> str:
    """Why the only image cannot be used."""
    source = open_spec(spec)
    with pytest.raises(RejectedError) as error:
        source.read_bytes(source.items[0])
    return error.value.reason


def test_missing_path(tmp_path):
    for spec in (f"images:{tmp_path}/no", f"coco:{tmp_path}/no.json", f"voc:{tmp_path}/no"):
        with pytest.raises(UserError, match="does not exist"):
            open_spec(spec)


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match="holds 0 files and none is an image"):
        open_spec(f"images:{tmp_path}")


def test_folder_with_only_text(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match="holds 1 files and none is an image"):
        open_spec(f"images:{tmp_path}")


def test_missing_image_file(tmp_path):
    spec = made.coco(tmp_path)
    (tmp_path / "images" / "a.png").unlink()
    assert _reject_reason(spec) == "missing file"


NAMES = ["a b.png", "äöü.png", "100%.png", "line\nbreak.png", "ñ" * 125 + "1.png"]


def test_names_with_space_umlaut_percent_newline(tmp_path):
    for name in NAMES[:4]:
        (tmp_path / name).write_bytes(PNG)
    source = open_spec(f"images:{tmp_path}")
    assert sorted(item.original_id for item in source.items) == sorted(NAMES[:4])
    assert all(source.read_bytes(item) == PNG for item in source.items)
    images = [{"id": n, "file_name": name, **SIZE} for n, name in enumerate(NAMES)]
    coco = open_spec(made.coco(tmp_path / "coco", images=images, files=dict.fromkeys(NAMES, PNG)))
    assert [coco.read_bytes(item) for item in coco.items] == [PNG] * 5


def test_name_of_255_bytes(tmp_path):
    name = NAMES[4]
    assert len(name.encode()) == 255
    (tmp_path / name).write_bytes(PNG)
    source = open_spec(f"images:{tmp_path}")
    assert source.items[0].original_id == name
    assert source.read_bytes(source.items[0]) == PNG


def test_folder_with_brackets(tmp_path):
    folder = tmp_path / "photos [2020]*"
    folder.mkdir()
    for name in ("a.png", "b.png", "b.txt"):
        (folder / name).write_bytes(PNG)
    assert len(open_spec(f"images:{folder}").items) == 2
    assert [i.original_id for i in open_spec(f"images:{folder}/b*").items] == ["b.png"]


def test_same_image_under_two_names(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    source = open_spec(f"images:{tmp_path}?name=set")
    counts = survey(source).counts
    assert (counts.seen, counts.written) == (2, 1)
    assert counts.skipped == {"duplicate image": 1}
    assert counts.examples["duplicate image"] == ["set/b.png: same as set/a.png"]


def test_same_id_twice(tmp_path):
    images = [{"id": 7, "file_name": name, **SIZE} for name in ("a.png", "b.png")]
    with pytest.raises(UserError, match="id 7 more than once"):
        open_spec(made.coco(tmp_path, images=images))


def test_class_not_in_the_list(tmp_path):
    spec = made.coco(tmp_path)
    with pytest.raises(UserError, match="dog"):
        open_spec(spec, class_names=("cat", "cow"))
    source = open_spec(spec, class_names=("cow", "cat"), drop_classes=("dog",))
    labels, _ = source.read_labels(source.items[0])
    assert labels.classes.tolist() == [1]
    assert labels.judged.tolist() == [1]  # nobody looked for cows


def test_two_classes_of_one_name(tmp_path):
    twice = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]
    with pytest.raises(UserError, match="'cat' more than once"):
        open_spec(made.coco(tmp_path, categories=twice))


@pytest.mark.parametrize(
    ("bbox", "boxes", "reasons"),
    [
        # The image is 40 wide and 24 high; bbox is x, y, width, height.
        pytest.param([-5, 20, 10, 10], [[0, 20, 5, 24]], ["box clipped to the image"],
                     id="box_partly_outside"),
        pytest.param([-0.04, 1, 2, 2], [[0, 1, 1.96, 3]], [], id="rounding_is_not_counted"),
        pytest.param([40, 1, 5, 5], [], ["box outside the image"], id="box_outside"),
        pytest.param([1, float("nan"), 5, 5], [], ["box not finite"], id="box_nan"),
        pytest.param([1, 1, 5], [], ["box not finite"], id="box_of_three_numbers"),
        pytest.param([1, 1, "wide", 5], [], ["box not finite"], id="box_of_text"),
        pytest.param([10, 10, -5, 5], [], ["box inverted"], id="box_inverted"),
        pytest.param([10, 10, 5, 0], [], ["box without area"], id="box_zero_area"),
        pytest.param([0, 0, 40, 24], [[0, 0, 40, 24]], [], id="whole_image"),
    ],
)  # fmt: skip
def test_box(tmp_path, bbox, boxes, reasons):
    labels, left_out = labels_and_reasons(made.coco(tmp_path, annotations=[box(bbox=bbox)]))
    np.testing.assert_allclose(labels.boxes, np.array(boxes).reshape(-1, 4), atol=1e-6)
    assert left_out == reasons


def _exif_coco(folder, *, height: int, width: int) -> str:
    # The stored image is 40 wide and 24 high; orientation 6 makes it 24 wide and 40 high.
    images = [{"id": 7, "file_name": "a.jpg", "height": height, "width": width}]
    data = {"a.jpg": made.with_orientation(PIXELS, 6)}
    return made.coco(folder, images=images, files=data, annotations=[box(bbox=[1, 2, 10, 5])])


def test_exif_size_of_stored_pixels(tmp_path):
    labels, reasons = labels_and_reasons(_exif_coco(tmp_path, height=24, width=40))
    # [1, 2, 11, 7] turned clockwise in an image 24 high: x = 24 - y, y = x.
    assert labels.boxes.tolist() == [[17, 1, 22, 11]]
    assert reasons == []


def test_exif_size_of_upright_pixels(tmp_path):
    for name, (height, width) in {"stated": (40, 24), "not_stated": (0, 0)}.items():
        labels, reasons = labels_and_reasons(
            _exif_coco(tmp_path / name, height=height, width=width)
        )
        assert labels.boxes.tolist() == [[1, 2, 11, 7]]
        assert reasons == []


def test_size_of_another_image(tmp_path):
    source = open_spec(_exif_coco(tmp_path, height=25, width=40))
    with pytest.raises(RejectedError, match="size differs from the annotation: annotated 40x25"):
        source.read_labels(source.items[0])


def test_json_that_is_not_json(tmp_path):
    spec = made.coco(tmp_path)
    for text in ("{'images': []}", "", "[" * 100_000):
        (tmp_path / "instances.json").write_text(text)
        with pytest.raises(UserError, match="is not JSON"):
            open_spec(spec)


def test_json_of_another_form(tmp_path):
    spec = made.coco(tmp_path)
    for content in ([], {"images": {}}, {"image": []}):
        (tmp_path / "instances.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="not a COCO instances file"):
            open_spec(spec)


def test_duplicate_image_ids(tmp_path):
    images = [{"id": 7, "file_name": name, **SIZE} for name in ("a.png", "b.png")]
    with pytest.raises(UserError, match=r"image id 7 more than once: 'a.png' and 'b.png'"):
        open_spec(made.coco(tmp_path, images=images))


@pytest.mark.parametrize(
    ("changes", "num_boxes", "reasons"),
    [
        pytest.param({"image_id": 8}, 0, ["annotation of an unknown image"],
                     id="annotation_of_an_unknown_image"),
        pytest.param({"category_id": 4}, 0, ["annotation of an unknown category"],
                     id="annotation_of_an_unknown_category"),
        pytest.param({"id": 0}, 1, [], id="annotation_id_0"),
        pytest.param({"image_id": None}, 0, ["bad annotation"], id="annotation_without_image_id"),
    ],
)  # fmt: skip
def test_annotation(tmp_path, changes, num_boxes, reasons):
    labels, left_out = labels_and_reasons(made.coco(tmp_path, annotations=[box(**changes)]))
    assert (len(labels.boxes), left_out) == (num_boxes, reasons)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param({"id": 8}, "bad image entry", id="image_entry_without_file_name"),
        pytest.param({"id": 8, "file_name": "../a.png"}, "unsafe file name",
                     id="file_name_with_dot_dot"),
        pytest.param({"id": 8, "file_name": "/etc/hosts"}, "unsafe file name",
                     id="file_name_absolute"),
        pytest.param({"id": 8, "file_name": "gs://b/a.png"}, "unsafe file name",
                     id="file_name_on_a_store"),
        pytest.param({"id": 8, "file_name": "a\0.png"}, "unsafe file name",
                     id="file_name_with_nul"),
    ],
)  # fmt: skip
def test_image_entry(tmp_path, entry, reason):
    images = [{"id": 7, "file_name": "a.png", **SIZE}, entry]
    assert listing_reasons(made.coco(tmp_path, images=images)) == (1, [reason])


def test_image_without_annotations(tmp_path):
    labels, reasons = labels_and_reasons(made.coco(tmp_path, annotations=[]))
    assert (len(labels.boxes), reasons) == (0, [])


def test_every_row_of_the_table_has_a_test():
    table = pathlib.Path(files.__file__).parent / "data" / "ODD_INPUTS.md"
    first = [cell.removeprefix("test_") for cell in re.findall(r"(?m)^\| (\w+)", table.read_text())]
    rows = set(first) - {"input"}
    assert len(rows) > 60
    modules = pathlib.Path(__file__).parent.parent.rglob("*.py")
    text = "".join(module.read_text() for module in modules)
    tested = set(test_odd_images.ACCEPTED) | set(test_odd_images.REJECTED)
    tested |= set(test_one_verdict.REFUSED_BY_THE_EXPORT) | set(test_one_verdict.ALIKE)
    tested |= set(re.findall(r'(?:id="|def test_)(\w+)', text))
    assert rows - tested == {"exif_orientation_1"}  # to 8: test_exif_orientation_is_turned_upright
