"""The exported model accepts what labelling accepts, as the same pixels; the rest is listed."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.images import check_image, decode_upright
from kd_tf.errors import RejectedError
from kd_tf.export import decoding
from kd_tf.geometry.letterbox import resize_image
from tests.export import images
from tests.export.odd_files import bmp, jpeg_between, jpeg_patched, many_scans, palette_pixels

SIZE = (32, 48)
_565, _555 = (0xF800, 0x07E0, 0x001F), (0x7C00, 0x03E0, 0x001F)
_BGR = (0xFF0000, 0xFF00, 0xFF)

ALIKE = {
    **{f"bmp_{bits}_bit": bmp(bits) for bits in (1, 4, 8, 16, 24, 32)},
    **{f"bmp_{bits}_bit_from_the_top": bmp(bits, top_down=True) for bits in (1, 4, 8, 16, 24, 32)},
    **{f"bmp_{bits}_bit_oldest_header": bmp(bits, old=True) for bits in (1, 4, 8, 24)},
    **{f"bmp_{bits}_bit_newest_header": bmp(bits, header_bytes=124) for bits in (1, 4, 8, 24, 32)},
    **{f"bmp_{bits}_bit_gap": bmp(bits, gap=20) for bits in (1, 4, 8, 16, 24, 32)},
    "bmp_5_of_16_colours": bmp(4, num_colours=5),
    "bmp_100_of_256_colours": bmp(8, num_colours=100),
    "bmp_16_bit_565": bmp(16, masks=_565),
    "bmp_16_bit_555": bmp(16, masks=_555),
    "bmp_32_bit_masks": bmp(32, masks=_BGR),
    "bmp_32_bit_masks_alpha": bmp(32, masks=(*_BGR, 0xFF000000), header_bytes=124),
    "bmp_cut": bmp(4)[:-4],
    "bmp_2_bit": bmp(2),
    "jpeg_zero_between": jpeg_between(b"\0"),
    "jpeg_text_between": jpeg_between(b"stray text"),
    "jpeg_5000_bytes_between": jpeg_between(b"x" * 5000),
    "jpeg_200000_bytes_between": jpeg_between(b"x" * 200_000, everywhere=False),
    "jpeg_fill_byte": jpeg_between(b"\xff"),
    "jpeg_9000_fill_bytes": jpeg_between(b"\xff" * 9000, everywhere=False),
    "jpeg_escaped_ff_between": jpeg_between(b"a\xff\x00b"),
    "jpeg_restart_between": jpeg_between(b"\xff\xd3zz"),
    "jpeg_tem_between": jpeg_between(b"\xff\x01"),
    "jpeg_two_starts": jpeg_between(b"\xff\xd8"),
    "jpeg_reserved_marker": jpeg_between(b"\xff\x02"),
    "jpeg_arithmetic_marker": jpeg_patched(1, 0xC9),
    "jpeg_extended": jpeg_patched(1, 0xC1),
    "jpeg_progressive_marker": jpeg_patched(1, 0xC2),
    "jpeg_lossless": jpeg_patched(1, 0xC3),
    "jpeg_hierarchical": jpeg_patched(1, 0xC5),
    "jpeg_12_bit": jpeg_patched(4, 12),
    "jpeg_many_scans": many_scans(images.pixels(1000, 1000), num_more=2100),
    "jpeg_30_scans": many_scans(images.pixels(16, 24), num_more=20),
}

# What labelling accepts and the exported model refuses; it names the reason.
REFUSED_BY_THE_EXPORT = {
    "bmp_run_length_8": (
        bmp(8, compression=1, data=bytes([13, 5, 0, 0]) * 6 + b"\0\1"), "damaged image"
    ),
    "bmp_run_length_4": (
        bmp(4, compression=2, data=bytes([13, 0x53, 0, 0]) * 6 + b"\0\1"), "damaged image"
    ),
    "bmp_32_bit_red_first": (
        bmp(32, masks=(0xFF, 0xFF00, 0xFF0000, 0xFF000000), header_bytes=124), "damaged image"
    ),
    "webp": (images.encode(images.pixels(9, 9), "WEBP"), "not an image"),
    "tiff": (images.encode(images.pixels(9, 9), "TIFF"), "not an image"),
    "jpeg_1_mb_between_segments": (
        jpeg_between(b"x" * 1_500_000, everywhere=False), "damaged image"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def decode():
    return tf.function(
        lambda file: decoding.decode_rows(file, SIZE),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


def _verdict(encoded: bytes) -> tuple[str, np.ndarray | None]:
    try:
        return "ok", check_image(encoded).pixels
    except RejectedError as error:
        return error.reason, None


def _assert_alike(decode, encoded: bytes) -> str:
    verdict, pixels = _verdict(encoded)
    rows = decode(tf.constant([encoded]))
    assert rows.status.numpy().tolist() == [verdict.encode()]
    if verdict == "ok":
        assert rows.sizes.numpy().tolist() == [list(pixels.shape[:2])]
        expected = resize_image(tf.constant(pixels), SIZE, resize="letterbox")
        np.testing.assert_array_equal(rows.images[0], expected)
    return verdict


@pytest.mark.parametrize("name", ALIKE)
def test_export_and_labelling_have_one_verdict_and_the_same_pixels(decode, name):
    _assert_alike(decode, ALIKE[name])


@pytest.mark.parametrize("name", ALIKE)
def test_records_keep_bytes_that_training_decodes_to_the_same_pixels(name):
    try:
        image = check_image(ALIKE[name])
    except RejectedError:
        return
    np.testing.assert_array_equal(decode_upright(tf.constant(image.encoded)), image.pixels)


def test_the_table_holds_both_verdicts():
    verdicts = {name: _verdict(encoded)[0] for name, encoded in ALIKE.items()}
    refused = {name for name, verdict in verdicts.items() if verdict != "ok"}
    assert refused == {
        "bmp_cut", "bmp_2_bit", "jpeg_tem_between", "jpeg_two_starts", "jpeg_reserved_marker",
        "jpeg_progressive_marker", "jpeg_lossless", "jpeg_hierarchical", "jpeg_12_bit",
        "jpeg_many_scans",
    }  # fmt: skip
    assert verdicts["jpeg_many_scans"] == "too many scans"


@pytest.mark.parametrize("name", REFUSED_BY_THE_EXPORT)
def test_export_refuses_by_name_what_it_cannot_read(decode, name):
    encoded, status = REFUSED_BY_THE_EXPORT[name]
    assert _verdict(encoded)[0] == "ok"
    assert decode(tf.constant([encoded])).status.numpy().tolist() == [status.encode()]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_palette_gives_the_colours_of_the_file(bits):
    np.testing.assert_array_equal(check_image(bmp(bits)).pixels, palette_pixels(bits))


def test_jpeg_bytes_between_segments(decode):
    rng = np.random.default_rng(5)
    verdicts = []
    for _ in range(60):
        stray = bytes(
            rng.choice([0, 1, 0x41, 0xFF, 0xD0, 0xD7, 0xE5], size=rng.integers(1, 6)).astype(
                np.uint8
            )
        )
        verdicts.append(_assert_alike(decode, jpeg_between(stray, everywhere=False)))
    assert verdicts.count("ok") > 20
    assert len(set(verdicts)) == 2
