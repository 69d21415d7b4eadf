"""BMP files in graph operations: TensorFlow's own kernel reads many wrongly or not at all."""

from typing import NamedTuple

import tensorflow as tf

_FILE_HEADER_BYTES = 14
_OLD_HEADER_BYTES = 12
_BIT_FIELDS = 3
# Where red, green and blue lie in a pixel.
_MASKS_565 = (0xF800, 0x07E0, 0x001F)
_MASKS_555 = (0x7C00, 0x03E0, 0x001F)
_MASKS_888 = (0xFF0000, 0xFF00, 0xFF)


class _Header(NamedTuple):
    """What the headers state, each a scalar int32.

    Attributes:
        offset: Of the pixels in the file.
        info_bytes: Of the second header; 12 in the oldest kind.
        width, height: In pixels; a height below 0 means rows from the top.
        bits: Of a pixel.
        num_colours: In the palette; 0 where it is not stated.
        masks: [3] where red, green and blue lie in a pixel; zeros where it is not stated.
    """

    offset: tf.Tensor
    info_bytes: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    bits: tf.Tensor
    num_colours: tf.Tensor
    masks: tf.Tensor


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Pixels [H, W, 3] uint8 of an uncompressed BMP; raises on others and on damage.

    Read are 1, 4 and 8 bits through the palette, 16 bits (5-5-5 and 5-6-5), 24 and 32 bits.
    TensorFlow's kernel refuses 1, 4 and 16 bits, and gives the palette's indices of 8 bits.
    """
    header = _read_header(encoded)
    height = tf.abs(header.height)
    row_bytes = (header.width * header.bits + 31) // 32 * 4
    content = tf.strings.substr(encoded, header.offset, row_bytes * height)
    rows = tf.reshape(tf.io.decode_raw(content, tf.uint8), [height, row_bytes])
    rows = tf.cond(header.height > 0, lambda: rows[::-1], lambda: rows)
    return tf.case(
        [
            (header.bits <= 8, lambda: _through_palette(encoded, rows, header=header)),
            (tf.equal(header.bits, 16), lambda: _of_16_bits(rows, header=header)),
        ],
        default=lambda: _of_whole_bytes(rows, header=header),
    )


def _read_header(encoded: tf.Tensor) -> _Header:
    offset, info_bytes = _number(encoded, 10), _number(encoded, _FILE_HEADER_BYTES)

    def old() -> list[tf.Tensor]:
        width, height, bits = (_number(encoded, place, tf.uint16) for place in (18, 20, 24))
        return [width, height, bits, tf.constant(0), tf.zeros([3], tf.int32)]

    def new() -> list[tf.Tensor]:
        compression = _number(encoded, 30)
        is_bit_fields = tf.equal(compression, _BIT_FIELDS)
        masks = tf.cond(
            is_bit_fields,
            lambda: tf.stack([_number(encoded, place) for place in (54, 58, 62)]),
            lambda: tf.zeros([3], tf.int32),
        )
        known = is_bit_fields | tf.equal(compression, 0)
        with tf.control_dependencies([tf.debugging.assert_equal(known, True)]):
            bits = _number(encoded, 28, tf.uint16)
        return [_number(encoded, 18), _number(encoded, 22), bits, _number(encoded, 46), masks]

    return _Header(offset, info_bytes, *tf.cond(tf.equal(info_bytes, _OLD_HEADER_BYTES), old, new))


def _through_palette(encoded: tf.Tensor, rows: tf.Tensor, *, header: _Header) -> tf.Tensor:
    bits = header.bits
    with tf.control_dependencies([_check(_is_one_of(bits, 1, 4, 8) & _has_masks(header))]):
        # The leftmost pixel is in a byte's highest bits.
        shifts = tf.range(8 - bits, -1, -bits)
    places = tf.bitwise.right_shift(tf.cast(rows, tf.int32)[..., tf.newaxis], shifts)
    indices = tf.bitwise.bitwise_and(places, tf.bitwise.left_shift(1, bits) - 1)
    indices = tf.reshape(indices, [tf.shape(rows)[0], -1])[:, : header.width]
    return tf.gather(_palette(encoded, header=header), indices)


def _palette(encoded: tf.Tensor, *, header: _Header) -> tf.Tensor:
    """[256, 3] uint8, red, green, blue; black behind the colours that the file has."""
    start = _FILE_HEADER_BYTES + header.info_bytes
    entry_bytes = tf.where(tf.equal(header.info_bytes, _OLD_HEADER_BYTES), 3, 4)
    stated = header.num_colours
    num_colours = tf.where(stated > 0, stated, tf.bitwise.left_shift(1, header.bits))
    room = tf.clip_by_value((header.offset - start) // entry_bytes, 0, 256)
    num_colours = tf.minimum(num_colours, room)
    content = tf.strings.substr(encoded, start, num_colours * entry_bytes)
    table = tf.reshape(tf.io.decode_raw(content, tf.uint8), [num_colours, entry_bytes])
    return tf.pad(table[:, 2::-1], [[0, 256 - num_colours], [0, 0]])


def _of_16_bits(rows: tf.Tensor, *, header: _Header) -> tf.Tensor:
    low, high = tf.cast(rows[:, ::2], tf.int32), tf.cast(rows[:, 1::2], tf.int32)
    values = (low + 256 * high)[:, : header.width, tf.newaxis]
    with tf.control_dependencies([_check(_has_masks(header, _MASKS_555, _MASKS_565))]):
        is_565 = tf.reduce_all(tf.equal(header.masks, _MASKS_565))
    shifts, most = tf.where(is_565, [11, 5, 0], [10, 5, 0]), tf.where(is_565, [31, 63, 31], 31)
    levels = tf.bitwise.bitwise_and(tf.bitwise.right_shift(values, shifts), most)
    return tf.cast(levels * 255 // most, tf.uint8)


def _of_whole_bytes(rows: tf.Tensor, *, header: _Header) -> tf.Tensor:
    sound = _is_one_of(header.bits, 24, 32) & _has_masks(header, _MASKS_888)
    with tf.control_dependencies([_check(sound)]):
        pixel_bytes = header.bits // 8
    pixels = rows[:, : header.width * pixel_bytes]
    return tf.reshape(pixels, [tf.shape(rows)[0], header.width, pixel_bytes])[:, :, 2::-1]


def _has_masks(header: _Header, *allowed: tuple[int, int, int]) -> tf.Tensor:
    """Whether the masks are not stated, or one of those allowed."""
    choices = tf.constant([(0, 0, 0), *allowed])
    return tf.reduce_any(tf.reduce_all(tf.equal(header.masks, choices), 1))


def _check(condition: tf.Tensor) -> tf.Operation:
    return tf.debugging.assert_equal(condition, True)


def _is_one_of(value: tf.Tensor, *allowed: int) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, list(allowed)))


def _number(encoded: tf.Tensor, position: int, kind: tf.DType = tf.int32) -> tf.Tensor:
    digits = tf.strings.substr(encoded, position, kind.size)
    return tf.cast(tf.io.decode_raw(digits, kind)[0], tf.int32)
