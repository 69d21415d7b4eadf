"""Reads a COCO-style instances file into flat arrays; the parsed JSON is never whole in memory."""

import array
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence

import numpy as np

from kd_tf import files
from kd_tf.data.items import Reject
from kd_tf.data.sources.coco_box import box_xywh, to_float
from kd_tf.errors import UserError
from kd_tf.values import show, to_flag, to_whole

_MAX_ID = 2**62


@dataclasses.dataclass(frozen=True, slots=True)
class ImageEntry:
    """One entry of `images`.

    Attributes:
        image_id: The file's own id.
        file_name: `file_name`, or the last parts of `coco_url` (LVIS has no file_name).
        height, width: As stated; 0 where they are not.
        absent: Category ids that people verified to be absent (LVIS `neg_category_ids`).
        not_exhaustive: Category ids of which not every instance is marked (LVIS).
    """

    image_id: int
    file_name: str
    height: int
    width: int
    absent: Sequence[int] = ()
    not_exhaustive: Sequence[int] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Annotations:
    """All annotations of a file, in its order.

    Attributes:
        ids: [N] int64, the file's own annotation ids; -1 where there is none.
        image_ids: [N] int64.
        category_ids: [N] int64.
        boxes_xywh: [N, 4] float64 pixels, NaN where `bbox` is not four numbers.
        areas: [N] float32, NaN where not stated.
        is_crowd: [N] bool.
        lost_image_ids: [M] int64, the image of each annotation that is a reject, where it is known.
    """

    ids: np.ndarray
    image_ids: np.ndarray
    category_ids: np.ndarray
    boxes_xywh: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    lost_image_ids: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Instances:
    """A whole file.

    Attributes:
        entries: Sorted by image id.
        categories: (id, name), sorted by id.
        roots: Ids of categories that are only the heading of others (Roboflow writes one).
        annotations: None where the file has no `annotations` at all.
        rejects: Entries that are no image or no annotation.
        sha256: Hex digest of the file.
    """

    entries: list[ImageEntry]
    categories: list[tuple[int, str]]
    roots: frozenset[int]
    annotations: Annotations | None
    rejects: list[Reject]
    sha256: str


def read_instances(path: str) -> Instances:
    """Reads an instances file.

    Numbers may be text ("7") or integral floats, and a box that is not stated is that of the
    annotation's polygons or mask.

    Raises:
        UserError: It is not JSON, is of another form, names an image id or a category twice,
            or holds no image.
    """
    content = files.read_bytes(path)
    collector = _Collector()
    try:
        parsed = json.loads(content, object_hook=collector.hook)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{show(path)} is not JSON: {show(str(error))}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if not isinstance(parsed, dict) or not isinstance(parsed.get("images"), list):
        raise UserError(
            f"{path!r} is JSON, but not a COCO instances file: it needs a list `images`, a list "
            "`categories` and, where it is labelled, a list `annotations`."
        )
    rejects: list[Reject] = []
    entries = _sorted_entries(parsed["images"], path=path, rejects=rejects)
    categories, roots = _categories(parsed.get("categories"), path=path)
    rows = parsed.get("annotations")
    if rows is not None and not isinstance(rows, list):
        raise UserError(f"{path!r}: `annotations` is {type(rows).__name__}, a list is needed.")
    annotations = None if rows is None else collector.finish(rows, rejects)
    return Instances(entries, categories, roots, annotations, rejects, digest)


class _Row(int):
    """Stands in the parsed JSON for an annotation that was moved to this row of the arrays."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Bad:
    """Stands in the parsed JSON for an annotation that cannot be understood."""

    detail: str
    image_id: int | None


class _Collector:
    """Moves each annotation into flat arrays as soon as the JSON parser has closed its brace.

    json.loads takes a callback for that; the polygons, which are nine tenths of a COCO file,
    are dropped at once. A whole parsed train2017 would take 3 GB.
    """

    def __init__(self):
        self.numbers = array.array("d")
        self.integers = array.array("q")

    def hook(self, entry: dict) -> "dict | ImageEntry | _Row | _Bad":
        if "image_id" in entry and "category_id" in entry:
            return self._keep_annotation(entry)
        if "id" in entry and ("file_name" in entry or "coco_url" in entry):
            return _image_entry(entry)
        return entry

    def _keep_annotation(self, entry: dict) -> "_Row | _Bad":
        image_id, category_id = _id(entry["image_id"]), _id(entry["category_id"])
        for key, number in (("image_id", image_id), ("category_id", category_id)):
            if number is None:
                return _Bad(f"{key} is {show(entry[key])}, a whole number is needed", image_id)
        crowd = entry.get("iscrowd")
        is_crowd = False if crowd is None else to_flag(crowd)
        if is_crowd is None:
            return _Bad(f"iscrowd is {show(crowd)}, 0 or 1 is needed", image_id)
        own_id = _id(entry.get("id", -1))
        self.numbers.extend(box_xywh(entry))
        self.numbers.append(to_float(entry.get("area")))
        self.integers.extend([-1 if own_id is None else own_id, image_id, category_id, is_crowd])
        return _Row(len(self.integers) // 4 - 1)

    def finish(self, parsed: list, rejects: list[Reject]) -> Annotations:
        """The annotations that really stood in the list `annotations`."""
        lost = array.array("q")
        for rank, entry in enumerate(parsed):
            if isinstance(entry, _Row):
                continue
            if not isinstance(entry, _Bad):
                found = _id(entry.get("image_id")) if isinstance(entry, dict) else None
                entry = _Bad("needs image_id and category_id", found)
            rejects.append(
                Reject(f"annotation entry {rank}", "bad annotation", entry.detail, False)
            )
            if entry.image_id is not None:
                lost.append(entry.image_id)
        rows = np.array([entry for entry in parsed if isinstance(entry, _Row)], np.int64)
        integers = np.array(self.integers, np.int64).reshape(-1, 4)[rows]
        numbers = np.array(self.numbers, np.float64).reshape(-1, 5)[rows]
        return Annotations(
            ids=integers[:, 0],
            image_ids=integers[:, 1],
            category_ids=integers[:, 2],
            boxes_xywh=numbers[:, :4],
            areas=numbers[:, 4].astype(np.float32),
            is_crowd=integers[:, 3].astype(bool),
            lost_image_ids=np.array(lost, np.int64),
        )


def _image_entry(entry: dict) -> "dict | ImageEntry":
    name = entry.get("file_name", entry.get("coco_url"))
    image_id = _id(entry["id"])
    if image_id is None or not isinstance(name, str):
        return {"id": entry["id"], "file_name": name}
    if "file_name" not in entry:
        name = "/".join(name.rsplit("/", 2)[-2:])
    return ImageEntry(
        image_id,
        name,
        _size(entry.get("height")),
        _size(entry.get("width")),
        _ids(entry.get("neg_category_ids")),
        _ids(entry.get("not_exhaustive_category_ids")),
    )


def _id(value: object) -> int | None:
    # Nearly all are integers, so they take the short way.
    if type(value) is int and -_MAX_ID < value < _MAX_ID:
        return value
    return to_whole(value)


def _size(value: object) -> int:
    size = _id(value)
    return size if size is not None and 0 < size < 2**31 else 0


def _ids(values: object) -> Sequence[int]:
    # An array takes 8 bytes an id, a tuple of integers 36: LVIS has a dozen for each image.
    if not values or not isinstance(values, list):
        return ()
    return array.array("q", (number for value in values if (number := _id(value)) is not None))


def _sorted_entries(parsed: list, *, path: str, rejects: list[Reject]) -> list[ImageEntry]:
    entries = [entry for entry in parsed if isinstance(entry, ImageEntry)]
    for rank, entry in enumerate(parsed):
        if not isinstance(entry, ImageEntry):
            detail = _entry_fault(entry)
            rejects.append(Reject(f"image entry {rank}", "bad image entry", detail))
    if not entries:
        first = f"; the first: {rejects[0].detail}" if rejects else ""
        raise UserError(f"{show(path)} lists no image ({len(rejects)} entries are none{first}).")
    entries.sort(key=lambda entry: entry.image_id)
    for before, after in itertools.pairwise(entries):
        if before.image_id == after.image_id:
            raise UserError(
                f"{path!r} has the image id {after.image_id} more than once: "
                f"{before.file_name!r} and {after.file_name!r}. Ids must be unique."
            )
    return entries


def _entry_fault(entry: object) -> str:
    if not isinstance(entry, dict):
        return f"an entry is {show(entry)}, a table with id and file_name is needed"
    for key in ("id", "file_name"):
        if key not in entry:
            return f"needs a whole number id and a file_name, has no {key}"
    return (
        f"needs a whole number id and a file_name, got id {show(entry['id'])} and file_name "
        f"{show(entry['file_name'])}"
    )


def _categories(parsed: object, *, path: str) -> tuple[list[tuple[int, str]], frozenset[int]]:
    """(id, name) sorted by id, and the ids of those that are the heading of others."""
    categories, headings = [], set()
    for entry in parsed if isinstance(parsed, list) else []:
        number = _id(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or not isinstance(entry.get("name"), str):
            raise UserError(
                f"{show(path)}: a category needs a whole number id and a name, got {_told(entry)}."
            )
        categories.append((number, entry["name"]))
        if isinstance(entry.get("supercategory"), str):
            headings.add(entry["supercategory"])
    categories.sort()
    for (before, name), (after, other) in itertools.pairwise(categories):
        if before == after:
            raise UserError(
                f"{show(path)} has the category id {after} more than once: {show(name)} and "
                f"{show(other)}."
            )
    return categories, frozenset(number for number, name in categories if name in headings)


def _told(entry: object) -> str:
    if not isinstance(entry, dict):
        return show(entry)
    return f"id {show(entry.get('id'))} and name {show(entry.get('name'))}"
