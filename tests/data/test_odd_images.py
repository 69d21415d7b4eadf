"""One test for each row of ODD_INPUTS.md about image files; the inputs are made here."""

import hashlib
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kd_tf.data import images
from kd_tf.data.images import check_image, decode_upright
from kd_tf.errors import RejectedError
from tests.data import made

COLOURS = made.colours()
ALPHA = np.dstack([COLOURS, np.arange(24 * 40, dtype=np.uint32).reshape(24, 40) % 255]).astype(
    np.uint8
)
DEEP = (np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 61 + 130).astype(np.uint16)
HIGH_BYTE = np.repeat((DEEP // 256).astype(np.uint8)[:, :, None], 3, axis=2)
PALETTE = Image.fromarray(COLOURS).quantize(16)
PALETTE_PIXELS = np.array(PALETTE.convert("RGB"))
TURNED = COLOURS[::-1, ::-1].copy()


def _pillow(encoded: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _animated(kind: str, **options) -> bytes:
    frames = [Image.fromarray(TURNED)]
    picture = Image.fromarray(COLOURS)
    return made.encode_picture(picture, kind, save_all=True, append_images=frames, **options)


def _grey_jpeg() -> bytes:
    return made.encode(COLOURS, "JPEG", mode="L")


def _webp_with_alpha() -> bytes:
    return made.encode(ALPHA, "WEBP", mode="RGBA", lossless=True, exact=True)


# Row of the table -> (file, expected pixels or None for Pillow's, greatest difference, re-encoded)
ACCEPTED = {
    "png_named_jpg": (lambda: made.encode(COLOURS), COLOURS, 0, False),
    "jpeg_cmyk": (lambda: made.encode(COLOURS, "JPEG", mode="CMYK", quality=95), None, 2, False),
    "jpeg_grayscale": (_grey_jpeg, None, 0, False),
    "jpeg_with_further_pictures": (lambda: _animated("MPO", quality=95), None, 0, False),
    "png_16_bit": (lambda: made.encode_picture(Image.fromarray(DEEP), "PNG"), HIGH_BYTE, 0, False),
    "png_palette": (lambda: made.encode_picture(PALETTE, "PNG"), PALETTE_PIXELS, 0, False),
    "png_palette_transparent": (
        lambda: made.encode_picture(PALETTE, "PNG", transparency=3), PALETTE_PIXELS, 0, False,
    ),
    "png_rgba": (lambda: made.encode(ALPHA, mode="RGBA"), COLOURS, 0, False),
    "png_one_bit": (lambda: made.encode(COLOURS, mode="1"), None, 0, False),
    "gif_animated": (lambda: _animated("GIF"), None, 0, False),
    "webp": (lambda: made.encode(COLOURS, "WEBP", quality=90), None, 0, False),
    "webp_with_alpha": (_webp_with_alpha, COLOURS, 0, True),
    "webp_animated": (lambda: _animated("WEBP", lossless=True), COLOURS, 0, True),
    "tiff": (lambda: made.encode(COLOURS, "TIFF"), COLOURS, 0, True),
    "tiff_16_bit": (lambda: made.encode_picture(Image.fromarray(DEEP), "TIFF"), HIGH_BYTE, 0, True),
    "bmp": (lambda: made.encode(COLOURS, "BMP"), COLOURS, 0, False),
    "bmp_8_bit_palette": (lambda: made.encode_picture(PALETTE, "BMP"), PALETTE_PIXELS, 0, True),
    "exif_orientation_damaged": (
        lambda: made.with_orientation(COLOURS, 77, "PNG"), COLOURS, 0, False,
    ),
    "pixels_1x1": (lambda: made.encode(COLOURS[:1, :1]), COLOURS[:1, :1], 0, False),
    "pixels_20000x10": (
        lambda: made.encode(np.tile(COLOURS[:10], (1, 500, 1)), "JPEG"), None, 0, False,
    ),
}  # fmt: skip
JPEG = made.encode(COLOURS, "JPEG", quality=90)
REJECTED = {
    "zero_byte_file": (b"", "empty file"),
    "text_named_jpg": (b"Dear reader, this is no photograph.", "not an image"),
    "jpeg_cut_at_10_percent": (JPEG[: len(JPEG) // 10], "damaged image"),
    "jpeg_cut_at_50_percent": (JPEG[: len(JPEG) // 2], "damaged image"),
    "jpeg_cut_at_99_percent": (JPEG[: len(JPEG) * 99 // 100], "damaged image"),
    "jpeg_without_end_marker": (JPEG[:-2], "damaged image"),
    "png_cut": (made.encode(COLOURS)[:-40], "damaged image"),
    "header_of_200_megapixels": (made.png_header(20_000, 10_000), "too many pixels"),
    "animation_or_vector_formats": (
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "not an image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ACCEPTED)
def test_accepted_as_these_pixels(row):
    make, expected, tolerance, reencoded = ACCEPTED[row]
    encoded = make()
    image = check_image(encoded)
    # The independent decoder is Pillow 13.
    expected = _pillow(encoded) if expected is None else expected
    assert image.pixels.shape == expected.shape
    assert image.pixels.dtype == np.uint8
    assert np.abs(image.pixels.astype(int) - expected).max() <= tolerance
    assert image.reencoded is reencoded
    assert (image.encoded != encoded) is reencoded
    assert (image.height, image.width) == expected.shape[:2]


@pytest.mark.parametrize("row", ACCEPTED)
def test_decode_upright_of_what_is_kept_gives_the_very_same_pixels(row):
    image = check_image(ACCEPTED[row][0]())
    again = next(iter(tf.data.Dataset.from_tensors(image.encoded).map(decode_upright)))
    np.testing.assert_array_equal(again, image.pixels)


@pytest.mark.parametrize("row", REJECTED)
def test_rejected_for_this_reason(row):
    encoded, reason = REJECTED[row]
    with pytest.raises(RejectedError) as error:
        check_image(encoded)
    assert error.value.reason == reason
    assert error.value.detail


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_turned_upright(orientation, kind):
    encoded = made.with_orientation(COLOURS, orientation, kind)
    image = check_image(encoded)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    np.testing.assert_array_equal(image.pixels, np.array(upright))
    assert image.orientation == orientation
    assert image.reencoded == (orientation != 1)
    np.testing.assert_array_equal(decode_upright(tf.constant(image.encoded)), image.pixels)


def test_header_of_200_megapixels_is_refused_before_decoding(monkeypatch):
    # A BMP whose header claims 20,000 x 10,000 pixels: a decoder would ask for 600 MB.
    encoded = bytearray(made.encode(COLOURS, "BMP"))
    encoded[18:26] = struct.pack("<ii", 20_000, 10_000)
    monkeypatch.setattr(images, "decode_upright", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(RejectedError, match="too many pixels") as error:
        check_image(bytes(encoded))
    assert "200000000 pixels" in str(error.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_101_megapixels_are_too_many_and_99_are_not():
    with pytest.raises(RejectedError, match="too many pixels: 10100x10000"):
        images.read_header(io.BytesIO(made.png_header(10_100, 10_000)))
    header = images.read_header(io.BytesIO(made.png_header(9_900, 10_000)))
    assert (header.width, header.height) == (9_900, 10_000)


def test_sha256_is_that_of_the_original_file():
    encoded = made.with_orientation(COLOURS, 6)
    assert check_image(encoded).sha256 == hashlib.sha256(encoded).hexdigest()


def test_real_photos_are_decoded_bit_for_bit_as_pillow_does(real_data):
    paths = sorted((real_data / "coco_unlabeled").rglob("*.jpg"))[:20]
    assert len(paths) == 20
    for path in paths:
        encoded = path.read_bytes()
        image = check_image(encoded)
        np.testing.assert_array_equal(image.pixels, _pillow(encoded), err_msg=str(path))
        assert image.encoded == encoded
