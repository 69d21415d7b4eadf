"""Embedded data: procedural detection scenes, endless, labelled exactly, without a file.

An image is a function of (split, seed, index, domain) alone, to the last bit, on every
machine and NumPy version: numbers come from counter-based raw streams (`scenes_random`),
pixels from arithmetic that IEEE 754 rounds correctly (+ - * / sqrt floor, no sine, no
matrix product, no float sum whose order could change), and the PNG is written without
compression, so its bytes depend on no zlib either.

Objects and their boxes depend on (split, seed, index) only: in another domain the same
scene is seen by night or in fog, so a domain shift changes appearance and nothing else.

The scenes are frozen. A change of any pixel makes other data sets of the same name: raise
SCENES_VERSION with it, and every measured number is to be measured again.
"""

import functools
import hashlib
import json

import numpy as np

from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.scenes_backdrop import draw_backdrop
from kd_tf.data.scenes_paint import paint_clutter, paint_object
from kd_tf.data.scenes_png import encode_png
from kd_tf.data.scenes_random import Draws
from kd_tf.data.scenes_shapes import CLASS_NAMES, Placed, place_objects
from kd_tf.data.scenes_weather import DOMAINS, apply_weather
from kd_tf.errors import UserError
from kd_tf.specs import Spec

__all__ = [
    "CLASS_NAMES",
    "DOMAINS",
    "SCENES_VERSION",
    "SPLITS",
    "open_scenes",
    "render_scene",
    "scene_labels",
]

SCENES_VERSION = 1
# Split -> images when `num` is not given; the position in the table is part of the streams.
SPLITS = {"train": 2000, "val": 200, "eval": 500, "unlabeled": 4000}
MIN_SIZE_PX = 64
_ALIASES = {"test": "eval"}
_OBJECTS, _COLOURS, _WEATHER = 0, 1, 2


def render_scene(
    *, seed: int, index: int, domain: str = "clear", size: int = 160, split: str = "train"
) -> tuple[np.ndarray, Labels]:
    """One image and what is in it.

    Objects measure 7 to about 60 pixels whatever `size` is (below 160 the largest shrink to
    a third of it), so a larger image is a roomier scene, not a magnified one.

    Args:
        seed: Chooses the data set, in [0, 2**64).
        index: Chooses the image in it, in [0, 2**64).
        domain: One of DOMAINS; changes the light and the air, never an object.
        size: Height and width in pixels, at least 64.
        split: One of SPLITS; the splits of one seed have no stream of numbers in common.

    Returns:
        The image [size, size, 3] uint8 RGB, and its labels, uppermost object first: see
        `scene_labels`.

    Raises:
        UserError: Unknown domain or split, an impossible size, a negative seed or index.
    """
    _check(seed=seed, index=index, domain=domain, size=size, split=split)
    placed = _place(seed=seed, index=index, size=size, split=split)
    colours = _draws(seed=seed, index=index, split=split, purpose=_COLOURS)
    canvas = draw_backdrop(colours, size=size)
    paint_clutter(canvas, draws=colours)
    for one in reversed(placed):
        paint_object(canvas, one, draws=colours)
    np.clip(canvas, 0.0, 255.0, out=canvas)
    purpose = _WEATHER + DOMAINS.index(domain)
    weather = _draws(seed=seed, index=index, split=split, purpose=purpose)
    canvas = apply_weather(canvas, domain=domain, draws=weather)
    image = np.empty((size, size, 3), np.uint8)
    for channel, plane in enumerate(np.clip(canvas + 0.5, 0.0, 255.0).astype(np.uint8)):
        image[:, :, channel] = plane
    return image, _labels(placed)


def scene_labels(*, seed: int, index: int, size: int = 160, split: str = "train") -> Labels:
    """The labels of `render_scene` without its pixels, several times faster.

    Boxes are tight around the pixels whose centre lies in the object's outline, inside the
    image, as if nothing covered them; `areas` counts those pixels. At least 60 % of every
    object's pixels are to be seen.
    """
    _check(seed=seed, index=index, domain="clear", size=size, split=split)
    return _labels(_place(seed=seed, index=index, size=size, split=split))


def open_scenes(spec: Spec) -> Source:
    """The source of a spec such as `scenes:train?num=2000&seed=0&domain=clear,fog&size=160`.

    The location is the split: train (also when empty), val, eval (or test), unlabeled.
    Options: `num` images; `seed`; `domain`, several with commas take turns by index;
    `size` in pixels; `classes`, with commas: only these are labelled and listed in
    `class_names`, in this order, while the others are still in the images, unmarked;
    `labels=1` gives the split unlabeled its labels, so that pseudo labels can be scored;
    `name`. The original id is `<domain>/<index>`, `image_id` the index.

    Raises:
        UserError: An unknown split, domain or class, one given twice, or an impossible
            number.
    """
    split = _ALIASES.get(spec.location, spec.location) or "train"
    if split not in SPLITS:
        raise UserError(
            f"{spec.text!r}: unknown split {spec.location!r}. Known: {', '.join(SPLITS)}."
        )
    num = _whole(spec, "num", default=SPLITS[split], least=1)
    seed = _whole(spec, "seed", default=0, least=0)
    size = _whole(spec, "size", default=160, least=MIN_SIZE_PX)
    domains = _names(spec, "domain", default=("clear",), known=DOMAINS)
    classes = _names(spec, "classes", default=CLASS_NAMES, known=CLASS_NAMES)
    labeled = split != "unlabeled" or bool(_whole(spec, "labels", default=0, least=0))
    if not labeled and "classes" in spec.options:
        raise UserError(
            f"{spec.text!r}: the split unlabeled has no labels to restrict by classes; "
            "labels=1 gives it some."
        )
    image = functools.partial(render_scene, seed=seed, size=size, split=split)
    labels = functools.partial(scene_labels, seed=seed, size=size, split=split)

    def read_bytes(item: Item) -> bytes:
        return encode_png(image(index=item.image_id, domain=item.location)[0])

    def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
        return _only(labels(index=item.image_id), classes), []

    return Source(
        name=spec.name if spec.location or "name" in spec.options else split,
        class_names=classes if labeled else (),
        items=[
            _item(index, domain=domains[index % len(domains)], size=size) for index in range(num)
        ],
        read_bytes=read_bytes,
        read_labels=read_labels if labeled else None,
        rejects=(),
        fingerprint=_fingerprint(split, seed, num, size, domains, classes),
    )


def _item(index: int, *, domain: str, size: int) -> Item:
    return Item(
        image_id=index,
        original_id=f"{domain}/{index:06d}",
        location=domain,
        height=size,
        width=size,
    )


def _fingerprint(*identity: object) -> str:
    text = json.dumps(["scenes", SCENES_VERSION, *identity])
    return hashlib.sha256(text.encode()).hexdigest()


def _draws(*, seed: int, index: int, split: str, purpose: int) -> Draws:
    return Draws(seed=seed, split=list(SPLITS).index(split), index=index, purpose=purpose)


def _place(*, seed: int, index: int, size: int, split: str) -> list[Placed]:
    draws = _draws(seed=seed, index=index, split=split, purpose=_OBJECTS)
    return place_objects(draws, size=size)


def _labels(placed: list[Placed]) -> Labels:
    return Labels(
        boxes=np.array([one.box for one in placed], np.float32).reshape(-1, 4),
        classes=np.array([CLASS_NAMES.index(one.shape.name) for one in placed], np.int32),
        is_crowd=np.zeros(len(placed), bool),
        areas=np.array([one.area for one in placed], np.float32),
    )


def _only(labels: Labels, class_names: tuple[str, ...]) -> Labels:
    """The labels of some classes, counted in the order of `class_names`."""
    if class_names == CLASS_NAMES:
        return labels
    new_class = np.array(
        [class_names.index(name) if name in class_names else -1 for name in CLASS_NAMES], np.int32
    )
    classes = new_class[labels.classes]
    rows = classes >= 0
    return Labels(labels.boxes[rows], classes[rows], labels.is_crowd[rows], labels.areas[rows])


def _check(*, seed: int, index: int, domain: str, size: int, split: str) -> None:
    for what, value, known in (("domain", domain, DOMAINS), ("split", split, tuple(SPLITS))):
        if value not in known:
            raise UserError(f"unknown scenes {what} {value!r}. Known: {', '.join(known)}.")
    if size < MIN_SIZE_PX:
        raise UserError(f"scenes need a size of at least {MIN_SIZE_PX} pixels, got {size}.")
    if not (0 <= seed < 2**64 and 0 <= index < 2**64):
        raise UserError(f"seed and index of a scene must be in [0, 2**64), got {seed}, {index}.")


def _whole(spec: Spec, key: str, *, default: int, least: int) -> int:
    text = spec.options.get(key, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text) < 2**64:
        raise UserError(
            f"{spec.text!r}: {key} must be a whole number of at least {least}, got {text!r}."
        )
    return int(text)


def _names(
    spec: Spec, key: str, *, default: tuple[str, ...], known: tuple[str, ...]
) -> tuple[str, ...]:
    if key not in spec.options:
        return default
    names = tuple(name.strip() for name in spec.options[key].split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"{spec.text!r}: unknown {key} {unknown[0]!r}. Known: {', '.join(known)}; "
            "several are separated by commas."
        )
    if len(set(names)) < len(names):
        raise UserError(f"{spec.text!r}: {key} names one twice.")
    return names
