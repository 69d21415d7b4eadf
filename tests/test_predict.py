"""The command that shows what a detector finds."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kd_tf import predict
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.export.meta import ExportMeta
from kd_tf.geometry.detections import Detections, Needs
from tests.export import images
from tests.export.fake_network import CLASS_NAMES, FakeNetwork


class _OneBox:
    """Finds two boxes in every image, at a tenth and at a half of its size."""

    def needs(self) -> Needs:
        return Needs(("cat", "dog"), 100, 200, resize="stretch")

    def detect(self, batch: np.ndarray) -> list[Detections]:
        boxes = np.array([[20, 10, 100, 50], [0, 0, 200, 100]], np.float32)
        scores, classes = np.array([0.9, 0.4], np.float32), np.array([1, 0], np.int32)
        return [Detections(boxes, scores, classes) for _ in batch]


def _model(*thresholds: float) -> predict.Model:
    return predict.Model(_OneBox(), ("cat", "dog"), np.array(thresholds, np.float32))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(images.encode(images.pixels(200, 300), "PNG"))
    turned = images.jpeg(images.pixels(200, 300), orientation=6)
    (tmp_path / "in" / "b.JPG").write_bytes(turned)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path


def test_predict_files_gives_boxes_in_pixels_of_the_upright_image(folder):
    paths = predict.find_images([str(folder / "in")])
    assert [path.rsplit("/", 1)[-1] for path in paths] == ["a.png", "b.JPG"]
    lines = list(predict.predict_files(_model(0.5, 0.5), paths, output=""))
    # a is 200x300 and the input 100x200: x grows by 1.5, y by 2. b stands upright: 300x200.
    assert lines == [
        {
            "image": paths[0],
            "status": "ok",
            "height": 200,
            "width": 300,
            "detections": [
                {"class": "dog", "score": 0.9, "box_xyxy_px": [30.0, 20.0, 150.0, 100.0]}
            ],
        },
        {
            "image": paths[1],
            "status": "ok",
            "height": 300,
            "width": 200,
            "detections": [
                {"class": "dog", "score": 0.9, "box_xyxy_px": [20.0, 30.0, 100.0, 150.0]}
            ],
        },
    ]


@pytest.mark.parametrize(
    ("thresholds", "shown"),
    [
        pytest.param((0.4, 0.9), ["dog", "cat"], id="inclusive"),
        pytest.param((0.41, 0.9), ["dog"], id="per_class"),
        pytest.param((0.5, 0.95), [], id="nothing_left"),
    ],
)
def test_predict_files_shows_what_reaches_its_classes_threshold(folder, thresholds, shown):
    path = str(folder / "in" / "a.png")
    (line,) = predict.predict_files(_model(*thresholds), [path], output="")
    assert [found["class"] for found in line["detections"]] == shown


def test_predict_files_of_bad_files_says_why_and_goes_on(folder):
    paths = [str(folder / name) for name in ("in/notes.txt", "missing.jpg", "in/a.png")]
    lines = list(predict.predict_files(_model(0.5, 0.5), paths, output=""))
    assert [line["status"].split(":")[0] for line in lines] == [
        "not an image",
        "no such file",
        "ok",
    ]


def test_predict_files_draws_each_image_under_a_name_of_its_own(folder):
    (folder / "more").mkdir()
    (folder / "more" / "a.png").write_bytes((folder / "in" / "a.png").read_bytes())
    paths = [str(folder / "in" / "a.png"), str(folder / "more" / "a.png")]
    output = str(folder / "out")
    lines = list(predict.predict_files(_model(0.3, 0.5), paths, output=output))
    drawings = [line["drawing"] for line in lines]
    assert [path.rsplit("/", 1)[-1] for path in drawings] == ["a.png", "a-2.png"]
    drawn = np.asarray(Image.open(drawings[0]))
    # The dog's box 30, 20, 150, 100: its left edge has its colour, its middle is untouched.
    assert tuple(drawn[80, 30]) == predict.class_colour(1)
    np.testing.assert_array_equal(drawn[60, 90], images.pixels(200, 300)[60, 90])


def test_draw_of_nothing_leaves_the_picture_as_it_is():
    picture = Image.fromarray(images.pixels(20, 30))
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    np.testing.assert_array_equal(predict.draw(picture, nothing, class_names=()), picture)


def test_find_images_keeps_order_and_names_without_a_match(folder):
    found = predict.find_images([str(folder / "in" / "*.png"), "gone.jpg", str(folder / "in")])
    assert [path.rsplit("/", 1)[-1] for path in found] == ["a.png", "gone.jpg", "b.JPG"]


def test_load_model_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="There is nothing at"):
        predict.load_model(str(tmp_path / "x.tflite"))


@pytest.mark.parametrize("name", ["a.keras", "a.tflite", "a.onnx", "a"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "empty"])
def test_model_is_a_folder_a_pipe_or_empty(tmp_path, name, kind):
    path = tmp_path / name
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "empty": path.touch}[kind]()
    with pytest.raises(UserError) as caught:
        predict.load_model(str(path))
    assert str(path) in str(caught.value) or "file" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_predict_files_to_a_folder_that_cannot_be_written_is_refused(folder):
    (folder / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"--output: .*cannot be written"):
        list(_drawn(folder, folder / "out"))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        pytest.param("in/a.png", "is a file; give a folder", id="a_file"),
        pytest.param("in/a.png/deeper", "cannot be written", id="inside_a_file"),
        pytest.param("/proc/x", "cannot be written", id="no_such_place"),
    ],
)
def test_output_is_a_file_or_cannot_be_written(folder, output, message):
    with pytest.raises(UserError, match=message) as caught:
        list(_drawn(folder, folder / output))
    assert "--output" in str(caught.value)


def _drawn(folder, output):
    return predict.predict_files(
        _model(0.5, 0.5), [str(folder / "in" / "a.png")], output=str(output)
    )


@pytest.mark.parametrize("kind", ["pipe", "link_to_a_pipe", "device", "link_to_itself"])
def test_pipe_or_device_named_png(folder, kind):
    odd = folder / "in" / "odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "link_to_a_pipe":
        os.mkfifo(folder / "pipe")
        odd.symlink_to(folder / "pipe")
    else:
        odd.symlink_to("/dev/zero" if kind == "device" else odd)
    paths = [str(odd), str(folder / "in" / "a.png")]
    lines = list(predict.predict_files(_model(0.5, 0.5), paths, output=""))
    wanted = "no such file" if kind == "link_to_itself" else "cannot be read"
    assert [line["status"].split(":")[0] for line in lines] == [wanted, "ok"]


@pytest.mark.slow
def test_command_prints_lines_and_tells_of_unreadable_files(folder):
    meta = ExportMeta(CLASS_NAMES, (64, 96), (0.5, 0.5, 0.5))
    formats.export(FakeNetwork(), str(folder / "run"), formats=["saved_model"], meta=meta)
    arguments = ["--model", str(folder / "run"), "--output", str(folder / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "kd_tf.predict", *arguments, str(folder / "in" / "a.png"), "gone"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["status"] for line in lines] == ["ok", "no such file: gone"]
    assert "1 of 2 unreadable" in done.stderr
