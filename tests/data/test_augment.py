"""Augmentation: pixels and boxes move together, and what belongs to a box stays with it."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data import augment
from kd_tf.geometry import letterbox

NO_COLOR = np.eye(3, 4).ravel()


def _tile(*, zoom=1.0, x=0.5, y=0.5, flip=0, color=NO_COLOR) -> tf.Tensor:
    return tf.constant([zoom, x, y, flip, *color], tf.float32)


def _image(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Black with one white rectangle."""
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def _labels(boxes, size: tuple[int, int]) -> dict[str, tf.Tensor]:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    num = len(boxes)
    return {
        "boxes_xyxy_unit": tf.constant(boxes / np.array([size[1], size[0]] * 2, np.float32)),
        "scores": tf.linspace(1.0, 0.5, num) if num else tf.zeros([0]),
        "classes": tf.range(num),
        "weights": tf.linspace(0.9, 0.4, num) if num else tf.zeros([0]),
        "ignore": tf.zeros([num], tf.bool),
    }


def _white_box(canvas: tf.Tensor) -> list[int]:
    """Bounds of the white pixels; grey padding (114) and black are not white."""
    rows, columns = np.where(canvas.numpy().mean(axis=2) > 185)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


_place = tf.function(augment.place, reduce_retracing=True)


@pytest.mark.parametrize(
    ("height", "width"), [(48, 64), (64, 48), (31, 77), (160, 160), (20, 20), (200, 90)]
)
def test_place_without_change_equals_the_letterbox(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    boxes = np.array([[0, 0, width, height], [3, 5, 12, 14]], np.float32)
    size = (64, 96)
    canvas, labels = augment.place(
        tf.constant(pixels),
        _labels(boxes, (height, width)),
        tile=_tile(),
        image_size=size,
        view=size,
    )
    expected = letterbox.resize_image(tf.constant(pixels), size, resize="letterbox")
    np.testing.assert_array_equal(canvas.numpy(), expected.numpy())
    np.testing.assert_allclose(
        labels["boxes"],
        letterbox.boxes_to_input(boxes, (height, width), size, resize="letterbox"),
        atol=1e-4,
    )
    assert not labels["ignore"].numpy().any()


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("zoom", [0.5, 0.77, 1.0, 1.4, 2.2])
@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.3, 0.8), (0.99, 0.99)])
def test_place_box_lies_where_the_white_rectangle_is(flip, zoom, corner):
    pixels = _image(90, 120, (50, 30, 74, 66))
    view = (70, 85)
    canvas, labels = _place(
        tf.constant(pixels),
        _labels([[50, 30, 74, 66]], (90, 120)),
        tile=_tile(zoom=zoom, x=corner[0], y=corner[1], flip=flip),
        image_size=(100, 100),
        view=view,
    )
    if len(labels["boxes"]):
        np.testing.assert_allclose(labels["boxes"][0], _white_box(canvas), atol=1.01)
    else:
        assert canvas.numpy().max() <= 185


def test_place_flip_by_hand():
    # 40 wide: the box 4..10 becomes 30..36; at zoom 1 nothing else moves.
    pixels = _image(40, 40, (4, 8, 10, 20))
    canvas, labels = augment.place(
        tf.constant(pixels),
        _labels([[4, 8, 10, 20]], (40, 40)),
        tile=_tile(flip=1),
        image_size=(40, 40),
        view=(40, 40),
    )
    np.testing.assert_allclose(labels["boxes"].numpy(), [[30, 8, 36, 20]], atol=1e-5)
    assert _white_box(canvas) == [30, 8, 36, 20]


@pytest.mark.parametrize(
    ("box", "kept", "ignored"),
    [
        # Zoom 2 at the left top of a 40 px image: 0..20 is seen.
        pytest.param([2, 2, 10, 10], True, False, id="inside"),
        pytest.param([10, 10, 22, 22], True, False, id="mostly_inside"),
        pytest.param([16, 0, 36, 10], True, False, id="a_fifth_left_is_an_object"),
        pytest.param([17, 0, 37, 10], True, True, id="less_is_ignored"),
        pytest.param([20, 0, 30, 10], False, False, id="touching_from_outside_is_gone"),
        pytest.param([30, 30, 38, 38], False, False, id="outside"),
        pytest.param([19.5, 0, 21, 10], True, True, id="thin_rest_is_ignored"),
    ],
)
def test_place_cut_boxes_are_clipped_ignored_or_gone(box, kept, ignored):
    _, labels = augment.place(
        tf.zeros([40, 40, 3], tf.uint8),
        _labels([box], (40, 40)),
        tile=_tile(zoom=2.0, x=0.0, y=0.0),
        image_size=(40, 40),
        view=(40, 40),
    )
    assert len(labels["boxes"]) == kept
    if kept:
        expected = np.clip(np.array(box) * 2.0, 0, 40)
        np.testing.assert_allclose(labels["boxes"][0], expected, atol=1e-4)
        assert labels["ignore"].numpy().tolist() == [ignored]
        np.testing.assert_allclose(labels["weights"], [0.0 if ignored else 0.9])


@pytest.mark.parametrize(
    ("zoom", "ignored"),
    [pytest.param(1.0, False, id="small_before"), pytest.param(0.5, True, id="made_small")],
)
def test_place_small_box_is_ignored_only_where_the_zoom_made_it_small(zoom, ignored):
    _, labels = augment.place(
        tf.zeros([40, 40, 3], tf.uint8),
        _labels([[5, 5, 6.5, 6.5]], (40, 40)),
        tile=_tile(zoom=zoom),
        image_size=(40, 40),
        view=(40, 40),
    )
    assert labels["ignore"].numpy().tolist() == [ignored]


def test_place_without_boxes():
    _, labels = augment.place(
        tf.zeros([10, 10, 3], tf.uint8),
        _labels([], (10, 10)),
        tile=_tile(zoom=1.5, flip=1),
        image_size=(20, 20),
        view=(20, 20),
    )
    assert labels["boxes"].shape == (0, 4)


def test_place_keeps_everything_of_a_box_together():
    boxes = [[30, 30, 38, 38], [2, 2, 8, 8], [17, 0, 37, 10], [4, 4, 16, 16]]
    given = _labels(boxes, (40, 40))
    _, labels = augment.place(
        tf.zeros([40, 40, 3], tf.uint8),
        given,
        tile=_tile(zoom=2.0, x=0.0, y=0.0, flip=1),
        image_size=(40, 40),
        view=(40, 40),
    )
    assert labels["classes"].numpy().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(labels["scores"], given["scores"][1:])
    np.testing.assert_allclose(labels["weights"], [given["weights"][1], 0, given["weights"][3]])


@pytest.mark.parametrize("centre", [(0.3, 0.3), (0.5, 0.5), (0.7, 0.37)])
def test_mosaic_boxes_lie_where_the_white_rectangles_are(centre):
    size = (80, 100)
    views = augment.mosaic_views(tf.constant(centre), size)
    places = [(20, 10, 60, 50), (40, 30, 80, 70), (30, 40, 90, 80), (10, 10, 50, 90)]
    tiles = []
    for number, (box, (_, view)) in enumerate(zip(places, views, strict=True)):
        given = _labels([box], (100, 100)) | {"classes": tf.constant([number])}
        tile = _tile(zoom=0.6, x=0.4, y=0.6, flip=number % 2)
        image = tf.constant(_image(100, 100, box))
        tiles.append(augment.place(image, given, tile=tile, image_size=size, view=view))
    canvas, labels = augment.join_mosaic(tiles, [corner for corner, _ in views])
    assert canvas.shape == (80, 100, 3)
    seen = set()
    for row, number in enumerate(labels["classes"].numpy()):
        (top, left), (height, width) = views[number]
        part = np.full((80, 100, 3), 0.0, np.float32)
        rows, columns = slice(top, top + height), slice(left, left + width)
        part[rows, columns] = canvas.numpy()[rows, columns]
        np.testing.assert_allclose(labels["boxes"][row], _white_box(tf.constant(part)), atol=1.01)
        seen.add(number)
    white = [n for n, (canvas, _) in enumerate(tiles) if canvas.numpy().max() > 185]
    assert seen == set(white)


def test_mosaic_views_tile_the_image():
    covered = np.zeros((33, 47), int)
    for (top, left), (height, width) in augment.mosaic_views(tf.constant([0.31, 0.68]), (33, 47)):
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all()


def test_mix_blends_pixels_and_keeps_all_boxes():
    labels = {"boxes": tf.ones([1, 4]), "weights": tf.constant([0.3])}
    other = {"boxes": tf.zeros([2, 4]), "weights": tf.constant([0.5, 0.7])}
    canvas, mixed = augment.mix(
        (tf.fill([2, 2, 3], 100.0), labels), (tf.fill([2, 2, 3], 200.0), other), share=0.6
    )
    np.testing.assert_allclose(canvas, np.full((2, 2, 3), 140.0), rtol=1e-6)  # 60 + 80
    np.testing.assert_allclose(mixed["weights"], [0.3, 0.5, 0.7])


def test_place_color_changes_the_image_and_not_the_padding():
    # Plus 20 on every channel; a 20x40 image on 40x40 has 10 rows of grey above and below.
    matrix = np.eye(3, 4)
    matrix[:, 3] = 20
    canvas, _ = augment.place(
        tf.fill([20, 40, 3], tf.constant(50, tf.uint8)),
        _labels([], (20, 40)),
        tile=_tile(color=matrix.ravel()),
        image_size=(40, 40),
        view=(40, 40),
    )
    assert np.unique(canvas[10:30]).tolist() == [70]
    assert np.unique(canvas[:10]).tolist() == np.unique(canvas[30:]).tolist() == [114]
