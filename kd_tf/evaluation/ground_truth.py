"""What people marked in a data set, laid out for scoring."""

import dataclasses
import functools
from collections.abc import Collection, Sequence

import numpy as np

from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.errors import RejectedError, UserError


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """The marked objects of a data set, flat and ordered by image.

    Attributes:
        class_names: The run's class list; class indices below point into it.
        category_ids: The data set's own id of each class; 1..C where it has none.
        image_ids: [I] int64, ascending: every image that counts, with objects or without.
        sizes: [I, 2] int64 (height, width) in pixels; 0 where the annotation does not say.
        names: The images' original ids as text, in the same order.
        image_index: [G] int64, row of `image_ids` of each object, ascending.
        boxes: [G, 4] float64, xyxy, pixels of the upright image.
        classes: [G] int32.
        is_crowd: [G] bool; such a box is neither object nor background.
        areas: [G] float64, square pixels as annotated.
        judged: Row of `image_ids` -> the classes somebody could have marked there; a row
            that is missing means all of them.
        rejects: Images and boxes that could not be read; such an image does not count.
        unknown_classes: Name of a class that is not in `class_names` -> objects left out.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: np.ndarray
    sizes: np.ndarray
    names: tuple[str, ...]
    image_index: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    judged: dict[int, np.ndarray]
    rejects: tuple[Reject, ...] = ()
    unknown_classes: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """How many images count."""
        return len(self.image_ids)

    @property
    def num_objects(self) -> int:
        """How many boxes were marked, crowds included."""
        return len(self.classes)

    @functools.cached_property
    def not_exhaustive(self) -> np.ndarray:
        """[K, 2] int64 (row of `image_ids`, class): marked there, but maybe not every object.

        Such objects count, and so do detections that find them; the others do not.
        Source: Gupta et al., LVIS, 2019, section 3.1 (arXiv 1908.03195).
        """
        pairs = [
            (row, index)
            for row, judged in self.judged.items()
            for index in np.setdiff1d(self.classes[self.rows(row)], judged)
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def rows(self, image: int) -> slice:
        """The objects of the image at row `image` of `image_ids`."""
        first, last = np.searchsorted(self.image_index, [image, image + 1])
        return slice(int(first), int(last))


def ground_truth(
    source: Source, *, class_names: Sequence[str], skip: Collection[int] = ()
) -> GroundTruth:
    """Reads every label of a source once.

    Classes are matched by name. An object of a class that the run does not know
    is left out and counted; a class of the run that the source does not know has
    no ground truth, and no AP.

    Args:
        source: A labelled source. Boxes and areas keep the precision it gives.
        class_names: The run's class list.
        skip: Image ids that do not count, for example because they cannot be decoded.

    Raises:
        UserError: If the source has no labels, or gives one image id twice.
    """
    if source.read_labels is None:
        raise UserError(
            f"{source.name!r} has no labels, so nothing can be scored against it. "
            "Give a labelled data set, for example coco:INSTANCES.json?images=DIR."
        )
    kept, labels, rejects = _read(source, skip=frozenset(skip))
    image_ids = np.array([item.image_id for item in kept], np.int64)
    if len(np.unique(image_ids)) != len(image_ids):
        raise UserError(f"{source.name!r} gives the same image id to two images.")
    order = np.argsort(image_ids)
    items = [kept[row] for row in order]
    columns = _columns([labels[row] for row in order], source, tuple(class_names))
    return GroundTruth(
        class_names=tuple(class_names),
        category_ids=_category_ids(source, tuple(class_names)),
        image_ids=image_ids[order],
        sizes=np.array([(i.height, i.width) for i in items], np.int64).reshape(-1, 2),
        names=tuple(item.original_id for item in items),
        rejects=tuple(rejects),
        **columns,
    )


def _read(source: Source, *, skip: frozenset[int]) -> tuple[list[Item], list[Labels], list[Reject]]:
    items, labels, rejects = [], [], []
    for item in source.items:
        if item.image_id in skip:
            continue
        try:
            marked, bad_boxes = source.read_labels(item)
        except RejectedError as error:
            rejects.append(Reject(item.original_id, error.reason, str(error)))
            continue
        items.append(item)
        labels.append(marked)
        rejects.extend(bad_boxes)
    return items, labels, rejects


def _columns(
    labels: list[Labels], source: Source, class_names: tuple[str, ...]
) -> dict[str, np.ndarray | dict]:
    """Joins the labels of all images; classes become indices into the run's list."""
    to_run = np.array(
        [class_names.index(name) if name in class_names else -1 for name in source.class_names],
        np.int32,
    )
    counts = [len(one.classes) for one in labels]
    source_classes = _join([one.classes for one in labels], np.int64, ())
    classes = to_run[source_classes] if len(to_run) else source_classes.astype(np.int32)
    known = classes >= 0
    unknown = np.bincount(source_classes[~known], minlength=len(source.class_names))
    return {
        "image_index": np.repeat(np.arange(len(labels)), counts)[known],
        "boxes": _join([one.boxes for one in labels], np.float64, (4,))[known],
        "classes": classes[known],
        "is_crowd": _join([one.is_crowd for one in labels], bool, ())[known],
        "areas": _join([one.areas for one in labels], np.float64, ())[known],
        "judged": {
            row: np.unique(to_run[one.judged][to_run[one.judged] >= 0])
            for row, one in enumerate(labels)
            if one.judged is not None
        },
        "unknown_classes": {
            source.class_names[index]: int(unknown[index]) for index in np.flatnonzero(unknown)
        },
    }


def _join(parts: list[np.ndarray], dtype: type, tail: tuple[int, ...]) -> np.ndarray:
    parts = [np.asarray(part, dtype).reshape(-1, *tail) for part in parts]
    return np.concatenate([np.zeros((0, *tail), dtype), *parts])


def _category_ids(source: Source, class_names: tuple[str, ...]) -> tuple[int, ...]:
    """The source's own ids; a class it does not have gets the next id that is free."""
    ids = source.category_ids or tuple(range(1, len(source.class_names) + 1))
    known = dict(zip(source.class_names, ids, strict=True))
    free = max(ids, default=0) + 1
    numbered = []
    for name in class_names:
        if name not in known:
            known[name] = free
            free += 1
        numbered.append(int(known[name]))
    return tuple(numbered)
