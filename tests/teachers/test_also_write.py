"""Pseudo labels in other formats, read back by readers that are not ours."""

import contextlib
import io
import os

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO

from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError
from kd_tf.teachers.also_write import also_write
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import Labeller, LabelSettings, LabelWriter
from kd_tf.teachers.predict_job import Work, label_predictions
from tests.teachers.made import CLASS_NAMES, RectangleTeacher, made_source


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> RecordSet:
    folder = tmp_path_factory.mktemp("labels")
    source, work = made_source(5), Work(num_shards=2)
    label_predictions(RectangleTeacher(), source, name="a", folder=str(folder / "p"), work=work)
    settings = LabelSettings(CLASS_NAMES, FusionSettings(), np.array([0.5, 0.5]))
    labeller = Labeller("a", str(folder / "p"), np.array([0, 1]), np.ones(2))
    LabelWriter(
        source, [labeller], folder=str(folder / "out"), work=work, settings=settings
    ).finish()
    return RecordSet.open(str(folder / "out"))


def _rectangle(number: int) -> np.ndarray:
    x, y = np.random.default_rng(number).integers(0, 12, 2)
    return np.array([x, y, x + 12, y + 10])


def test_also_write_coco_is_read_by_pycocotools(records, tmp_path):
    also_write(records, folder=str(tmp_path), formats=["coco"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "coco.json"))
    assert sorted(coco.getImgIds()) == [1, 2, 3, 4, 5]
    assert sorted(coco.getAnnIds()) == [1, 2, 3, 4, 5]
    assert [c["name"] for c in coco.loadCats([1, 2])] == list(CLASS_NAMES)
    for number in range(5):
        (entry,) = coco.loadAnns(coco.getAnnIds(imgIds=[number + 1]))
        x, y, w, h = entry["bbox"]
        np.testing.assert_allclose([x, y, x + w, y + h], _rectangle(number), atol=2)
        assert entry["category_id"] == 2 - number % 2
        assert entry["score"] == pytest.approx(0.8)
    assert coco.loadImgs([3])[0]["file_name"] == "made/00002.png"


def test_also_write_yolo_has_a_text_per_image(records, tmp_path):
    also_write(records, folder=str(tmp_path), formats=["yolo"])
    data = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert data["names"] == dict(enumerate(CLASS_NAMES))
    assert sorted(os.listdir(tmp_path / "yolo" / "images" / "made")) == [
        f"0000{i}.png" for i in range(5)
    ]
    for number in range(5):
        text = (tmp_path / "yolo" / "labels" / "made" / f"0000{number}.txt").read_text()
        label, x, y, w, h = map(float, text.split())
        size = np.array([32 + number % 7, 24 + number % 5])
        corners = [*((x, y) - np.array([w, h]) / 2) * size, *((x, y) + np.array([w, h]) / 2) * size]
        np.testing.assert_allclose(corners, _rectangle(number), atol=2)
        assert label == 1 - number % 2


def test_also_write_unknown_format_is_refused(records, tmp_path):
    with pytest.raises(UserError, match="pascal: known are coco, yolo"):
        also_write(records, folder=str(tmp_path), formats=["coco", "pascal"])
