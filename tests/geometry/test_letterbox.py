"""Resizing against Pillow, and boxes there and back."""

import numpy as np
import PIL.Image
import pytest

from kd_tf.geometry import letterbox

RESIZES = ["letterbox", "letterbox_top_left", "stretch", "none"]


@pytest.mark.parametrize(
    ("original", "target", "resize", "expected"),
    [
        # 640 x 480 into 320: half size, 320 x 240, 40 rows above.
        pytest.param((480, 640), (320, 320), "letterbox", (0.5, 0.5, 0.0, 40.0), id="landscape"),
        pytest.param((640, 480), (320, 320), "letterbox", (0.5, 0.5, 40.0, 0.0), id="portrait"),
        pytest.param(
            (480, 640), (320, 320), "letterbox_top_left", (0.5, 0.5, 0.0, 0.0), id="top_left"
        ),
        pytest.param((100, 50), (200, 200), "stretch", (4.0, 2.0, 0.0, 0.0), id="stretch"),
        pytest.param((100, 50), (200, 200), "none", (1.0, 1.0, 0.0, 0.0), id="none"),
        # 33 / 101 * 64 = 20.9 rows, rounded to 21: the scale is 21 / 33, not 64 / 101.
        pytest.param(
            (33, 101), (64, 64), "letterbox", (64 / 101, 21 / 33, 0.0, 21.0), id="odd_size"
        ),
        # 2 / 1000 * 32 rounds to 0 rows; one is kept.
        pytest.param((2, 1000), (32, 32), "letterbox", (0.032, 0.5, 0.0, 15.0), id="sliver"),
    ],
)
def test_placement_by_hand(original, target, resize, expected):
    np.testing.assert_allclose(
        letterbox.placement(original, target, resize=resize), expected, rtol=1e-12
    )


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("original", [(480, 640), (33, 101), (7, 7), (1001, 17)])
def test_boxes_come_back(original, resize):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1).reshape(50, 4)
    boxes = (corners * np.tile(original[::-1], 2)).astype(np.float32)
    there = letterbox.boxes_to_input(boxes, original, (96, 128), resize=resize)
    back = letterbox.boxes_to_original(there, original, (96, 128), resize=resize)
    # float32 in the input's pixels, magnified by at most 1001 / 96.
    np.testing.assert_allclose(back, boxes, atol=1e-3)


def test_boxes_to_original_clips_the_padding():
    boxes = np.float32([[-5, 0, 400, 320], [10, 0, 20, 39]])
    back = letterbox.boxes_to_original(boxes, (480, 640), (320, 320), resize="letterbox")
    np.testing.assert_allclose(back, [[0, 0, 640, 480], [20, 0, 40, 0]])


def test_no_boxes_stay_no_boxes():
    none = np.zeros((0, 4), np.float32)
    assert letterbox.boxes_to_input(none, (5, 5), (32, 32), resize="letterbox").shape == (0, 4)
    assert letterbox.boxes_to_original(none, (5, 5), (32, 32), resize="stretch").shape == (0, 4)


@pytest.mark.parametrize(
    ("original", "target"),
    [
        pytest.param((120, 160), (96, 128), id="smaller"),
        pytest.param((45, 61), (160, 160), id="larger_odd"),
        pytest.param((101, 33), (64, 96), id="smaller_odd"),
    ],
)
def test_resize_image_is_close_to_pillow(original, target):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (original[0] // 8 + 1, original[1] // 8 + 1, 3), np.uint8)
    image = np.asarray(
        PIL.Image.fromarray(coarse).resize(original[::-1], PIL.Image.Resampling.BICUBIC)
    )
    resized = letterbox.resize_image(image, target, resize="letterbox").numpy()
    sx, sy, left, top = letterbox.placement(original, target, resize="letterbox")
    width, height = round(sx * original[1]), round(sy * original[0])
    expected = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BILINEAR)
    rows, columns = slice(int(top), int(top) + height), slice(int(left), int(left) + width)
    difference = resized[rows, columns].astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference).max() <= 2
    padding = np.ones(target, bool)
    padding[rows, columns] = False
    assert (resized[padding] == 114).all()


def test_resize_image_puts_a_white_square_where_placement_says():
    image = np.zeros((480, 640, 3), np.uint8)
    image[100:200, 300:500] = 255
    resized = letterbox.resize_image(image, (320, 320), resize="letterbox", pad_value=0).numpy()
    box = letterbox.boxes_to_input(
        np.float32([[300, 100, 500, 200]]), (480, 640), (320, 320), resize="letterbox"
    )
    y, x = np.nonzero(resized[..., 0] > 127)
    np.testing.assert_allclose([x.min(), y.min(), x.max() + 1, y.max() + 1], box[0], atol=1)


@pytest.mark.parametrize("resize", RESIZES)
def test_resize_image_of_the_right_size_is_unchanged(resize):
    image = np.random.default_rng(2).integers(0, 256, (32, 64, 3), np.uint8)
    np.testing.assert_array_equal(letterbox.resize_image(image, (32, 64), resize=resize), image)
