"""Pascal VOC: 1-based inclusive pixels, difficult objects, parts by ids."""

import pytest

from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import open_spec

PNG = made.encode(made.colours())


def _two(folder) -> str:
    annotations = {
        "b": made.voc_xml([("dog", (1, 1, 40, 24), 0), ("cat", (5, 6, 5, 9), 0)]),
        "a": made.voc_xml([("cat", (2, 3, 11, 7), 1), ("cat", (1, 1, 2, 2), 0)]),
    }
    return made.voc(folder / "v", annotations, images={"a.png": PNG, "b.png": PNG})


def test_open_voc_pixels_count_from_one_and_include_the_last(tmp_path):
    source = open_spec(_two(tmp_path))
    assert source.class_names == ("cat", "dog")
    assert [item.original_id for item in source.items] == ["a", "b"]
    labels, rejects = source.read_labels(source.items[0])
    assert labels.boxes.tolist() == [[1, 2, 11, 7], [0, 0, 2, 2]]
    assert labels.classes.tolist() == [0, 0]
    assert labels.areas.tolist() == [50, 4]
    assert rejects == []
    labels, rejects = source.read_labels(source.items[1])
    assert labels.boxes.tolist() == [[0, 0, 40, 24]]
    assert [(r.what, r.reason, r.detail) for r in rejects] == [
        ("set/b: box 1", "box without area", "[5, 6, 5, 9]")
    ]


@pytest.mark.parametrize(("difficult", "crowd"), [("ignore", True), ("keep", False)])
def test_open_voc_difficult(tmp_path, difficult, crowd):
    source = open_spec(f"{_two(tmp_path)}&difficult={difficult}")
    assert source.read_labels(source.items[0])[0].is_crowd.tolist() == [crowd, False]


def test_open_voc_ignores_difficult_objects_by_default_and_refuses_other_words(tmp_path):
    spec = _two(tmp_path)
    source = open_spec(spec)
    assert source.read_labels(source.items[0])[0].is_crowd.tolist() == [True, False]
    with pytest.raises(UserError, match="difficult=drop must be one of"):
        open_spec(f"{spec}&difficult=drop")


def test_open_voc_ids_chooses_images_and_keeps_the_classes(tmp_path):
    spec = _two(tmp_path)
    (tmp_path / "v" / "ids.txt").write_text("a\n\n")
    source = open_spec(f"{spec}&ids=ids.txt")
    assert [item.original_id for item in source.items] == ["a"]
    assert source.class_names == ("cat", "dog")
    assert source.rejects == ()
    assert source.fingerprint != open_spec(spec).fingerprint


def test_open_voc_ids_without_an_annotation_are_refused(tmp_path):
    spec = _two(tmp_path)
    (tmp_path / "ids.txt").write_text("a\nz")
    with pytest.raises(UserError, match=r"2 ids, 1 of which have no annotation: 'z'"):
        open_spec(f"{spec}&ids={tmp_path}/ids.txt")


def test_open_voc_on_the_blood_cells_names_the_box_without_area(real_data):
    # Counts: the table of the data's own README, less the one box of each split.
    for split, images, boxes, named in (
        ("train", 300, 3951, "train/BloodImage_00338: box 12"),
        ("test", 60, 907, "test/BloodImage_00343: box 3"),
    ):
        source = open_spec(f"voc:{real_data}/blood_cells/{split}")
        assert source.class_names == ("Platelets", "RBC", "WBC")
        both = [source.read_labels(item) for item in source.items]
        rejects = [reject for _, part in both for reject in part]
        assert len(source.items) == images
        assert sum(len(labels.boxes) for labels, _ in both) == boxes
        assert [(r.what, r.reason, r.whole_image) for r in rejects] == [
            (named, "box without area", False)
        ]


def test_open_voc_without_a_folder_of_images_says_how_it_is_called(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(made.voc_xml([]))
    with pytest.raises(UserError, match="JPEGImages or Images"):
        open_spec(f"voc:{tmp_path}")
