"""Other views of a source: some of its items, another class list, several as one."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.errors import UserError


def subset(source: Source, rows: Sequence[int]) -> Source:
    """The source with only the items at `rows`, in that order; image ids stay."""
    items = tuple(source.items[row] for row in rows)
    return dataclasses.replace(
        source,
        items=items,
        fingerprint=_digest(source.fingerprint, *(i.original_id for i in items)),
    )


def union_of_classes(sources: Sequence[Source]) -> tuple[str, ...]:
    """The class names of all sources, each once, in the order they first appear."""
    return tuple(dict.fromkeys(name for source in sources for name in source.class_names))


def relabel(source: Source, class_names: tuple[str, ...], *, drop: Sequence[str] = ()) -> Source:
    """The source with its classes mapped by name into another class list.

    Classes of the list that the source does not know are not judged in its images.

    Args:
        source: A labelled source.
        class_names: The run's class list.
        drop: Names of the source's classes that are left out on purpose.

    Raises:
        UserError: A class of the source is neither in the list nor dropped.
    """
    unknown = [n for n in source.class_names if n not in class_names and n not in drop]
    if unknown:
        raise UserError(
            f"{source.name} has classes that the run does not know: {', '.join(unknown)}. "
            f"The run's classes: {', '.join(class_names)}. Add them to --classes, or leave "
            f"them out by --drop_classes={','.join(unknown)}."
        )
    if source.read_labels is None or source.class_names == class_names:
        return source
    index = {name: i for i, name in enumerate(class_names)}
    mapping = np.array([index.get(name, -1) for name in source.class_names], np.int32)
    known = np.unique(mapping[mapping >= 0]).astype(np.int32)
    read = source.read_labels

    def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
        labels, rejects = read(item)
        return _map_labels(labels, mapping, known, len(class_names)), rejects

    ids = dict(zip(source.class_names, source.category_ids, strict=False))
    return dataclasses.replace(
        source,
        class_names=class_names,
        read_labels=read_labels,
        fingerprint=_digest(source.fingerprint, *class_names),
        category_ids=_category_ids(class_names, ids),
    )


def combine(sources: Sequence[Source]) -> Source:
    """Several sources of one class list as one; items keep their identity.

    Image ids stay where no two sources share one; else they become the rank.
    """
    if len(sources) == 1:
        return sources[0]
    owners = [(source, item) for source in sources for item in source.items]
    ids = [item.image_id for _, item in owners]
    if len(set(ids)) < len(ids):
        ids = list(range(1, len(owners) + 1))
    items = tuple(
        dataclasses.replace(item, image_id=image_id, original_id=source.key(item))
        for image_id, (source, item) in zip(ids, owners, strict=True)
    )
    found = {item.original_id: owner for item, owner in zip(items, owners, strict=True)}

    def read_bytes(item: Item) -> bytes:
        source, original = found[item.original_id]
        return source.read_bytes(original)

    def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
        source, original = found[item.original_id]
        return source.read_labels(original)

    def read_sha256(item: Item) -> str:
        source, original = found[item.original_id]
        if source.read_sha256 is not None:
            return source.read_sha256(original)
        return hashlib.sha256(source.read_bytes(original)).hexdigest()

    return Source(
        name="",
        class_names=sources[0].class_names,
        items=items,
        read_bytes=read_bytes,
        read_labels=read_labels if sources[0].read_labels else None,
        rejects=tuple(reject for source in sources for reject in source.rejects),
        fingerprint=_digest(*(source.fingerprint for source in sources)),
        read_sha256=read_sha256,
    )


def _map_labels(labels: Labels, mapping: np.ndarray, known: np.ndarray, num_classes: int) -> Labels:
    classes = mapping[labels.classes]
    keep = classes >= 0
    if labels.judged is None:
        judged = None if len(known) == num_classes else known
    else:
        judged = mapping[labels.judged]
        judged = np.unique(judged[judged >= 0]).astype(np.int32)
    return Labels(
        labels.boxes[keep], classes[keep], labels.is_crowd[keep], labels.areas[keep], judged
    )


def _category_ids(class_names: tuple[str, ...], ids: dict[str, int]) -> tuple[int, ...]:
    """The data set's own ids where every class has one."""
    return tuple(ids[name] for name in class_names) if set(class_names) <= set(ids) else ()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
