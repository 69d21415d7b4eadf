"""Reads a COCO results file and the files beside it, entry by entry."""

import unicodedata

from kd_tf import documents
from kd_tf.errors import UserError
from kd_tf.specs import Spec
from kd_tf.values import Json, show, to_number, to_whole

KEYS = ("category_id", "bbox", "score")

# How a results file names an image: a whole number or a text.
Key = int | str


def plain(path: str) -> str:
    return unicodedata.normalize("NFC", path.replace("\\", "/"))


def key_of(entry: Json, row: int, *, spec: Spec, names: dict[int, str] | None) -> Key:
    where = f"{spec.text!r}: result {row}"
    if not isinstance(entry, dict) or not ("image_id" in entry or "file_name" in entry):
        raise UserError(
            f"{spec.text!r} is not a COCO results file: result {row} is {show(entry)}; needed are "
            f"objects with image_id or file_name, and {', '.join(KEYS)}."
        )
    given = entry.get("file_name", entry.get("image_id"))
    if names is not None:
        number = to_whole(entry.get("image_id"))
        if number not in names:
            raise UserError(f"{where} is of image {show(given)}, which ?images= does not list.")
        return names[number]
    if isinstance(given, str) and given.strip():
        return plain(given.strip())
    number = to_whole(given)
    if number is None:
        raise UserError(
            f"{where} has image_id {show(given)}; a whole number, a file name or a path is needed."
        )
    return number


def numbers_of(entry: dict[str, Json], row: int, *, spec: Spec) -> list[float]:
    """Category, box and score of a result."""
    where = f"{spec.text!r}: result {row}, image {show(entry.get('image_id'))},"
    missing = [key for key in KEYS if key not in entry]
    if missing:
        raise UserError(f"{where} has no {missing[0]}: it is not a COCO results file.")
    category = to_whole(entry["category_id"])
    if category is None:
        raise UserError(f"{where} has category_id {show(entry['category_id'])}, no whole number.")
    box = entry["bbox"]
    sides = [to_number(side) for side in box] if isinstance(box, list) else []
    if len(sides) != 4 or None in sides or max(map(abs, filter(None, sides)), default=0) > 1e30:
        raise UserError(
            f"{where} has bbox {show(box)}; four numbers x, y, width, height in pixels are needed. "
            "Leave out results without a box."
        )
    score = to_number(entry["score"])
    if score is None:
        raise UserError(f"{where} has score {show(entry['score'])}; a number in 0..1 is needed.")
    return [category, *(side for side in sides if side is not None), score]


def read_categories(spec: Spec) -> dict[int, str]:
    """Name by category id, in the order of the ids."""
    path = spec.options.get("categories")
    if not path:
        raise UserError(
            f"{spec.text!r}: give ?categories=FILE, an instances JSON or one name a line; a "
            "results file holds ids only."
        )
    if not path.endswith(".json"):
        lines = documents.split_lines(documents.read_text(path, where=repr(spec.text)))
        return {i: line.strip() for i, line in enumerate(lines, start=1) if line.strip()}
    content = documents.read_json(path, where=repr(spec.text))
    entries = content.get("categories") if isinstance(content, dict) else content
    found: dict[int, str] = {}
    for entry in entries if isinstance(entries, list) else [None]:
        number = to_whole(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or not isinstance(entry.get("name"), str):
            raise UserError(
                f"{spec.text!r}: {path} names no categories: it needs a list of objects with id "
                f"and name, got {show(entry if isinstance(entries, list) else content)}."
            )
        if number in found:
            raise UserError(f"{spec.text!r}: {path} names the category {number} twice.")
        found[number] = entry["name"]
    return dict(sorted(found.items()))


def read_image_names(spec: Spec) -> dict[int, str] | None:
    """File name by image id, of the instances file that the spec gives."""
    path = spec.options.get("images")
    if not path:
        return None
    content = documents.read_json(path, where=repr(spec.text))
    entries = content.get("images") if isinstance(content, dict) else None
    found = {}
    for entry in entries if isinstance(entries, list) else [None]:
        number = to_whole(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or not isinstance(entry.get("file_name"), str):
            raise UserError(
                f"{spec.text!r}: {path} lists no images: it needs `images`, objects with id and "
                f"file_name, got {show(entry if isinstance(entries, list) else content)}."
            )
        found[number] = plain(entry["file_name"])
    return found
