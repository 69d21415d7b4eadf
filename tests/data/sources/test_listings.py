"""Folders as they are found: names, links, pipes, and layouts of other tools."""

import os
import unicodedata

import pytest

from kd_tf import files
from kd_tf.errors import RejectedError, UserError
from tests.data import made
from tests.data.made import box, open_spec

PNG = made.encode(made.colours())
LINE = "1 0.5 0.5 0.25 0.5\n"


def _reasons(source):
    return sorted(reject.reason for reject in source.rejects)


def test_odd_entries_are_one_reject_each(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    with open(os.path.join(os.fsencode(tmp_path), b"b\xff.png"), "wb") as file:
        file.write(PNG)
    os.mkfifo(tmp_path / "c.png")
    (tmp_path / "l1").symlink_to(".")
    (tmp_path / "l2").symlink_to(".")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "d.png").write_bytes(PNG)
    source = open_spec(f"images:{tmp_path}")
    assert [item.original_id for item in source.items] == ["a.png", "folder.png/d.png"]
    assert _reasons(source) == [
        "dangling link",
        "dangling link",
        "file name is not UTF-8",
        "link to a folder that holds it",
        "link to a folder that holds it",
        "not a regular file",
    ]


def test_links_to_other_folders_are_followed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(PNG)
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    source = open_spec(f"images:{tmp_path}/data")
    assert [item.original_id for item in source.items] == ["more/a.png"]


def test_pipe_given_directly_is_a_reject(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    source = open_spec(f"images:{tmp_path}/a.png")
    with pytest.raises(RejectedError, match="not a regular file"):
        source.read_bytes(source.items[0])


def test_pipe_in_a_pattern_is_a_reject(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    os.mkfifo(tmp_path / "b.png")
    source = open_spec(f"images:{tmp_path}/*.png")
    assert [item.original_id for item in source.items] == ["a.png"]
    assert _reasons(source) == ["not a regular file"]


def test_side_files_of_macos_are_counted_apart(tmp_path):
    for name in ("a.png", "._a.png", "__MACOSX/._a.png", "__MACOSX/b.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    source = open_spec(f"images:{tmp_path}")
    assert [item.original_id for item in source.items] == ["a.png"]
    assert [reject.whole_image for reject in source.rejects] == [False] * 3


def test_walk_lists_as_before(tmp_path):
    for name in ("b/1.txt", "a.txt", "b/c/2.txt", "a/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = [path[len(str(tmp_path)) + 1 :] for path in files.walk(str(tmp_path))]
    assert found == ["a.txt", "a/3.txt", "b/1.txt", "b/c/2.txt"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(r"sub\a.png", id="backslashes"),
        pytest.param("sub/a.png", id="slashes"),
    ],
)
def test_coco_file_names_of_windows(tmp_path, name):
    images = [{"id": 7, "file_name": name, "height": 24, "width": 40}]
    source = open_spec(made.coco(tmp_path, images=images, files={"sub/a.png": PNG}))
    assert source.read_bytes(source.items[0]) == PNG


def test_coco_file_name_in_another_unicode_form(tmp_path):
    composed, apart = (unicodedata.normalize(form, "bär.png") for form in ("NFC", "NFD"))
    images = [{"id": 7, "file_name": composed, "height": 24, "width": 40}]
    spec = made.coco(tmp_path, images=images, annotations=[box()], files={apart: PNG})
    source = open_spec(spec)
    assert source.read_bytes(source.items[0]) == PNG


def _yolo(folder, yaml, *, images="images/train", labels="labels/train", extra=None):
    for path, content in (
        (f"{images}/a.png", PNG), (f"{labels}/a.txt", LINE.encode()), ("data.yaml", yaml.encode()),
        *(extra or {}).items(),
    ):  # fmt: skip
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"yolo:{folder}/data.yaml?name=set"


NAMES = "names: [cat, dog]\n"


@pytest.mark.parametrize(
    ("yaml", "layout"),
    [
        pytest.param(
            f"train: ../train/images\nval: ../valid/images\nnc: 2\n{NAMES}",
            {"images": "train/images", "labels": "train/labels"}, id="roboflow",
        ),
        pytest.param(f"path: /home/bob/set\ntrain: images/train\n{NAMES}", {}, id="foreign_path"),
        pytest.param(f"path: ../set\ntrain: images/train\n{NAMES}", {}, id="path_not_there"),
        pytest.param(f"train: images\\train\n{NAMES}", {}, id="backslashes"),
        pytest.param(
            f"train: list.txt\n{NAMES}",
            {"extra": {"list.txt": "/home/bob/x/images/train/a.png\n"}},
            id="absolute_list",
        ),
        pytest.param(
            f"train: list.txt\n{NAMES}",
            {"extra": {"list.txt": "D:\\x\\images\\train\\a.png\r\n"}}, id="windows_list",
        ),
        pytest.param(
            f"train: list.txt\n{NAMES}", {"extra": {"list.txt": ".\\images\\train\\a.png\r\n"}},
            id="relative_windows_list",
        ),
        pytest.param("train: images/train\nnames: {'0': cat, '1': dog}\n", {}, id="ids_as_text"),
        pytest.param(f"train: images/train\nvalid: images/train\n{NAMES}", {}, id="valid_for_val"),
    ],
)  # fmt: skip
def test_yolo_layouts(tmp_path, yaml, layout):
    source = open_spec(_yolo(tmp_path, yaml, **layout))
    assert [item.original_id for item in source.items] == ["a.png"]
    assert source.read_labels(source.items[0])[0].boxes.tolist() == [[15, 6, 25, 18]]
    assert source.class_names == ("cat", "dog")


def test_yolo_folder_finds_its_yaml_or_says_what_is_missing(tmp_path):
    _yolo(tmp_path, f"train: images/train\n{NAMES}")
    assert len(open_spec(f"yolo:{tmp_path}").items) == 1
    (tmp_path / "dataset.yaml").write_text(NAMES)
    with pytest.raises(UserError, match=r"has data.yaml and dataset.yaml; give one"):
        open_spec(f"yolo:{tmp_path}")
    with pytest.raises(UserError, match="has none of them"):
        open_spec(f"yolo:{tmp_path}/images")


@pytest.mark.parametrize("names", ["[on, off]", "[no, yes]", "[1, 2.0]", "[null, ~]"])
def test_yolo_class_names_stay_words(tmp_path, names):
    source = open_spec(_yolo(tmp_path, f"train: images/train\nnames: {names}\n"))
    assert source.class_names == tuple(names[1:-1].split(", "))


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        pytest.param("train: images/train\nnames: [[a], b]\n", "a class name has", id="list"),
        pytest.param("train: images/train\nnames: !!int ''\n", "must list", id="tag"),
        pytest.param("train: {a: b}\nnames: [a, b]\n", "`train` must be a path", id="table"),
        pytest.param(
            "train: images/train\nnames: [" + "x" * 10_000 + ", b]\n", "a class name has", id="long"
        ),
        pytest.param("train: images/train\nnc: 3\nnames: [a, b]\n", "`nc` is '3'", id="nc"),
        pytest.param("path: [a]\ntrain: x\nnames: [a, b]\n", "`path` is", id="path"),
        pytest.param(
            "train: images/train\nkpt_shape: 17\nnames: [a, b]\n", "`kpt_shape` must", id="points"
        ),
        pytest.param(
            "train: images/train\na: &a [x, x]\nb: &b [*a, *a]\nnames: [*b]\n", "alias", id="bomb"
        ),
        pytest.param(
            "train: images/train\nnames: {" + "9" * 900 + ": a}\n", "ids 0 to n - 1", id="digits"
        ),
    ],
)
def test_yolo_yaml_is_refused_in_a_sentence(tmp_path, yaml, message):
    with pytest.raises(UserError, match=message) as caught:
        open_spec(_yolo(tmp_path, yaml))
    assert len(str(caught.value)) < 1000
