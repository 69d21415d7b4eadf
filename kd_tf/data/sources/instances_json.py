"""Reads a COCO-style instances file into flat arrays; the parsed JSON is never whole in memory."""

import array
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Sequence

import numpy as np

from kd_tf import files
from kd_tf.data.items import Reject
from kd_tf.errors import UserError

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
    """

    ids: np.ndarray
    image_ids: np.ndarray
    category_ids: np.ndarray
    boxes_xywh: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Instances:
    """A whole file.

    Attributes:
        entries: Sorted by image id.
        categories: (id, name), sorted by id.
        annotations: None where the file has no `annotations` at all.
        rejects: Entries that are no image or no annotation.
        sha256: Hex digest of the file.
    """

    entries: list[ImageEntry]
    categories: list[tuple[int, str]]
    annotations: Annotations | None
    rejects: list[Reject]
    sha256: str


def read_instances(path: str) -> Instances:
    """Reads an instances file.

    Raises:
        UserError: It is not JSON, is of another form, names an image id or a category twice,
            or holds no image.
    """
    content = files.read_bytes(path)
    collector = _Collector()
    try:
        parsed = json.loads(content, object_hook=collector.hook)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path!r} is not JSON: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if not isinstance(parsed, dict) or not isinstance(parsed.get("images"), list):
        raise UserError(
            f"{path!r} is JSON, but not a COCO instances file: it needs a list `images`, a list "
            "`categories` and, where it is labelled, a list `annotations`."
        )
    rejects: list[Reject] = []
    entries = _sorted_entries(parsed["images"], path=path, rejects=rejects)
    categories = _categories(parsed.get("categories"), path=path)
    rows = parsed.get("annotations")
    if rows is not None and not isinstance(rows, list):
        raise UserError(f"{path!r}: `annotations` is {type(rows).__name__}, a list is needed.")
    annotations = None if rows is None else collector.finish(rows, rejects)
    return Instances(entries, categories, annotations, rejects, digest)


class _Row(int):
    """Stands in the parsed JSON for an annotation that was moved to this row of the arrays."""

    __slots__ = ()


class _Collector:
    """Moves each annotation into flat arrays as soon as the JSON parser has closed its brace.

    json.loads takes a callback for that; the polygons, which are nine tenths of a COCO file,
    are dropped at once. A whole parsed train2017 would take 3 GB.
    """

    def __init__(self):
        self.numbers = array.array("d")
        self.integers = array.array("q")

    def hook(self, entry: dict) -> "dict | ImageEntry | _Row":
        if "image_id" in entry and "category_id" in entry:
            return self._keep_annotation(entry)
        if "id" in entry and ("file_name" in entry or "coco_url" in entry):
            return _image_entry(entry)
        return entry

    def _keep_annotation(self, entry: dict) -> "dict | _Row":
        ids = (entry.get("id", -1), entry["image_id"], entry["category_id"])
        if not (_is_id(ids[0]) and _is_id(ids[1]) and _is_id(ids[2])):
            return {}
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            box = [math.nan] * 4
        self.numbers.extend([_number(value) for value in box])
        self.numbers.append(_number(entry.get("area")))
        self.integers.extend([*ids, int(bool(entry.get("iscrowd")))])
        return _Row(len(self.integers) // 4 - 1)

    def finish(self, parsed: list, rejects: list[Reject]) -> Annotations:
        """The annotations that really stood in the list `annotations`."""
        for rank, entry in enumerate(parsed):
            if not isinstance(entry, _Row):
                detail = "needs integers image_id and category_id"
                rejects.append(Reject(f"annotation entry {rank}", "bad annotation", detail, False))
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
        )


def _image_entry(entry: dict) -> "dict | ImageEntry":
    name = entry.get("file_name", entry.get("coco_url"))
    if not _is_id(entry["id"]) or not isinstance(name, str):
        return {}
    if "file_name" not in entry:
        name = "/".join(name.rsplit("/", 2)[-2:])
    return ImageEntry(
        entry["id"],
        name,
        _size(entry.get("height")),
        _size(entry.get("width")),
        _ids(entry.get("neg_category_ids")),
        _ids(entry.get("not_exhaustive_category_ids")),
    )


def _is_id(value: object) -> bool:
    return type(value) is int and -_MAX_ID < value < _MAX_ID  # a bool is no id


def _number(value: object) -> float:
    """A float, or NaN for what is no number or too large for one."""
    good = type(value) in (int, float) and -1e30 < value < 1e30
    return float(value) if good else math.nan


def _size(value: object) -> int:
    return int(value) if _is_id(value) and value > 0 else 0


def _ids(values: object) -> Sequence[int]:
    # An array takes 8 bytes an id, a tuple of integers 36: LVIS has a dozen for each image.
    return array.array("q", filter(_is_id, values)) if values and isinstance(values, list) else ()


def _sorted_entries(parsed: list, *, path: str, rejects: list[Reject]) -> list[ImageEntry]:
    entries = [entry for entry in parsed if isinstance(entry, ImageEntry)]
    for rank, entry in enumerate(parsed):
        if not isinstance(entry, ImageEntry):
            detail = "needs an integer id and a file_name"
            rejects.append(Reject(f"image entry {rank}", "bad image entry", detail))
    if not entries:
        raise UserError(f"{path!r} lists no image ({len(rejects)} entries are none).")
    entries.sort(key=lambda entry: entry.image_id)
    for before, after in itertools.pairwise(entries):
        if before.image_id == after.image_id:
            raise UserError(
                f"{path!r} has the image id {after.image_id} more than once: "
                f"{before.file_name!r} and {after.file_name!r}. Ids must be unique."
            )
    return entries


def _categories(parsed: object, *, path: str) -> list[tuple[int, str]]:
    entries = parsed if isinstance(parsed, list) else []
    categories = []
    for entry in entries:
        good = isinstance(entry, dict) and _is_id(entry.get("id"))
        if not good or not isinstance(entry.get("name"), str):
            raise UserError(f"{path!r}: a category needs an integer id and a name, got {entry!r}.")
        categories.append((entry["id"], entry["name"]))
    categories.sort()
    ids = [number for number, _ in categories]
    if len(set(ids)) < len(ids):
        raise UserError(f"{path!r} has a category id more than once: {ids}.")
    return categories
