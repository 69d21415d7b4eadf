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
    tile = _first(ingredients, recipe)
    if recipe.augment.mixup:
        num_tiles = tf.shape(ingredients.tiles)[0]
        tile = tf.cond(
            num_tiles % 3 == 2,  # one more than a single image or than four
            lambda: _mixed(tile, ingredients, recipe),
            lambda: tile,
        )
    pixels = tf.cast(tf.clip_by_value(tf.round(tile["canvas"]), 0.0, 255.0), tf.uint8)
    labels = cap(tile["labels"], max_boxes=recipe.max_boxes)
    del labels["scores"]
    return labels | {
        "images": tf.ensure_shape(pixels, [*recipe.image_size, 3]),
        "judged": tf.ensure_shape(tile["judged"], [recipe.table.num_classes]),
        "ids": tile["id"],
    }


def _first(ingredients: Ingredients, recipe: Recipe) -> dict:
    """The image itself, or the mosaic that it begins."""
    if not recipe.augment.mosaic:
        return _tile(0, ingredients, recipe, view=recipe.image_size)
    return tf.cond(
        tf.shape(ingredients.tiles)[0] >= 4,
        lambda: _mosaic(ingredients, recipe),
        lambda: _tile(0, ingredients, recipe, view=recipe.image_size),
    )


def _tile(
    index: int | tf.Tensor,
    ingredients: Ingredients,
    recipe: Recipe,
    *,
    view: tuple[int | tf.Tensor, int | tf.Tensor],
) -> dict:
    """One image in its place: "canvas", "labels", "judged" and "id"."""
    content = parse(ingredients.serialized[index], recipe.table, number=ingredients.number)
    canvas, labels = augment.place(
        decode_upright(content["encoded"]),
        select(content, settings=recipe.select, num_classes=recipe.table.num_classes),
        tile=ingredients.tiles[index],
        image_size=recipe.image_size,
        view=view,
    )
    return {
        "canvas": canvas,
        "labels": labels,
        "judged": content["judged"],
        "id": content["id"],
    }


def _mosaic(ingredients: Ingredients, recipe: Recipe) -> dict:
    views = augment.mosaic_views(ingredients.layout[:2], recipe.image_size)
    tiles = [_tile(index, ingredients, recipe, view=view) for index, (_, view) in enumerate(views)]
    canvas, labels = augment.join_mosaic(
        [(tile["canvas"], tile["labels"]) for tile in tiles], [corner for corner, _ in views]
    )
    # A class is background only where every image of the four was judged for it.
    judged = tf.reduce_all(tf.stack([tile["judged"] for tile in tiles]), axis=0)
    return {"canvas": canvas, "labels": labels, "judged": judged, "id": tiles[0]["id"]}


def _mixed(tile: dict, ingredients: Ingredients, recipe: Recipe) -> dict:
    last = tf.shape(ingredients.tiles)[0] - 1
    other = _tile(last, ingredients, recipe, view=recipe.image_size)
    canvas, labels = augment.mix(
        (tile["canvas"], tile["labels"]),
        (other["canvas"], other["labels"]),
        share=ingredients.layout[2],
    )
    judged = tile["judged"] & other["judged"]
    return {"canvas": canvas, "labels": labels, "judged": judged, "id": tile["id"]}
