"""Images of a source as batches for a network, loaded in parallel, a constant number in memory."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from kd_tf.data import datasets
from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.errors import RejectedError, UserError
from kd_tf.geometry.detections import Needs
from kd_tf.geometry.letterbox import resize_image

# Batches that wait for the network: one being filled while one is ready hides uneven decoding.
_READY_BATCHES = 2
_PADDING = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What loading one image gave beside its pixels."""

    height: int = 0
    width: int = 0
    sha256: str = ""
    format: str = ""
    reencoded: bool = False
    reason: str = ""
    detail: str = ""


def load(source: Source, row: int) -> tuple[np.ndarray, Facts]:
    """The upright pixels of an image; one black pixel for an image that is rejected."""
    try:
        image = check_image(source.read_bytes(source.items[row]))
    except RejectedError as error:
        detail = str(error).removeprefix(f"{error.reason}: ").removeprefix(error.reason)
        return np.zeros((1, 1, 3), np.uint8), Facts(reason=error.reason, detail=detail)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{source.key(source.items[row])} cannot be read: {error}") from error
    facts = Facts(image.height, image.width, image.sha256, image.format, image.reencoded)
    return image.pixels, facts


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """One batch as a detector wants it.

    Attributes:
        images: [B, height, width, 3] uint8, resized as the detector needs.
        rows: The B rows of the source they are.
        facts: What loading them gave beside the pixels; an image with a `reason` is black.
    """

    images: np.ndarray
    rows: list[int]
    facts: list[Facts]


def padded_rows(rows: Sequence[int], *, groups: Sequence[int], batch_size: int) -> np.ndarray:
    """The rows, each group filled up with -1 to whole batches."""
    parts, start = [], 0
    for size in groups:
        part = np.asarray(rows[start : start + size], np.int64)
        parts.append(np.pad(part, (0, -size % batch_size), constant_values=_PADDING))
        start += size
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def batches(source: Source, rows: np.ndarray, *, needs: Needs, batch_size: int) -> Iterator[Batch]:
    """Loads rows in parallel, in order, as batches of the size and form a detector needs.

    Args:
        source: Where the images come from.
        rows: From `padded_rows`; filled-up places are not in the batches.
        needs: What the detector must be given.
        batch_size: Rows taken together.

    Raises:
        Exception: Whatever `source.read_bytes` raises except RejectedError.
    """
    loaded: dict[int, Facts] = {}
    failures: list[Exception] = []
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    dataset = dataset.map(
        _loader(source, needs, loaded=loaded, failures=failures),
        num_parallel_calls=datasets.PARALLEL_CALLS,
    )
    dataset = dataset.batch(batch_size).with_options(datasets.options())
    try:
        for images, numbers in dataset.prefetch(_READY_BATCHES):
            batch_rows = [row for row in numbers.numpy().tolist() if row != _PADDING]
            facts = [loaded.pop(row) for row in batch_rows]
            yield Batch(images.numpy()[: len(batch_rows)], batch_rows, facts)
    except tf.errors.OpError as error:
        if failures:
            raise failures[0] from error
        raise


def _loader(
    source: Source, needs: Needs, *, loaded: dict[int, Facts], failures: list[Exception]
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """The map function: a row becomes the detector's input and the row again."""

    def load_pixels(row: np.ndarray) -> np.ndarray:
        if row == _PADDING:
            return np.zeros((1, 1, 3), np.uint8)
        try:
            pixels, loaded[int(row)] = load(source, int(row))
        except Exception as error:
            # TensorFlow would keep the text alone; the consumer raises the error itself.
            failures.append(error)
            raise
        return pixels

    def to_input(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.numpy_function(load_pixels, [row], tf.uint8, stateful=False)
        pixels = tf.ensure_shape(pixels, [None, None, 3])
        target = (needs.height, needs.width)
        image = resize_image(pixels, target, resize=needs.resize, pad_value=needs.pad_value)
        return (image[..., ::-1] if needs.channels == "bgr" else image), row

    return to_input
