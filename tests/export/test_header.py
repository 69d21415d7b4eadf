"""Headers read in the graph, against Pillow."""

import io
import struct
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kd_tf.export.header import Header, read_header, upright
from tests.export import images


@pytest.fixture(scope="module")
def read():
    """`read_header` as a graph that is traced once, with plain Python values."""
    graph = tf.function(read_header, input_signature=[tf.TensorSpec([], tf.string)])

    def run(encoded: bytes) -> Header:
        values = (value.numpy() for value in graph(tf.constant(encoded)))
        kind, height, width, orientation = values
        return Header(kind.decode(), int(height), int(width), int(orientation))

    return run


@pytest.mark.parametrize("jfif", [True, False], ids=["jfif_first", "exif_first"])
@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_header_of_every_orientation_turns_as_pillow(read, orientation, order, jfif):
    encoded = images.jpeg(images.pixels(5, 7), orientation=orientation, order=order, jfif=jfif)
    assert read(encoded) == Header("jpeg", 5, 7, orientation)
    stored = Image.open(io.BytesIO(encoded))
    turned = upright(tf.constant(np.asarray(stored)), tf.constant(orientation))
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(stored)))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("PNG", "png"), ("GIF", "gif"), ("BMP", "bmp"), ("JPEG", "jpeg")],
)
def test_read_header_of_each_format_gives_its_size(read, kind, name):
    encoded = images.encode(images.pixels(300, 517), kind)
    assert read(encoded) == Header(name, 300, 517, 1)


def test_read_header_of_png_with_exif_chunk_gives_orientation(read):
    encoded = images.encode(images.pixels(5, 7), "PNG", exif=images.exif(6))
    assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == 6
    assert read(encoded) == Header("png", 5, 7, 6)


def test_read_header_of_bmp_with_rows_from_the_top_gives_positive_height(read):
    encoded = bytearray(images.encode(images.pixels(5, 7), "BMP"))
    encoded[22:26] = struct.pack("<i", -5)
    assert read(bytes(encoded)) == Header("bmp", 5, 7, 1)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="one_byte"),
        pytest.param(b"hello world" * 9, id="text"),
        pytest.param(b"RIFF\x00\x00\x00\x00WEBPVP8 ", id="webp"),
    ],
)
def test_read_header_of_other_bytes_says_unknown(read, encoded):
    assert read(encoded) == Header("unknown", 0, 0, 1)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(b"\xff\xd8\xff", id="three_bytes"),
        pytest.param(b"\xff\xd8\xff\xe1\x00\x00", id="segment_of_length_0"),
        pytest.param(b"\xff\xd8" + b"\xff" * 5000, id="fill_bytes_only"),
        pytest.param(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 5000, id="endless_empty_comments"),
    ],
)
def test_read_header_of_cut_jpeg_gives_no_size(read, encoded):
    assert read(encoded) == Header("jpeg", 0, 0, 1)


@pytest.mark.parametrize(
    ("position", "value"),
    [
        pytest.param(0, b"XX", id="byte_order"),
        pytest.param(4, b"\xff\xff\xff\x7f", id="directory_far_behind_the_end"),
        pytest.param(8, b"\x00\x00", id="no_entries"),
        pytest.param(22, b"\x13\x01", id="another_tag"),
        pytest.param(24, b"\x02\x00", id="text_instead_of_number"),
        pytest.param(26, b"\x02\x00", id="two_values"),
        pytest.param(30, b"\x09\x00", id="value_9"),
        pytest.param(30, b"\x00\x00", id="value_0"),
    ],
)
def test_read_header_with_odd_exif_counts_as_upright(read, position, value):
    encoded = bytearray(images.jpeg(images.pixels(5, 7), orientation=6))
    start = encoded.index(b"Exif\0\0") + 6 + position
    encoded[start : start + len(value)] = value
    assert read(bytes(encoded)) == Header("jpeg", 5, 7, 1)


def test_read_header_of_damaged_exif_agrees_with_pillow_in_99_percent(read):
    # Not in all: damage in another tag can make Pillow give up the whole block.
    rng = np.random.default_rng(0)
    sound = images.jpeg(images.pixels(5, 7), orientation=6, order="MM")
    first = sound.index(b"Exif\0\0")
    agree = []
    for _ in range(300):
        encoded = bytearray(sound)
        for position in rng.integers(first + 6, first + 46, size=2):
            encoded[position] = rng.integers(256)
        expected = _orientation_by_pillow(bytes(encoded))
        if expected is not None:
            agree.append(read(bytes(encoded)).orientation == expected)
    assert len(agree) > 250
    assert np.mean(agree) >= 0.99


def _orientation_by_pillow(encoded: bytes) -> int | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = Image.open(io.BytesIO(encoded)).getexif().get(0x0112, 1)
        except (OSError, SyntaxError, ValueError, struct.error):
            return None
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
