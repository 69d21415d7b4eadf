"""What the first bytes of an image file say, in graph operations that never raise.

A SavedModel has no Python, and TensorFlow's decoders ignore EXIF; so the file's format, its
size (to refuse a small file that unpacks to gigabytes) and its orientation are read here.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

JPEG, PNG, GIF, BMP, UNKNOWN = "jpeg", "png", "gif", "bmp", "unknown"

# A real photo has fewer than 30 segments before its pixels; a crafted one may have millions.
_MAX_SEGMENTS = 256
_MAX_TIFF_ENTRIES = 512
# Looked through in one step for the next marker where other bytes stand before it.
_WINDOW = 4096
_ORIENTATION_TAG = 0x0112
_SHORT, _LONG = 3, 4
_EXIF = b"Exif\x00\x00"


class Header(NamedTuple):
    """What a file's header states; nothing of it is checked against the pixels.

    Attributes:
        format: Scalar string, one of the module's constants.
        height, width: Scalar int64, pixels as stored, before `orientation`; 0 where the
            header does not say.
        orientation: Scalar int32, EXIF orientation 1..8; 1 where there is none.
    """

    format: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    orientation: tf.Tensor


def read_header(encoded: tf.Tensor) -> Header:
    """Reads the header of an image file, a scalar string that may hold any bytes.

    Source: ITU T.81 annex B (JPEG segments), CIPA DC-008 4.5-4.6 (EXIF in APP1), PNG 1.3 (eXIf),
    the GIF and BMP file headers.
    """
    start = _bytes_at(encoded, 0, count=26)
    readers = [
        (_starts(start, b"\xff\xd8\xff"), lambda: _read_jpeg(encoded)),
        (_starts(start, b"\x89PNG\r\n\x1a\n"), lambda: _read_png(encoded, start)),
        (_starts(start, b"GIF8"), lambda: _read_gif(start)),
        (_starts(start, b"BM"), lambda: _read_bmp(start)),
    ]
    return Header(
        *tf.case(readers, default=lambda: _header(UNKNOWN, height=0, width=0), exclusive=True)
    )


def _header(kind: str, *, height, width, orientation=1) -> Header:
    return Header(
        tf.constant(kind),
        tf.cast(height, tf.int64),
        tf.cast(width, tf.int64),
        tf.cast(orientation, tf.int32),
    )


def _read_png(encoded: tf.Tensor, start: tf.Tensor) -> Header:
    """Walks the chunks up to the pixels; an eXIf chunk behind them is not looked for."""

    def step(position, exif, _):
        head = _bytes_at(encoded, position, count=8)
        exif = tf.where(_starts(head[4:], b"eXIf") & (exif < 0), position + 8, exif)
        length = tf.minimum(_number(head[0:4], big=True), 1 << 30)
        more = ~_starts(head[4:], b"IDAT") & (position < tf.strings.length(encoded))
        return position + 12 + tf.cast(length, tf.int32), exif, more

    _, exif, _ = _walk(step, (tf.constant(8), tf.constant(-1), tf.constant(True)))
    height, width = _number(start[20:24], big=True), _number(start[16:20], big=True)
    return _header(PNG, height=height, width=width, orientation=_orientation_at(encoded, exif))


def _read_gif(start: tf.Tensor) -> Header:
    return _header(
        GIF, height=_number(start[8:10], big=False), width=_number(start[6:8], big=False)
    )


def _read_bmp(start: tf.Tensor) -> Header:
    # A negative height is allowed: the rows then run from top to bottom.
    height = tf.bitcast(tf.cast(_number(start[22:26], big=False), tf.uint32), tf.int32)
    width = _number(start[18:22], big=False)
    # The oldest header, of 12 bytes, has shorter numbers.
    is_old = tf.equal(_number(start[14:18], big=False), 12)
    height = tf.where(is_old, _number(start[20:22], big=False), tf.cast(height, tf.int64))
    width = tf.where(is_old, _number(start[18:20], big=False), width)
    return _header(BMP, height=tf.abs(height), width=width)


def _read_jpeg(encoded: tf.Tensor) -> Header:
    """Walks the segments up to the frame header, which EXIF has to precede."""
    zero = tf.constant(0, tf.int64)

    def step(position, exif, height, width, _):
        window = _bytes_at(encoded, position, count=_WINDOW)
        # Decoders pass over whatever stands before a marker; 0xFF may be repeated, FF00 is none.
        markers = tf.equal(window[:-1], 0xFF) & ~_is_any(window[1:], 0x00, 0xFF)
        found = tf.reduce_any(markers)
        position += tf.where(found, tf.argmax(markers, output_type=tf.int32), _WINDOW - 1)
        head = _bytes_at(encoded, position, count=10)
        marker, length = head[1], _number(head[2:4], big=True)
        alone = _is_one_of(marker, *range(0xD0, 0xD8))
        frame = (marker >= 0xC0) & (marker <= 0xCF) & ~_is_one_of(marker, 0xC4, 0xC8, 0xCC)
        # Start of scan and end of image close the header; a length below 2 is damage.
        last = frame | _is_one_of(marker, 0xD9, 0xDA) | (~alone & (length < 2))
        is_exif = found & tf.equal(marker, 0xE1) & _starts(head[4:], _EXIF)
        exif = tf.where(is_exif & (exif < 0), position + 10, exif)
        height = tf.where(found & frame, _number(head[5:7], big=True), height)
        width = tf.where(found & frame, _number(head[7:9], big=True), width)
        following = position + tf.where(alone, 2, 2 + tf.cast(length, tf.int32))
        more = tf.where(found, ~last, position < tf.strings.length(encoded))
        return tf.where(found, following, position), exif, height, width, more

    first = (tf.constant(2), tf.constant(-1), zero, zero, tf.constant(True))
    _, exif, height, width, _ = _walk(step, first)
    return _header(JPEG, height=height, width=width, orientation=_orientation_at(encoded, exif))


def _walk(step: Callable[..., tuple], first: tuple) -> tuple:
    """Repeats `step` while its last value is true, but not for ever."""
    return tf.while_loop(
        lambda *state: state[-1],
        step,
        first,
        maximum_iterations=_MAX_SEGMENTS,
        parallel_iterations=1,
    )


def _orientation_at(encoded: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Orientation by the EXIF data at position `exif`; 1 where that is -1."""
    return tf.cond(exif < 0, lambda: 1, lambda: _read_orientation(encoded, exif))


def _read_orientation(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """The orientation tag of the TIFF structure at `start`; 1 where it is absent or odd."""
    head = _bytes_at(encoded, start, count=8)
    big = tf.equal(head[0], ord("M"))
    known = _starts(head, b"II*\x00") | _starts(head, b"MM\x00*")
    folder = start + tf.cast(tf.minimum(_number_of(head[4:8], big), 1 << 24), tf.int32)
    num_entries = _number_of(_bytes_at(encoded, folder, count=2), big)
    num_entries = tf.cast(tf.minimum(num_entries, _MAX_TIFF_ENTRIES), tf.int32)
    # One row more than stated: decode_raw refuses to read nothing.
    entries = tf.reshape(_bytes_at(encoded, folder + 2, count=12 * (num_entries + 1)), [-1, 12])
    entries = entries[:num_entries]
    tags, kinds = _number_of(entries[:, 0:2], big), _number_of(entries[:, 2:4], big)
    single = tf.equal(_number_of(entries[:, 4:8], big), 1)
    short, long = _number_of(entries[:, 8:10], big), _number_of(entries[:, 8:12], big)
    values = tf.where(tf.equal(kinds, _SHORT), short, tf.where(tf.equal(kinds, _LONG), long, 0))
    values = tf.where(single, values, 0)
    # Where the tag is there twice the last one counts, as in Pillow.
    stated = tf.boolean_mask(values, tf.equal(tags, _ORIENTATION_TAG))
    value = tf.concat([[tf.constant(1, tf.int64)], stated], 0)[-1]
    return tf.cast(tf.where(known & (value >= 1) & (value <= 8), value, 1), tf.int32)


def _bytes_at(encoded: tf.Tensor, position, *, count) -> tf.Tensor:
    """`count` bytes from `position` as int32, zeros where the file has ended."""
    position = tf.clip_by_value(position, 0, tf.strings.length(encoded))
    return tf.cast(
        tf.io.decode_raw(tf.strings.substr(encoded, position, count), tf.uint8, fixed_length=count),
        tf.int32,
    )


def _starts(values: tf.Tensor, expected: bytes) -> tf.Tensor:
    return tf.reduce_all(tf.equal(values[: len(expected)], list(expected)))


def _is_one_of(value: tf.Tensor, *allowed: int) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, list(allowed)))


def _is_any(values: tf.Tensor, *allowed: int) -> tf.Tensor:
    """Where values are among those allowed, in the values' shape."""
    return tf.reduce_any(tf.equal(values[..., tf.newaxis], list(allowed)), -1)


def _number(digits: tf.Tensor, *, big: bool) -> tf.Tensor:
    """The unsigned number, int64, in the last axis' bytes."""
    size = digits.shape[-1]
    shifts = [8 * (size - 1 - i if big else i) for i in range(size)]
    return tf.reduce_sum(tf.cast(digits, tf.int64) * [1 << shift for shift in shifts], -1)


def _number_of(digits: tf.Tensor, big: tf.Tensor) -> tf.Tensor:
    """As `_number`, the byte order being known only when the graph runs."""
    return tf.where(big, _number(digits, big=True), _number(digits, big=False))


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns decoded pixels [H, W, C] by their EXIF orientation 1..8.

    Source: EXIF 2.32 section 4.6.4.A, tag 274. As four steps: 5..8 are a transpose first, the
    rest of each is a flip of one or both axes.
    """
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    # 2: mirrored; 3: turned by 180; 4: flipped; 6: turned left, so transpose then mirror;
    # 7: transposed over the other diagonal; 8: turned right, so transpose then flip.
    image = tf.cond(
        _is_one_of(orientation, 2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image
    )
    return tf.cond(
        _is_one_of(orientation, 3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image
    )
