"""Encoded images to the network's input, in a graph in which one bad image harms no other."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kd_tf.data.bounds import MAX_PIXELS, MAX_SCANNED_PIXELS, decode_gif, num_scans
from kd_tf.export import bmp
from kd_tf.export import header as headers
from kd_tf.geometry.letterbox import resize_image

# Words of kd_tf.data.images.check_image, so that both ways of refusing an image read alike.
OK = "ok"
EMPTY = "empty file"
UNKNOWN = "not an image"
TOO_LARGE = "too many pixels"
SCANS = "too many scans"
DAMAGED = "damaged image"
NOT_AN_EXAMPLE = "not a tf.train.Example"


class Rows(NamedTuple):
    """A batch as the network takes it.

    Attributes:
        images: [B, height, width, 3] uint8, letterboxed; zeros where `status` is not "ok".
        sizes: [B, 2] int32, (height, width) of the upright originals; zeros likewise.
        status: [B] string, one of the module's constants.
    """

    images: tf.Tensor
    sizes: tf.Tensor
    status: tf.Tensor


def decode_rows(encoded: tf.Tensor, image_size: tuple[int, int]) -> Rows:
    """Decodes files [B] string of any mixture of formats and sizes for the network."""
    return _map_rows(lambda file: _decode_row(file, image_size), encoded, image_size=image_size)


def decode_examples(serialized: tf.Tensor, image_size: tuple[int, int]) -> Rows:
    """Decodes the `image/encoded` of serialised tf.train.Examples [B] string."""

    def row(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        encoded = guarded(_encoded_of, text, otherwise=tf.constant([], tf.string))
        return tf.cond(
            tf.equal(tf.size(encoded), 1),
            lambda: _decode_row(encoded[0], image_size),
            lambda: _no_row(tf.constant(NOT_AN_EXAMPLE), image_size),
        )

    return _map_rows(row, serialized, image_size=image_size)


def resize_rows(images: tf.Tensor, image_size: tuple[int, int]) -> Rows:
    """Letterboxes decoded images [B, H, W, 3] uint8 of any one size."""
    size = tf.shape(images)[1:3]
    sound = tf.reduce_all(size > 0)

    def row(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.cond(
            sound,
            lambda: (resize_image(image, image_size, resize="letterbox"), size, tf.constant(OK)),
            lambda: _no_row(tf.constant(EMPTY), image_size),
        )

    return _map_rows(row, images, image_size=image_size)


def guarded(
    function: Callable[[tf.Tensor], tf.Tensor], value: tf.Tensor, *, otherwise: tf.Tensor
) -> tf.Tensor:
    """`function(value)`, or `otherwise` where an operation of `function` raises.

    A graph cannot catch an error, but a data set can leave out the element that caused it.
    Costs about 0.1 ms; `experiments/benchmarks/serving.py` measures it.
    """
    attempt = tf.data.Dataset.from_tensors(value).map(function).ignore_errors()
    return attempt.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()


def _map_rows(row: Callable, batch: tf.Tensor, *, image_size: tuple[int, int]) -> Rows:
    signature = (
        tf.TensorSpec([*image_size, 3], tf.uint8),
        tf.TensorSpec([2], tf.int32),
        tf.TensorSpec([], tf.string),
    )
    return Rows(*tf.map_fn(row, batch, fn_output_signature=signature))


def _decode_row(
    encoded: tf.Tensor, image_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The image as the network takes it, its upright size, and "ok" or why there is none."""
    header = headers.read_header(encoded)
    refusal = _refusal(encoded, header)
    no_pixels = tf.zeros([0, 0, 3], tf.uint8)
    stored = tf.cond(
        tf.equal(refusal, OK),
        lambda: guarded(_decode_file, encoded, otherwise=no_pixels),
        lambda: no_pixels,
    )
    as_stated = tf.equal(tf.shape(stored, tf.int64)[:2], [header.height, header.width])
    refused = tf.not_equal(refusal, OK)
    status = tf.where(refused | tf.reduce_all(as_stated), refusal, DAMAGED)

    def finish() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = headers.upright(stored, header.orientation)
        return resize_image(image, image_size, resize="letterbox"), tf.shape(image)[:2], status

    return tf.cond(tf.equal(status, OK), finish, lambda: _no_row(status, image_size))


def _refusal(encoded: tf.Tensor, header: headers.Header) -> tf.Tensor:
    """Why no decoder is to see the file, or "ok"."""
    num_pixels = header.height * header.width
    checks = [
        (tf.equal(tf.strings.length(encoded), 0), lambda: tf.constant(EMPTY)),
        (tf.equal(header.format, headers.UNKNOWN), lambda: tf.constant(UNKNOWN)),
        (tf.less(num_pixels, 1), lambda: tf.constant(DAMAGED)),
        (tf.greater(num_pixels, MAX_PIXELS), lambda: tf.constant(TOO_LARGE)),
        (_has_too_many_scans(encoded, header), lambda: tf.constant(SCANS)),
    ]
    return tf.case(checks, default=lambda: tf.constant(OK))


def _has_too_many_scans(encoded: tf.Tensor, header: headers.Header) -> tf.Tensor:
    num_pixels = header.height * header.width
    return tf.cond(
        tf.equal(header.format, headers.JPEG) & (num_pixels <= MAX_PIXELS),
        lambda: num_scans(encoded) * num_pixels > MAX_SCANNED_PIXELS,
        lambda: tf.constant(False),
    )


def _no_row(
    status: tf.Tensor, image_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return tf.zeros([*image_size, 3], tf.uint8), tf.zeros([2], tf.int32), status


def _decode_file(encoded: tf.Tensor) -> tf.Tensor:
    """Pixels [H, W, 3] uint8 as stored, by the kernels of kd_tf.data.images; raises on damage."""
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")
    is_bmp = tf.equal(tf.strings.substr(encoded, 0, 2), b"BM")
    is_gif = tf.equal(tf.strings.substr(encoded, 0, 3), b"GIF")
    pixels = tf.case(
        [
            (is_jpeg, lambda: tf.io.decode_jpeg(encoded, 3, dct_method="INTEGER_ACCURATE")),
            (is_bmp, lambda: bmp.decode(encoded)),
            (is_gif, lambda: decode_gif(encoded)),
        ],
        default=lambda: tf.io.decode_image(encoded, 3, expand_animations=False),
        exclusive=True,
    )
    return tf.ensure_shape(pixels, [None, None, 3])


def _encoded_of(serialized: tf.Tensor) -> tf.Tensor:
    """[1] string, the record's image file; raises where the record cannot be parsed."""
    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string, default_value="")}
    return tf.io.parse_single_example(serialized, features)["image/encoded"][tf.newaxis]
