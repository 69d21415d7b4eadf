"""`coco:INSTANCES.json?images=DIR`: COCO's own format, with its sparse ids as they are."""

import dataclasses
from collections.abc import Callable

import numpy as np
from absl import logging

from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.sources import instances_json, packed, reading
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec

# The judged classes of an image, from its rank in the file and the classes marked in it.
Judged = Callable[[int, np.ndarray], np.ndarray | None]


def open_coco(spec: Spec) -> Source:
    """Lists a COCO instances file; without `images=`, images lie beside the file.

    Image ids and category ids stay as they are, images without annotations are listed, crowd
    annotations keep their flag, and a file without `annotations` is an unlabelled source.

    Raises:
        UserError: See `instances_json.read_instances`; or the folder of images is not there, or
            no image can be used.
    """
    reading.need_file(spec.location, where=spec.text)
    instances = instances_json.read_instances(spec.location)
    folder = spec.options.get("images") or spec.location.rpartition("/")[0] or "."
    reading.need_folder(folder, where=spec.text)
    return build_source(spec, instances, folder=folder, judged=_all_judged)


def build_source(
    spec: Spec, instances: instances_json.Instances, *, folder: str, judged: Judged
) -> Source:
    """A source from a parsed instances file.

    Args:
        spec: Where the name comes from.
        instances: The file.
        folder: Where the images lie.
        judged: Which classes somebody looked for in an image.

    Raises:
        UserError: No image can be used.
    """
    instances = _without_unused_headings(instances, where=spec.text)
    rejects = list(instances.rejects)
    items, ranks = _items(instances.entries, folder, rejects=rejects)
    if not items:
        raise UserError(f"{spec.text}: no usable image; the first: {rejects[0]}.")
    read_bytes, read_header = reading.file_readers()
    labelled = instances.annotations is not None
    read_labels = None
    if labelled:
        boxes = _pack(instances, rejects=rejects, where=spec.text)
        read_labels = _label_reader(
            boxes, ranks=ranks, items=items, judged=judged, read_header=read_header, name=spec.name
        )
    return Source(
        name=spec.name,
        class_names=tuple(name for _, name in instances.categories) if labelled else (),
        items=items,
        read_bytes=read_bytes,
        read_labels=read_labels,
        rejects=tuple(rejects),
        fingerprint=reading.fingerprint([instances.sha256]),
        category_ids=tuple(number for number, _ in instances.categories) if labelled else (),
    )


def _without_unused_headings(
    instances: instances_json.Instances, *, where: str
) -> instances_json.Instances:
    """Leaves out categories that only head others (Roboflow writes one) and have no object."""
    notes = instances.annotations
    used = set() if notes is None else set(notes.category_ids.tolist())
    unused = {number for number in instances.roots if number not in used}
    if not unused or notes is None:
        return instances
    named = ", ".join(name for number, name in instances.categories if number in unused)
    logging.info(
        "%s: left out as a class: %s, a heading of others without an object.", where, named
    )
    kept = [pair for pair in instances.categories if pair[0] not in unused]
    return dataclasses.replace(instances, categories=kept)


def _all_judged(rank: int, marked: np.ndarray) -> None:
    """COCO's annotators looked for every class in every image."""


def _items(
    entries: list[instances_json.ImageEntry], folder: str, *, rejects: list[Reject]
) -> tuple[list[Item], np.ndarray]:
    """Items with a safe file name, and the rank of each among the entries."""
    items, ranks = [], []
    finder = reading.Finder(folder)
    for rank, entry in enumerate(entries):
        try:
            path = finder.path(entry.file_name)
        except RejectedError as error:
            rejects.append(Reject(f"image {entry.image_id}", error.reason, error.detail))
            continue
        items.append(Item(entry.image_id, str(entry.image_id), path, entry.height, entry.width))
        ranks.append(rank)
    return items, np.array(ranks, np.int64)


def _pack(
    instances: instances_json.Instances, *, rejects: list[Reject], where: str
) -> packed.PackedBoxes:
    """The boxes of each entry; an annotation of an unknown image or category is a reject."""
    notes = instances.annotations
    image_ids = np.array([entry.image_id for entry in instances.entries], np.int64)
    images, known_image = _look_up(notes.image_ids, image_ids)
    category_ids = np.array([number for number, _ in instances.categories], np.int64)
    categories, known_category = _look_up(notes.category_ids, category_ids)
    # An annotation of both is counted once, for its image.
    for left_out, ids, reason in (
        (~known_image, notes.image_ids, "annotation of an unknown image"),
        (known_image & ~known_category, notes.category_ids, "annotation of an unknown category"),
    ):
        rejects += [
            Reject(f"annotation {notes.ids[row]}", reason, f"id {ids[row]}", False)
            for row in np.flatnonzero(left_out)
        ]
    good = known_image & known_category
    x, y, width, height = notes.boxes_xywh[good].T
    corners = np.stack([x, y, x + width, y + height], axis=-1)
    packed.refuse_fractions(corners, where=where)
    boxes = packed.raw_boxes(
        corners,
        categories[good],
        is_crowd=notes.is_crowd[good],
        areas=notes.areas[good],
        ids=notes.ids[good],
    )
    lost, known = _look_up(notes.lost_image_ids, image_ids)
    return packed.pack(
        boxes,
        images[good],
        num_images=len(image_ids),
        lost_rows=np.concatenate([images[known_image & ~known_category], lost[known]]),
    )


def _look_up(values: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The position of each value in a sorted table, and whether it is there."""
    if not len(table):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    rows = np.minimum(np.searchsorted(table, values), len(table) - 1)
    return rows, table[rows] == values


def _label_reader(
    boxes: packed.PackedBoxes,
    *,
    ranks: np.ndarray,
    items: list[Item],
    judged: Judged,
    read_header: Callable,
    name: str,
) -> Callable[[Item], tuple[Labels, list[Reject]]]:
    image_ids = np.array([item.image_id for item in items], np.int64)

    def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
        rank = int(ranks[np.searchsorted(image_ids, item.image_id)])
        raw = boxes.of(rank)
        return packed.to_labels(
            raw,
            item=item,
            header=read_header(item),
            judged=judged(rank, raw.classes),
            key=f"{name}/{item.original_id}",
            num_lost=int(boxes.num_lost[rank]),
        )

    return read_labels
