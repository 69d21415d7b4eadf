"""A look at a teacher: what is said and drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from kd_tf.teachers.probe import probe, side_by_side
from tests.teachers.made import RectangleTeacher, made_source


def test_probe_says_what_a_teacher_is_and_sees(tmp_path):
    source = made_source(20, bad={4: b""})
    path = str(tmp_path / "probe" / "one.png")
    found = probe(RectangleTeacher(), source, name="one", picture_path=path, batch_size=4)

    assert found.class_names == ("bright", "dark")
    assert found.input_text == "32x32 (height x width), letterbox, rgb"
    assert (found.num_images, found.num_rejects) == (20, 1)
    # Of each image's two detections only the one of score 0.8 is shown; image 4 was dark.
    assert found.boxes_per_image == 1.0
    assert found.class_counts == {"bright": 10, "dark": 9}
    assert found.images_per_s > 0
    assert [image_id for image_id, _ in found.predicted] == [i + 1 for i in range(20) if i != 4]
    assert "10, dark 9" in found.to_text()
    assert "predicted" not in found.to_json()
    with Image.open(io.BytesIO((tmp_path / "probe" / "one.png").read_bytes())) as sheet:
        pixels = np.asarray(sheet)
    # Three rows of three cells; the boxes are the only colour on these grey images.
    assert pixels.shape == (1008, 960, 3)
    spread = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    for row in range(3):
        for column in range(3):
            cell = spread[row * 336 : (row + 1) * 336, column * 320 : (column + 1) * 320]
            assert (cell > 100).sum() > 20


def test_probe_few_images_has_no_speed(tmp_path):
    found = probe(
        RectangleTeacher(), made_source(2), name="one", picture_path=str(tmp_path / "a.png"),
        batch_size=4,
    )  # fmt: skip
    assert found.images_per_s is None
    assert "too few images" in found.to_text()


@pytest.mark.parametrize("num", [1, 200])
def test_probe_shows_at_most_the_wanted_images(tmp_path, num):
    found = probe(
        RectangleTeacher(), made_source(num), name="a", picture_path=str(tmp_path / "a.png"),
        batch_size=8, max_images=16,
    )  # fmt: skip
    assert found.num_images == min(num, 16)
    (line,) = side_by_side([found])
    assert "2 classes" in line
