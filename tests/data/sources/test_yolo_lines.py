"""What YOLO label lines mean, whichever task they were written for."""

import numpy as np
import pytest

from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import labels_and_reasons, open_spec

# Centre (20, 12), size (10, 12) in an image of 40 x 24.
BOX, XYXY = "0.5 0.5 0.25 0.5", [[15, 6, 25, 18]]
INSIDE = "0.45 0.4"
NAMES = "train: images/train\nnames: {0: cat, 1: dog}\n"


def _labels(tmp_path, text, *, yaml=NAMES, options=""):
    return labels_and_reasons(made.yolo(tmp_path, {"a": text}, yaml=yaml) + options)


@pytest.mark.parametrize(
    ("text", "yaml", "options"),
    [
        pytest.param(f"1 {BOX}\n", NAMES, "", id="box"),
        pytest.param(f"1 {BOX} 0.87\n", NAMES, "", id="confidence"),
        pytest.param(f"1 {BOX} 0.87 3\n", NAMES, "", id="track"),
        pytest.param(f"1 {BOX} 0.87 1\n", NAMES, "&task=track", id="track_1_declared"),
        pytest.param(f"\ufeff1 {BOX}\n", NAMES, "", id="byte_order_mark"),
        pytest.param(f"1 {BOX}\r\n", NAMES, "", id="windows_line_ends"),
        pytest.param(
            f"1 {BOX} " + f"{INSIDE} 2 " * 17, NAMES + "kpt_shape: [17, 3]\n", "", id="pose_17x3"
        ),
        pytest.param(
            f"1 {BOX} " + f"{INSIDE} " * 5, NAMES + "kpt_shape: [5, 2]\n", "", id="pose_5x2"
        ),
        pytest.param(
            f"1 {BOX} " + f"{INSIDE} " * 5 + "0.9", NAMES + "kpt_shape: [5, 2]\n", "",
            id="pose_with_confidence",
        ),
        pytest.param(f"1 {BOX} " + f"{INSIDE} " * 5, NAMES, "&task=pose", id="pose_by_option"),
        pytest.param(
            "1 0.375 0.25 0.625 0.25 0.625 0.75 0.375 0.75", NAMES, "", id="four_corners"
        ),
        pytest.param(
            "1 0.375 0.25 0.625 0.25 0.625 0.75 0.375 0.75 0.9", NAMES, "&task=obb",
            id="oriented_box_with_confidence",
        ),
        pytest.param("1 0.375 0.25 0.625 0.25 0.5 0.75", NAMES, "", id="triangle"),
    ],
)  # fmt: skip
def test_line_gives_its_box(tmp_path, text, yaml, options):
    labels, reasons = _labels(tmp_path, text, yaml=yaml, options=options)
    np.testing.assert_allclose(labels.boxes, XYXY, atol=1e-5)
    assert (labels.classes.tolist(), reasons) == ([1], [])


def test_old_mac_line_ends_separate_lines(tmp_path):
    labels, _ = _labels(tmp_path, f"1 {BOX}\r0 {BOX}\r1 {BOX}\r")
    assert labels.classes.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f"1 {BOX} 0.87 1\n", "may be track or segment", id="triangle_or_track"),
        pytest.param(
            f"1 {BOX} 0.87 2\n0 0.1 0.1 0.2 0.1 0.15 0.25\n", "may be track or segment",
            id="both_in_one_set",
        ),
        pytest.param(f"1 {BOX} " + f"{INSIDE} " * 5, "may be pose or segment", id="pose_2d"),
        pytest.param(f"1 {BOX} " + f"{INSIDE} 2 " * 2, "may be pose or segment", id="pose_3d"),
        pytest.param(f"1 {BOX}\n2 {BOX}\n", "run from 1 to 2, and ids count from 0", id="ids_1_2"),
    ],
)  # fmt: skip
def test_lines_that_can_be_read_in_two_ways_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        _labels(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("1 0.1 0.2 0.3\n", "bad label line", id="four_numbers"),
        pytest.param("1 a b c d\n", "bad label line", id="words"),
        pytest.param(f"7 {BOX}\n", "class id out of range", id="class_7"),
        pytest.param(f"0.5 {BOX}\n", "class id out of range", id="half_a_class"),
        pytest.param(f"nan {BOX}\n", "class id out of range", id="class_nan"),
        pytest.param("1 nan 0.5 0.2 0.2\n", "box not finite", id="nan"),
        pytest.param("1 20 12 10 12\n", "box not normalised", id="pixels"),
        pytest.param(
            "1 0.375 0.25 0.625 0.25 nan 0.75 0.375 0.75", "box not finite",
            id="polygon_with_a_nan_corner",
        ),
        pytest.param(
            "1 0.375 0.25 0.625 inf 0.5 0.75 0.375 0.75", "box not finite",
            id="polygon_with_an_infinite_corner",
        ),
    ],
)  # fmt: skip
def test_line_that_is_lost_is_counted_and_its_image_is_no_background(tmp_path, text, reason):
    labels, reasons = _labels(tmp_path, text)
    assert (labels.boxes.tolist(), reasons, labels.judged.tolist()) == ([], [reason], [])


def test_pose_of_another_length_is_lost(tmp_path):
    yaml = NAMES + "kpt_shape: [17, 3]\n"
    _, reasons = _labels(tmp_path, f"1 {BOX} 0.5 0.5 2\n", yaml=yaml)
    assert reasons == ["bad label line"]


def test_label_file_that_is_a_folder_is_lost(tmp_path):
    spec = made.yolo(tmp_path, {"a": f"1 {BOX}", "b": f"1 {BOX}"})
    (tmp_path / "labels/train/a.txt").unlink()
    (tmp_path / "labels/train/a.txt").mkdir()
    source = open_spec(spec)
    assert [reject.reason for reject in source.rejects] == ["unreadable label file"]
    assert source.read_labels(source.items[0])[0].judged.tolist() == []
    assert len(source.read_labels(source.items[1])[0].boxes) == 1


def test_unknown_task_is_refused(tmp_path):
    with pytest.raises(UserError, match="task=boxes must be one of detect, segment, pose"):
        _labels(tmp_path, f"1 {BOX}", options="&task=boxes")


def test_any_text_gives_labels_rejects_or_one_sentence(tmp_path):
    random = np.random.default_rng(2)
    words = ["0", "1", "2", "0.5", "nan", "inf", "-1", "1e400", "²", "x", "\t", "\r", "\n", "\0"]
    spec = made.yolo(tmp_path, {"a": ""})
    for _ in range(300):
        text = " ".join(random.choice(words, random.integers(0, 40)))
        (tmp_path / "labels/train/a.txt").write_text(text, newline="")
        try:
            source = open_spec(spec)
        except UserError as error:
            assert len(str(error)) < 1000
            continue
        labels, rejects = source.read_labels(source.items[0])
        assert np.isfinite(labels.boxes).all()
        # An image without a box is background only where nothing was lost.
        lost = [r for r in (*source.rejects, *rejects) if r.reason != "box clipped to the image"]
        assert (labels.judged is None) == (len(labels.boxes) > 0 or not lost)
