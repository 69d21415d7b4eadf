"""Chooses images: a part of the labels, a validation set, a published list of ids.

Parts are nested: with one seed the 5 % lie inside the 10 %. All images are put into one order,
in which every beginning holds the classes in the proportion of the whole; a part is a beginning.
"""

import collections
import dataclasses
import json
from collections.abc import Sequence

import numpy as np

from kd_tf import documents, files
from kd_tf.data.items import Source
from kd_tf.errors import RejectedError, UserError
from kd_tf.values import show


@dataclasses.dataclass(frozen=True, slots=True)
class ClassTable:
    """Which classes each image holds: all that a split needs to know.

    Attributes:
        starts: [num_images + 1] int64; image i has the entries starts[i] to starts[i + 1].
        classes: int32, class indices, each once for an image, sorted within it.
        usable: [num_images] bool, False where the labels were rejected.
        num_classes: How many classes there are.
    """

    starts: np.ndarray
    classes: np.ndarray
    usable: np.ndarray
    num_classes: int

    def __len__(self) -> int:
        return len(self.usable)

    def of(self, row: int) -> np.ndarray:
        """Class indices [K] int32 of one image."""
        return self.classes[self.starts[row] : self.starts[row + 1]]


def class_table(source: Source) -> ClassTable:
    """Reads the labels of every image of a source; crowds do not count as their class.

    An image whose labels are rejected is in the table, without classes and not usable.
    """
    counts, classes, usable = [0], [], []
    for item in source.items:
        try:
            labels, _ = source.read_labels(item)
        except RejectedError:
            counts.append(0)
            usable.append(False)
            continue
        present = np.unique(labels.classes[~labels.is_crowd])
        counts.append(len(present))
        classes.append(present.astype(np.int32))
        usable.append(True)
    flat = np.concatenate(classes) if classes else np.zeros(0, np.int32)
    return ClassTable(np.cumsum(counts), flat, np.array(usable, bool), len(source.class_names))


def take_fraction(
    table: ClassTable, *, fraction: float, seed: int, rows: Sequence[int] | None = None
) -> np.ndarray:
    """Rows of a part of the images; see `take_number`.

    Args:
        table: Of all images.
        fraction: Of the usable images, in (0, 1]; the number is rounded, but is at least one.
        seed: Any integer.
        rows: The images to choose from; None means all.

    Raises:
        UserError: `fraction` is outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise UserError(f"A fraction of the labels must be in (0, 1], got {fraction}.")
    usable = _usable(table, rows)
    number = max(1, int(fraction * len(usable) + 0.5))
    return take_number(table, number=number, seed=seed, rows=rows)


def take_number(
    table: ClassTable, *, number: int, seed: int, rows: Sequence[int] | None = None
) -> np.ndarray:
    """Sorted rows [number] int64 of a part of the usable images.

    Nested by seed, classes in proportion, and as long as the number allows it at least one
    image of every class. Which classes are missing, `missing_classes` tells.

    Raises:
        UserError: There are fewer usable images than `number`.
    """
    usable = _usable(table, rows)
    if not 1 <= number <= len(usable):
        raise UserError(f"{number} labelled images are asked for; there are {len(usable)}.")
    return np.sort(_order(table, usable, seed=seed)[:number])


def split_validation(
    table: ClassTable, *, fraction: float, seed: int, rows: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Splits the usable images into training and validation.

    The last image of a class stays in training. So a class with a single image is not
    validated, and the validation set may be smaller than asked for.

    Args:
        table: Of all images.
        fraction: For validation, in (0, 1).
        seed: Any integer.
        rows: The images to split; None means all.

    Returns:
        Sorted rows for training and for validation, int64, disjoint.

    Raises:
        UserError: `fraction` is outside (0, 1), or nothing is left for one of the two.
    """
    if not 0.0 < fraction < 1.0:
        raise UserError(f"A fraction for validation must be in (0, 1), got {fraction}.")
    usable = _usable(table, rows)
    number = max(1, int(fraction * len(usable) + 0.5))
    left = _images_per_class(table, usable)
    chosen = []
    for row in _order(table, usable, seed=seed):
        if len(chosen) == number:
            break
        classes = table.of(row)
        if (left[classes] > 1).all():
            left[classes] -= 1
            chosen.append(row)
    validation = np.sort(np.array(chosen, np.int64))
    training = np.setdiff1d(usable, validation)
    if not len(validation) or not len(training):
        raise UserError(
            f"{len(usable)} usable images cannot be split into training and validation. Give more "
            "images, or a validation set of its own by --val_data."
        )
    return training, validation


def missing_classes(table: ClassTable, rows: Sequence[int]) -> np.ndarray:
    """Sorted indices of the classes that have images, but none among `rows`."""
    have = _images_per_class(table, _usable(table, None)) > 0
    kept = _images_per_class(table, np.asarray(rows, np.int64)) > 0
    return np.flatnonzero(have & ~kept)


def write_ids(path: str, source: Source, *, rows: Sequence[int]) -> None:
    """Writes the original ids of rows, one a line; an id with a line break as a JSON string."""
    ids = [source.items[row].original_id for row in rows]
    files.write_text(path, "".join(_escape(name) + "\n" for name in ids))


def read_ids(path: str, source: Source) -> np.ndarray:
    """Sorted rows int64 of the images that a file lists by their original ids.

    Raises:
        UserError: The file is missing or empty, or an id is unknown or there twice.
    """
    if not files.exists(path):
        raise UserError(f"The ids file {path!r} does not exist.")
    ids = [_unescape(line, path) for line in documents.read_lines(path)]
    row_of = {item.original_id: row for row, item in enumerate(source.items)}
    unknown = [name for name in ids if name not in row_of]
    if unknown or not ids:
        example = source.items[0].original_id
        raise UserError(
            f"{path!r} lists {len(ids)} ids; {len(unknown)} are not in {source.name}: "
            f"{', '.join(map(show, unknown[:10]))}. Ids look like {example!r}, one a line."
        )
    if len(set(ids)) < len(ids):
        twice, _ = collections.Counter(ids).most_common(1)[0]
        raise UserError(f"{path!r} lists {twice!r} more than once.")
    return np.sort(np.array([row_of[name] for name in ids], np.int64))


def _escape(name: str) -> str:
    plain = name.strip() == name and "\n" not in name and "\r" not in name and name[:1] != '"'
    return name if plain else json.dumps(name)


def _unescape(line: str, path: str) -> str:
    line = line.strip()
    if not line.startswith('"'):
        return line
    try:
        name = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path!r}: the line {show(line)} is no JSON string: {error}") from error
    if not isinstance(name, str):
        raise UserError(f"{path!r}: the line {show(line)} is no JSON string.")
    return name


def _usable(table: ClassTable, rows: Sequence[int] | None) -> np.ndarray:
    chosen = np.arange(len(table)) if rows is None else np.unique(np.asarray(rows, np.int64))
    return chosen[table.usable[chosen]]


def _images_per_class(table: ClassTable, rows: np.ndarray) -> np.ndarray:
    present = [table.of(row) for row in rows]
    flat = np.concatenate(present) if present else np.zeros(0, np.int32)
    return np.bincount(flat, minlength=table.num_classes)


def _order(table: ClassTable, rows: np.ndarray, *, seed: int) -> np.ndarray:
    """All rows in an order of which every beginning holds the classes in proportion.

    Next comes an image of the class of which the smallest share was taken so far; of equal
    shares, the rarest class. At first all shares are 0, so every class gets an image before
    any gets a second one for its own sake. Images without objects are a class of their own.
    """
    shuffled = np.random.default_rng([abs(seed), int(seed < 0)]).permutation(rows)
    empty = table.num_classes
    totals = np.append(_images_per_class(table, rows), 0)
    queues: list[list[int]] = [[] for _ in totals]
    for row in shuffled[::-1]:
        classes = table.of(row)
        for index in classes if len(classes) else [empty]:
            queues[index].append(row)
    totals[empty] = len(queues[empty])
    shares = np.where(totals > 0, 0.0, np.inf)
    # Breaks ties by rarity; far below the smallest step of a share, 1 / number of images.
    rarity = np.argsort(np.argsort(totals, kind="stable")) * 1e-12
    taken, order = set(), []
    while len(order) < len(rows):
        index = int(np.argmin(shares + rarity))
        row = _next(queues[index], taken)
        if row is None:
            shares[index] = np.inf
            continue
        taken.add(row)
        order.append(row)
        classes = table.of(row) if len(table.of(row)) else [empty]
        shares[classes] += 1.0 / totals[classes]
    return np.array(order, np.int64)


def _next(queue: list[int], taken: set[int]) -> int | None:
    while queue:
        row = queue.pop()
        if row not in taken:
            return row
    return None
