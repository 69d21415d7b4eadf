"""Batches to train on: records -> select -> augment -> letterbox -> static padding -> batch."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kd_tf.data import datasets
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.compose import Ingredients, Recipe, compose
from kd_tf.data.fetch import Fetcher, Shelf
from kd_tf.data.order import Order, worker_position
from kd_tf.data.parse import ClassTable
from kd_tf.data.select import Labels, SelectSettings
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError

_PREFETCH = 4


def training_batches(
    records: RecordSet | Sequence[RecordSet],
    *,
    class_names: Sequence[str],
    image_size: tuple[int, int],
    batch_size: int,
    seed: int,
    start_step: int,
    augment: AugmentSettings,
    select: SelectSettings,
    max_boxes: int,
    rows: np.ndarray | None = None,
    drop: Sequence[str] = (),
    worker_index: int = 0,
    num_workers: int = 1,
    num_parallel_calls: int = datasets.PARALLEL_CALLS,
) -> tf.data.Dataset:
    """An endless data set with one batch for each step from `start_step` on.

    The batch of a step depends on nothing but the records, the settings and `seed`:
    starting at step k gives the k-th batch without replay, and the workers' parts, put
    one behind the other, are the batch of a single worker.

    Args:
        records: One or several sets; several are numbered through.
        class_names: The run's classes; records are mapped to them by name.
        image_size: (height, width) of the network's input in pixels.
        batch_size: Images of all workers together.
        seed: Of order and augmentation.
        start_step: The first step wanted, from 0.
        augment: How images are varied.
        select: Which detections are learned, and their weights.
        max_boxes: Boxes per image, at least 1; the best are kept.
        rows: [N] indices of the records to use; None uses all.
        drop: Classes of the records that are left out, by name.
        worker_index: Which part of each batch, in [0, num_workers).
        num_workers: How many parts.
        num_parallel_calls: Images made at a time; changes the speed alone.

    Returns:
        Dicts with B = batch_size / num_workers, M = max_boxes, C = len(class_names):
        "images" uint8 [B, H, W, 3]; "boxes" float32 [B, M, 4] xyxy pixels of the input,
        objects before ignored ones, each by falling score; "classes" int32 [B, M], -1 is
        padding; "weights" float32 [B, M]; "ignore" bool [B, M] (ignore band, crowd, or cut
        to a sliver); "judged" bool [B, C], of a mosaic or mixup those judged in all its
        images, without the classes of boxes beyond `max_boxes`; "ids" string [B]; "num_cut"
        int32 [B], objects beyond `max_boxes`.

    Raises:
        UserError: Settings that do not fit together, or no records.
    """
    _check(batch_size, max_boxes=max_boxes, worker_index=worker_index, num_workers=num_workers)
    select.per_class(len(class_names))
    shelf = Shelf.of(records)
    order = Order(_rows(rows, num=len(shelf)), seed)
    fetcher = Fetcher(shelf, order, augment)
    table = ClassTable(class_names, drop=drop, label_maps=[one.label_map for one in shelf.sets])
    recipe = Recipe(table, tuple(image_size), augment, select, max_boxes)
    share = batch_size // num_workers

    # Nothing here needs AutoGraph; its conversion took 7 of 8 s of building.
    @tf.autograph.experimental.do_not_convert
    def make(index: tf.Tensor) -> Labels:
        position = worker_position(
            index, batch_size=batch_size, worker_index=worker_index, num_workers=num_workers
        )
        return compose(_fetch(fetcher, position), recipe)

    return (
        tf.data.Dataset.range(start_step * share, np.iinfo(np.int64).max)
        .map(make, num_parallel_calls=num_parallel_calls)
        .batch(share, drop_remainder=True)
        .prefetch(_PREFETCH)
        .with_options(datasets.options())
    )


def _check(batch_size: int, *, max_boxes: int, worker_index: int, num_workers: int) -> None:
    if batch_size < 1 or batch_size % num_workers:
        raise UserError(
            f"batch_size {batch_size} is not divisible by the {num_workers} workers; "
            f"try {max(num_workers, batch_size // num_workers * num_workers)}."
        )
    if not 0 <= worker_index < num_workers:
        raise UserError(f"worker_index must be in [0, {num_workers}), got {worker_index}.")
    if max_boxes < 1:
        raise UserError(f"max_boxes must be at least 1, got {max_boxes}.")


def _rows(rows: np.ndarray | None, *, num: int) -> np.ndarray:
    if rows is None:
        return np.arange(num)
    rows = np.asarray(rows)
    if len(rows) and not 0 <= rows.min() <= rows.max() < num:
        raise UserError(f"rows must be in [0, {num}), got {rows.min()} to {rows.max()}.")
    return rows


def _fetch(fetcher: Fetcher, position: tf.Tensor) -> Ingredients:
    # Not stateful: the same position gives the same result, so calls may run side by side
    # under op determinism too.
    serialized, number, layout, tiles = tf.numpy_function(
        fetcher, [position], [tf.string, tf.int32, tf.float32, tf.float32], stateful=False
    )
    return Ingredients(
        tf.ensure_shape(serialized, [None]),
        tf.ensure_shape(number, []),
        tf.ensure_shape(layout, [3]),
        tf.ensure_shape(tiles, [None, 16]),
    )
