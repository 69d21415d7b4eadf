"""Decides which image files are accepted, and as which pixels; the only decoder of images.

Training, labelling and evaluation see the same pixels, because `check_image` and
`decode_upright` decode with the same TensorFlow kernels. Pillow reads headers and EXIF, and the
pixels of formats that TensorFlow reads wrongly or not at all; such an image is re-encoded as PNG.
ODD_INPUTS.md beside this file lists every odd input and what becomes of it.
"""

import dataclasses
import hashlib
import io
import struct
from typing import IO

import numpy as np
import tensorflow as tf
from PIL import Image

from kd_tf.data.bounds import MAX_PIXELS, MAX_SCANNED_PIXELS, DecodingRoom, decode_gif
from kd_tf.errors import RejectedError

_ROOM = DecodingRoom(MAX_PIXELS)
_DCT = "INTEGER_ACCURATE"
_EXIF_ORIENTATION = 274
_FORMATS = {
    "JPEG": "jpeg",
    "MPO": "jpeg",  # A JPEG with further pictures behind it; Pillow opens it as a JPEG first.
    "PNG": "png",
    "GIF": "gif",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tiff",
}
_OPENED = tuple(name for name in _FORMATS if name != "MPO")
# How files of these formats begin: one that cannot be opened all the same is damaged.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
# What Pillow's parsers raise on damaged bytes, found by fuzzing.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What an image file says about itself before anything is decoded.

    Attributes:
        format: "jpeg", "png", "gif", "webp", "bmp" or "tiff".
        height, width: Pixels as stored, before EXIF turns them.
        orientation: EXIF orientation, 1..8; 1 is upright.
    """

    format: str
    height: int
    width: int
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) after EXIF has turned the image."""
        swapped = self.orientation >= 5
        return (self.width, self.height) if swapped else (self.height, self.width)


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that is accepted, and the pixels it is accepted as.

    Attributes:
        encoded: The original file bytes, or an upright PNG where a plain decode goes wrong.
        format: Format of `encoded`.
        height, width: Of the upright image in pixels.
        sha256: Hex digest of the original file.
        orientation: EXIF orientation of the original file, 1..8.
        pixels: [height, width, 3] uint8, RGB.
        reencoded: Whether `encoded` differs from the original file.
    """

    encoded: bytes
    format: str
    height: int
    width: int
    sha256: str
    orientation: int
    pixels: np.ndarray
    reencoded: bool


def read_header(file: IO[bytes]) -> Header:
    """Reads format, size and EXIF orientation from an open file; decodes no pixel.

    Raises:
        RejectedError: "empty file", "not an image", "too many pixels" or "damaged image".
    """
    return _header_of(_open(file))


def check_image(encoded: bytes) -> CheckedImage:
    """Decides whether an image is accepted, and as which pixels.

    Args:
        encoded: The bytes of an image file.

    Returns:
        The image with its pixels upright.

    Raises:
        RejectedError: With one of the reasons "empty file", "not an image", "too many pixels",
            "too many scans", "damaged image". The detail says what was seen.
    """
    opened = [_open(io.BytesIO(encoded))]
    header = _header_of(opened[0])
    with _ROOM.taken(header.height * header.width):
        return _check(encoded, header=header, opened=opened)


def _check(encoded: bytes, *, header: Header, opened: list[Image.Image]) -> CheckedImage:
    pixels, plain = _decode(encoded, header=header, opened=opened)
    if header.orientation != 1:
        pixels = turn_pixels(pixels, header.orientation)
        plain = False
    return CheckedImage(
        encoded=encoded if plain else encode_png(pixels),
        format=header.format if plain else "png",
        height=pixels.shape[0],
        width=pixels.shape[1],
        sha256=hashlib.sha256(encoded).hexdigest(),
        orientation=header.orientation,
        pixels=pixels,
        reencoded=not plain,
    )


def decode_upright(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes, inside a graph, bytes that passed `check_image` to the very same pixels.

    JPEG goes through the accurate DCT: it costs nothing (3.2 ms for 640x480 either way)
    and gives bit for bit what Pillow and OpenCV give; the default is off by 1.4 grey levels.

    Args:
        encoded: `CheckedImage.encoded`, a string scalar.

    Returns:
        [H, W, 3] uint8, RGB.
    """
    pixels = tf.cond(
        tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff"),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT),
        lambda: _decode_other(encoded),
    )
    return tf.ensure_shape(pixels, [None, None, 3])


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.equal(tf.strings.substr(encoded, 0, 3), b"GIF"),
        lambda: decode_gif(encoded),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of pixels [H, W, 3] uint8; weakly compressed, because that is 5 times faster."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def turn_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels [H, W, 3] upright, as EXIF orientation 1..8 asks."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def orient_boxes(boxes: np.ndarray, header: Header) -> np.ndarray:
    """Turns boxes with the image, as `turn_pixels` turns its pixels.

    Args:
        boxes: [N, 4] xyxy in pixels of the stored image.
        header: Of the image; its size is that of the stored image.

    Returns:
        [N, 4] float32 xyxy in pixels of the upright image.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).reshape(-1, 4).T
    height, width = header.upright_size
    if header.orientation >= 5:
        x1, y1, x2, y2 = y1, x1, y2, x2
    if header.orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if header.orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return np.stack([x1, y1, x2, y2], axis=-1).astype(np.float32)


def _open(file: IO[bytes]) -> Image.Image:
    try:
        return Image.open(file, formats=_OPENED)
    except Image.DecompressionBombError as error:
        raise RejectedError("too many pixels", str(error)) from error
    except _DAMAGE as error:
        file.seek(0)
        start = file.read(16)
        if not start:
            raise RejectedError("empty file", "0 bytes") from error
        reason = "damaged image" if start.startswith(_SIGNATURES) else "not an image"
        raise RejectedError(reason, f"starts with {start!r}") from error


def _header_of(picture: Image.Image) -> Header:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise RejectedError(
            "too many pixels", f"{width}x{height}; at most {MAX_PIXELS // 1_000_000} megapixels"
        )
    if width < 1 or height < 1:
        raise RejectedError("damaged image", f"{width}x{height} pixels")
    return Header(_FORMATS[picture.format], height, width, _orientation(picture))


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation; damaged EXIF and values beyond 1..8 count as upright, as viewers do."""
    try:
        value = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode(
    encoded: bytes, *, header: Header, opened: list[Image.Image]
) -> tuple[np.ndarray, bool]:
    """Pixels as stored, and whether a plain TensorFlow decode gives them.

    Takes the picture out of `opened`, so that its memory is free before the second decode.
    """
    if header.format == "jpeg":
        _refuse_scans(encoded, header)
    if header.format in ("jpeg", "png"):
        return _decode_plain(encoded, header), True
    # The rarer formats: TensorFlow reads an 8-bit palette BMP as grey, fails on TIFF, on WebP
    # with alpha and on animated WebP. Where both agree, the original bytes are kept.
    pixels = _decode_with_pillow(opened.pop())
    try:
        plain = np.array_equal(_decode_plain(encoded, header), pixels)
    except RejectedError:
        plain = False
    return pixels, plain


def _refuse_scans(encoded: bytes, header: Header) -> None:
    num_scans = encoded.count(b"\xff\xda")
    if num_scans * header.height * header.width > MAX_SCANNED_PIXELS:
        raise RejectedError("too many scans", f"{num_scans} of {header.width}x{header.height}")


def _decode_plain(encoded: bytes, header: Header) -> np.ndarray:
    try:
        with tf.device("CPU:0"):
            # `decode_upright` spelled out for what is nearly all: its branch costs 0.3 ms.
            if header.format == "jpeg":
                pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT).numpy()
            else:
                pixels = decode_upright(tf.constant(encoded)).numpy()
    except tf.errors.OpError as error:
        raise RejectedError("damaged image", _last_words(error.message)) from error
    if pixels.shape[:2] != (header.height, header.width):
        seen = f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
        raise RejectedError(
            "damaged image", f"header says {header.width}x{header.height}, decoded {seen}"
        )
    return pixels


def _decode_with_pillow(picture: Image.Image) -> np.ndarray:
    try:
        picture.load()
        if picture.mode.startswith(("I", "F")):
            return _high_byte(np.asarray(picture))
        return np.array(picture.convert("RGB"))
    except _DAMAGE as error:
        raise RejectedError("damaged image", str(error)) from error


def _high_byte(values: np.ndarray) -> np.ndarray:
    """Grey pixels of 16-bit values, as TensorFlow reads a 16-bit PNG."""
    if values.dtype.kind == "f" or values.max(initial=0) > 65535 or values.min(initial=0) < 0:
        raise RejectedError("damaged image", f"grey values of type {values.dtype}")
    grey = (values >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _last_words(message: str) -> str:
    return message.split("}} ")[-1].split(" [Op:")[0][:200]
