"""YOLO: normalised centres, the YAML file, and where labels lie."""

import numpy as np
import pytest

from kd_tf.data.sources.yolo import label_path
from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import open_spec


def test_open_yolo_scales_normalised_centres_to_pixels(tmp_path):
    # The image is 40 wide and 24 high: centre (20, 6), size (10, 12).
    source = open_spec(made.yolo(tmp_path, {"a": "1 0.5 0.25 0.25 0.5\n", "b": ""}))
    assert source.class_names == ("cat", "dog")
    assert [item.original_id for item in source.items] == ["a.png", "b.png"]
    labels, rejects = source.read_labels(source.items[0])
    np.testing.assert_allclose(labels.boxes, [[15, 0, 25, 12]], atol=1e-5)
    assert labels.classes.tolist() == [1]
    np.testing.assert_allclose(labels.areas, [120], rtol=1e-5)
    assert rejects == []
    assert len(source.read_labels(source.items[1])[0].boxes) == 0


def test_open_yolo_turned_photo_has_boxes_of_the_upright_image(tmp_path):
    spec = made.yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    photo = made.with_orientation(made.colours(), 6, "PNG")  # upright 24 wide, 40 high
    (tmp_path / "images" / "train" / "a.png").write_bytes(photo)
    source = open_spec(spec)
    labels, _ = source.read_labels(source.items[0])
    np.testing.assert_allclose(labels.boxes, [[6, 10, 18, 30]], atol=1e-5)


@pytest.mark.parametrize(
    "yaml",
    [
        pytest.param("path: .\ntrain: images/train\nnames: [cat, dog]", id="folder"),
        pytest.param("train: [images/train]\nnames: [cat, dog]", id="list_of_folders"),
        pytest.param("train: list.txt\nnames: [cat, dog]", id="text_file"),
    ],
)
def test_open_yolo_finds_the_split(tmp_path, yaml):
    (tmp_path / "list.txt").write_text("./images/train/a.png\nimages/train/b.png\n")
    source = open_spec(made.yolo(tmp_path, {"a": "0 .5 .5 .1 .1", "b": ""}, yaml=yaml))
    assert [item.original_id for item in source.items] == ["a.png", "b.png"]
    assert [len(source.read_labels(item)[0].boxes) for item in source.items] == [1, 0]


def test_open_yolo_listed_paths_must_stay_below_the_folder(tmp_path):
    (tmp_path / "list.txt").write_text("images/train/a.png\n../x.png\n/etc/x.png\n")
    yaml = "train: list.txt\nnames: [cat, dog]"
    source = open_spec(made.yolo(tmp_path, {"a": ""}, yaml=yaml))
    reasons = [reject.reason for reject in source.rejects]
    assert reasons == ["unsafe file name", "missing file"]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        pytest.param("train: images/train\n", "`names` must list", id="no_names"),
        pytest.param("train: x\nnames: {0: a, 2: b}", "ids 0 to n - 1", id="gap_in_names"),
        pytest.param("names: [a]", "split=train is not in the file", id="no_split"),
        pytest.param("train: nowhere\nnames: [a]", "does not exist", id="missing_folder"),
        pytest.param("a: [", "is not YAML", id="not_yaml"),
        pytest.param("just words", "needs the keys", id="other_form"),
        pytest.param("!!python/object/apply:os.getcwd []", "needs the keys", id="code"),
    ],
)
def test_open_yolo_refuses(tmp_path, yaml, message):
    with pytest.raises(UserError, match=message):
        open_spec(made.yolo(tmp_path, {"a": ""}, yaml=yaml))


def test_open_yolo_fingerprint_follows_the_labels(tmp_path):
    spec = made.yolo(tmp_path, {"a": "0 .5 .5 .1 .1"})
    before = open_spec(spec).fingerprint
    assert open_spec(spec).fingerprint == before
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 .5 .5 .1 .2")
    assert open_spec(spec).fingerprint != before


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("d/images/train/a.b.jpg", "d/labels/train/a.b.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
        ("photos/a.jpg", "photos/a.txt"),
    ],
)
def test_label_path(image, labels):
    assert label_path(image) == labels
