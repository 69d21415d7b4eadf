"""The data report: numbers worked out by hand, nine pictures, a minute for 10,000 images."""

import io
import json
import time

import numpy as np
from PIL import Image

from kd_tf.data.contact_sheet import Picture, draw_sheet
from kd_tf.data.survey import survey, to_text, write_survey
from tests.data import made
from tests.data.made import box, open_spec

SIZE = {"height": 24, "width": 40}


def _source(folder):
    """Five images: two boxes and a crowd; one box clipped; turned; broken; a copy."""
    pixels = made.colours()
    files = {
        "1.png": made.encode(pixels),
        "2.jpg": made.encode(pixels, "JPEG"),
        "3.jpg": made.with_orientation(pixels, 6),
        "4.png": b"no image",
        "5.png": made.encode(pixels),
    }
    images = [{"id": n, "file_name": name, **SIZE} for n, name in enumerate(files, start=1)]
    notes = [
        box(image_id=1, category_id=3, area=1023), box(image_id=1, category_id=90, area=1024),
        box(image_id=1, category_id=90, iscrowd=1),
        box(image_id=2, category_id=3, bbox=[-5, 0, 10, 10], area=9216),
        box(image_id=2, category_id=3, bbox=[1, 1, 0, 5]),
    ]  # fmt: skip
    return open_spec(made.coco(folder, images=images, annotations=notes, files=files))


def test_survey_counts_by_hand(tmp_path):
    found = survey(_source(tmp_path)).to_json()
    counts = found.pop("counts")
    assert (counts["seen"], counts["written"]) == (5, 3)
    assert counts["skipped"] == {"duplicate image": 1, "not an image": 1}
    assert counts["skipped_boxes"] == {"box clipped to the image": 1, "box without area": 1}
    assert found == {
        "name": "set",
        "formats": {"png": 2, "jpeg": 1},
        "reencoded": 1,
        "height": {"least": 24, "median": 24, "mean": 29.33, "most": 40},
        "width": {"least": 24, "median": 40, "mean": 34.67, "most": 40},
        "boxes_per_image": {"least": 0, "median": 1, "mean": 1, "most": 2},
        "boxes": {"small": 1, "medium": 1, "large": 1, "crowd": 1},
        "classes": {"cat": {"images": 2, "boxes": 2}, "dog": {"images": 1, "boxes": 1}},
    }


def test_write_survey_leaves_text_numbers_and_pictures(tmp_path):
    out = tmp_path / "out"
    text = write_survey(str(out), [survey(_source(tmp_path / "in"))])
    assert text == (out / "survey.md").read_text()
    assert "images: 5 seen, 3 usable, 2 left out; 1 kept as an upright PNG" in text
    assert "- set/4: starts with b'no image'" in text
    assert "images left out: 1 x not an image" in text
    assert json.loads((out / "survey.json").read_text())[0]["formats"] == {"png": 2, "jpeg": 1}
    sheet = Image.open(io.BytesIO((out / "set.png").read_bytes()))
    assert sheet.size == (960, 336)  # one row of three pictures


def test_survey_of_an_unlabelled_source_shows_nine_pictures(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02d}.png").write_bytes(made.encode(made.colours(24, 30 + number)))
    (tmp_path / "00.png").write_bytes(b"no image")
    found = survey(open_spec(f"images:{tmp_path}?name=set"))
    assert (found.counts.seen, found.counts.written) == (20, 19)
    # The first usable image of each ninth of the listing.
    rows = [int(picture.caption[4:6]) for picture in found.pictures]
    assert rows == [1, 3, 5, 7, 9, 12, 14, 16, 18]
    assert "class" not in to_text(found)
    assert draw_sheet(found.pictures).shape == (3 * 336, 960, 3)


def test_draw_sheet_draws_the_box_where_it_is():
    pixels = np.zeros((64, 64, 3), np.uint8)
    red = (255, 0, 0)
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    picture = Picture("a\nb", pixels, boxes, ["cät"], [red], np.array([False]))
    sheet = draw_sheet([picture])
    # 16 pixels of caption stand above the picture.
    for x, y in ((10, 20), (29, 20), (10, 39), (29, 39)):
        assert tuple(sheet[16 + y, x]) == red
    assert tuple(sheet[16 + 35, 25]) == (0, 0, 0)


def test_survey_takes_less_than_a_minute_for_10_000_photos(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(40):
        noise = np.kron(rng.integers(0, 255, (60, 80, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        (tmp_path / f"{number}.jpg").write_bytes(made.encode(noise, "JPEG", quality=85))
    source = open_spec(f"images:{tmp_path}")
    survey(source)
    start = time.process_time()
    survey(source)
    core_seconds = time.process_time() - start
    # Two cores give 120 core-seconds a minute: 12 ms an image. Measured: 4 ms for 640x480.
    assert core_seconds / 40 * 10_000 < 120
