"""LVIS: COCO's format with the classes that were looked for in each image."""

import json

import pytest

from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import box, open_spec

PNG = made.encode(made.colours())
CATEGORIES = [{"id": n, "name": name} for n, name in ((2, "a"), (5, "b"), (9, "c"), (11, "d"))]


def _write(folder, entry: dict, *, notes: list[dict], place: str) -> str:
    image = {"id": 7, "height": 24, "width": 40, **entry}
    made.coco(folder, images=[image], annotations=notes, categories=CATEGORIES, files={place: PNG})
    return f"lvis:{folder}/instances.json?images={folder}/images&name=set"


@pytest.mark.parametrize(
    ("absent", "unsure", "judged"),
    [
        # The image holds boxes of category 5, index 1.
        pytest.param([], [], [1], id="only_the_marked"),
        pytest.param([11, 2], [], [0, 1, 3], id="and_the_absent"),
        pytest.param([2], [5], [0], id="less_those_not_marked_exhaustively"),
        pytest.param([404], [], [1], id="an_unknown_category_says_nothing"),
    ],
)
def test_judged_classes(tmp_path, absent, unsure, judged):
    url = "http://images.cocodataset.org/val2017/000000000007.jpg"
    entry = {"coco_url": url, "neg_category_ids": absent, "not_exhaustive_category_ids": unsure}
    spec = _write(tmp_path, entry, notes=[box(category_id=5)], place="val2017/000000000007.jpg")
    source = open_spec(spec)
    labels, rejects = source.read_labels(source.items[0])
    assert labels.judged.tolist() == judged
    assert labels.classes.tolist() == [1]
    assert labels.boxes.tolist() == [[1, 2, 11, 7]]
    assert rejects == []
    assert source.read_bytes(source.items[0]) == PNG


def test_images_may_lie_directly_in_the_folder(tmp_path):
    entry = {"coco_url": "http://images.cocodataset.org/train2017/1.jpg"}
    source = open_spec(_write(tmp_path, entry, notes=[], place="1.jpg"))
    assert source.read_bytes(source.items[0]) == PNG
    assert source.read_labels(source.items[0])[0].judged.tolist() == []


def test_judged_follow_the_runs_class_list(tmp_path):
    entry = {"file_name": "1.jpg", "neg_category_ids": [11]}
    spec = _write(tmp_path, entry, notes=[box(category_id=5)], place="1.jpg")
    source = open_spec(spec, class_names=("d", "x", "b"), drop_classes=("a", "c"))
    assert source.read_labels(source.items[0])[0].judged.tolist() == [0, 2]


def test_a_broken_file_is_refused(tmp_path):
    spec = _write(tmp_path, {"file_name": "1.jpg"}, notes=[], place="1.jpg")
    (tmp_path / "instances.json").write_text(json.dumps({"images": []}))
    with pytest.raises(UserError, match="lists no image"):
        open_spec(spec)
