"""One training example from the records of its images and the plan, inside the graph."""

import dataclasses

import tensorflow as tf

from kd_tf.data import augment
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.images import decode_upright
from kd_tf.data.parse import ClassTable, parse
from kd_tf.data.select import Labels, SelectSettings, cap, select


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """What is the same for all examples: the arguments of `training_batches`."""

    table: ClassTable
    image_size: tuple[int, int]
    augment: AugmentSettings
    select: SelectSettings
    max_boxes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Ingredients:
    """What one example is made of, as `Fetcher` gives it, as tensors."""

    serialized: tf.Tensor
    number: tf.Tensor
    layout: tf.Tensor
    tiles: tf.Tensor


def compose(ingredients: Ingredients, recipe: Recipe) -> Labels:
    """One example, padded: the values of `training_batches` without the batch dimension."""

    # A function of its own, so that a mosaic and a mixup trace it once instead of six times:
    # building the pipeline takes half as long.
    @tf.function(autograph=False)
    def placed(serialized: tf.Tensor, tile: tf.Tensor, view: tf.Tensor) -> dict:
        return _place(serialized, tile, view=view, number=ingredients.number, recipe=recipe)

    def whole(index: int | tf.Tensor) -> dict:
        view = tf.constant(recipe.image_size)
        return placed(ingredients.serialized[index], ingredients.tiles[index], view)

    def mosaic() -> dict:
        views = augment.mosaic_views(ingredients.layout[:2], recipe.image_size)
        tiles = [
            placed(ingredients.serialized[index], ingredients.tiles[index], tf.stack(view))
            for index, (_, view) in enumerate(views)
        ]
        return _joined(tiles, corners=[corner for corner, _ in views])

    num_tiles = tf.shape(ingredients.tiles)[0]
    if recipe.augment.mosaic:
        example = tf.cond(num_tiles >= 4, mosaic, lambda: whole(0))
    else:
        example = whole(0)
    if recipe.augment.mixup:  # one image more than a single one or than four
        example = tf.cond(
            num_tiles % 3 == 2,
            lambda: _mixed(example, whole(num_tiles - 1), share=ingredients.layout[2]),
            lambda: example,
        )
    return _padded(example, recipe)


def _place(
    serialized: tf.Tensor, tile: tf.Tensor, *, view: tf.Tensor, number: tf.Tensor, recipe: Recipe
) -> dict:
    """One image in its place: "canvas", "labels", "judged" and "id"."""
    content = parse(serialized, recipe.table, number=number)
    canvas, labels = augment.place(
        decode_upright(content["encoded"]),
        select(content, settings=recipe.select, num_classes=recipe.table.num_classes),
        tile=tile,
        image_size=recipe.image_size,
        view=view,
    )
    return {
        "canvas": canvas,
        "labels": labels,
        "judged": content["judged"],
        "id": content["id"],
    }


def _joined(tiles: list[dict], *, corners: list[tuple[tf.Tensor, tf.Tensor]]) -> dict:
    canvas, labels = augment.join_mosaic(
        [(tile["canvas"], tile["labels"]) for tile in tiles], corners
    )
    # A class is background only where every image of the four was judged for it.
    judged = tf.reduce_all(tf.stack([tile["judged"] for tile in tiles]), axis=0)
    return {"canvas": canvas, "labels": labels, "judged": judged, "id": tiles[0]["id"]}


def _mixed(first: dict, second: dict, *, share: tf.Tensor) -> dict:
    canvas, labels = augment.mix(
        (first["canvas"], first["labels"]), (second["canvas"], second["labels"]), share=share
    )
    judged = first["judged"] & second["judged"]
    return {"canvas": canvas, "labels": labels, "judged": judged, "id": first["id"]}


def _padded(example: dict, recipe: Recipe) -> Labels:
    pixels = tf.cast(tf.clip_by_value(tf.round(example["canvas"]), 0.0, 255.0), tf.uint8)
    labels = cap(example["labels"], max_boxes=recipe.max_boxes)
    del labels["scores"]
    num_classes = recipe.table.num_classes
    cut = tf.reduce_any(tf.one_hot(labels.pop("cut_classes"), num_classes, True, False), axis=0)
    return labels | {
        "images": tf.ensure_shape(pixels, [*recipe.image_size, 3]),
        # Of a class whose boxes did not all fit nobody knows where background is.
        "judged": tf.ensure_shape(example["judged"] & ~cut, [num_classes]),
        "ids": example["id"],
    }
