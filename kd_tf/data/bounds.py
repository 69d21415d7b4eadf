"""What a small file may cost when it is decoded: bounds that hold before anything is unpacked.

In graph operations, as an exported model has no Python; `kd_tf.data.images` uses them too.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

# 100 megapixels are 300 MB once decoded; larger files are mostly bombs or whole-slide scans.
MAX_PIXELS = 100_000_000
# Every scan of a JPEG goes over all of its pixels, 1 ns each at least. Progressive photos have
# some 10 scans, so this is no limit for them.
MAX_SCANNED_PIXELS = 20 * MAX_PIXELS

# Images of up to 16 megapixels need some 200 MB each while they are decoded.
_SMALL_PIXELS = 16_000_000
_GIF_HEADER_BYTES = 13
# More than a frame's header, a colour table and a block together.
_BEHIND_THE_END = 2048
_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, b";"


class DecodingRoom:
    """Lets large images into memory one after another, whatever the number of threads.

    Attributes:
        pixels: Of the images larger than 16 megapixels that are decoded at once, together.
    """

    def __init__(self, pixels: int):
        self.pixels = pixels
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for an image of so many pixels, and takes it."""
        if pixels <= _SMALL_PIXELS:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= self.pixels)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


def num_scans(encoded: tf.Tensor) -> tf.Tensor:
    """How many scans a JPEG file has, scalar int64; those of a preview in its EXIF count too."""
    pieces = tf.strings.split(encoded, b"\xff\xda")
    return tf.size(pieces, tf.int64) - 1


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def decode_gif(encoded: tf.Tensor) -> tf.Tensor:
    """The first frame of a GIF file, [H, W, 3] uint8; raises where there is none.

    TensorFlow's kernel unpacks every frame to give the first: 400 frames of 4000x4000 pixels,
    a file of 2 MB, take 6.4 GB. Where the frames have more than `MAX_PIXELS` together, the file
    is cut behind the first.
    """
    content = tf.concat(
        [tf.io.decode_raw(encoded, tf.uint8), tf.zeros([_BEHIND_THE_END], tf.uint8)], 0
    )
    start = _GIF_HEADER_BYTES + _table_bytes(content[10])
    return tf.cond(
        _pixels_at_most(content, start) <= MAX_PIXELS,
        lambda: tf.io.decode_image(encoded, 3, expand_animations=False),
        lambda: _decode_first_frame(encoded, content, start),
    )


def _pixels_at_most(content: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """At least the pixels of all frames: whatever may be a frame's beginning counts as one.

    A frame begins at `start`, or behind the zero byte that ends a block.
    """
    ends = tf.equal(content[:-10], 0) & tf.equal(content[1:-9], _FRAME)
    frames = tf.concat([[start], tf.where(ends)[:, 0] + 1], 0)
    pixels = _number(content, frames + 5) * _number(content, frames + 7)
    return tf.reduce_sum(pixels)


def _decode_first_frame(encoded: tf.Tensor, content: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    frame = tf.while_loop(
        lambda position: tf.equal(content[position], _EXTENSION),
        lambda position: (_behind_blocks(content, position + 2),),
        (start,),
    )[0]
    end = _behind_blocks(content, frame + 11 + _table_bytes(content[frame + 9]))
    height, width = _number(content, frame + 7), _number(content, frame + 5)
    is_sound = tf.equal(content[frame], _FRAME) & (height * width <= MAX_PIXELS)
    # The kernel gives a lone frame's own size, and counts its place from the screen's corner.
    cut = tf.strings.join(
        [
            tf.strings.substr(encoded, tf.zeros([], tf.int64), frame + 1),
            tf.constant(b"\0" * 4),
            tf.strings.substr(encoded, frame + 5, end - frame - 5),
            tf.constant(_TRAILER),
        ]
    )
    with tf.control_dependencies([tf.debugging.assert_equal(is_sound, True)]):
        pixels = tf.io.decode_image(cut, 3, expand_animations=False)
    pixels = tf.ensure_shape(pixels, [None, None, 3])
    top, left = _number(content, frame + 3), _number(content, frame + 1)
    below = tf.maximum(_number(content, tf.constant(8, tf.int64)) - top - height, 0)
    right = tf.maximum(_number(content, tf.constant(6, tf.int64)) - left - width, 0)
    return tf.pad(pixels, [[top, below], [left, right], [0, 0]])


def _behind_blocks(content: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The position behind a chain of blocks, each a byte with its length and its content."""
    end = tf.while_loop(
        lambda place: tf.not_equal(content[place], 0),
        lambda place: (place + 1 + tf.cast(content[place], tf.int64),),
        (tf.minimum(position, tf.size(content, tf.int64) - 1),),
    )[0]
    return end + 1


def _table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """The size of the colour table that a header with these flags has behind it."""
    flags = tf.cast(flags, tf.int64)
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)


def _number(content: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    low, high = (tf.cast(tf.gather(content, position + i), tf.int64) for i in (0, 1))
    return low + 256 * high
