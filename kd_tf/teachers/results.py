"""`results:FILE.json?categories=FILE`: COCO results, so that a teacher of any framework gets in."""

import os
from collections.abc import Sequence

import numpy as np

from kd_tf import files
from kd_tf.data.items import Item, Source
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.specs import Spec

_KEYS = ("image_id", "category_id", "bbox", "score")


def load_results(spec: Spec) -> "ResultsTeacher":
    """Reads a COCO results file: a list of {image_id, category_id, bbox: [x, y, w, h], score}.

    `categories=FILE` names the categories: a JSON file with "categories" (an instances file
    will do), a list of {id, name}, or a text file, whose line n is category n from 1.
    `images=FILE`, an instances file, joins by file name instead of by the image's id.

    Raises:
        UserError: Not such a file, or a category without a name.
    """
    results = _read_json(spec, spec.location)
    if not isinstance(results, list) or not all(
        isinstance(r, dict) and all(key in r for key in _KEYS) for r in results
    ):
        raise UserError(
            f"{spec.text!r} is not a COCO results file: a list of objects with {', '.join(_KEYS)}."
        )
    categories = _categories(spec)
    unknown = sorted({r["category_id"] for r in results} - set(categories))
    if unknown:
        raise UserError(
            f"{spec.text!r} has results of categories {unknown[:10]}, which ?categories= does "
            f"not name. Known ids: {list(categories)[:10]} ..."
        )
    return ResultsTeacher(spec, results, categories=categories, names=_image_names(spec))


class ResultsTeacher:
    """Knows its answers already; implements `data.predict.Recaller`.

    Memory: 28 bytes per result.
    """

    def __init__(
        self, spec: Spec, results: list[dict], *, categories: dict[int, str], names: dict | None
    ):
        self._text = spec.text
        self._names = names
        self._class_names = tuple(categories.values())
        index = {category: i for i, category in enumerate(categories)}
        keys = [self._result_key(r["image_id"]) for r in results]
        self._keys, numbers = np.unique(np.array(keys), return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        self._starts = np.searchsorted(numbers[order], np.arange(len(self._keys) + 1))
        boxes_xywh = np.array([r["bbox"] for r in results], np.float32).reshape(-1, 4)[order]
        self._boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], 1)
        self._scores = np.array([r["score"] for r in results], np.float32)[order]
        self._classes = np.array([index[r["category_id"]] for r in results], np.int32)[order]

    def needs(self) -> Needs:
        """The categories' names; it looks at no image."""
        return Needs(self._class_names, None, None, "none")

    def recall(self, item: Item) -> Detections:
        """The results of one image; none where the file has none for it."""
        place = int(np.searchsorted(self._keys, self._item_key(item))) if len(self._keys) else 0
        if place >= len(self._keys) or self._keys[place] != self._item_key(item):
            place = -1
        rows = slice(0, 0) if place < 0 else slice(self._starts[place], self._starts[place + 1])
        return Detections(self._boxes[rows], self._scores[rows], self._classes[rows])

    def check_images(self, asked: Sequence[Source], *, others: Sequence[Source] = ()) -> None:
        """Refuses to answer for the wrong images.

        Args:
            asked: All listings that the teacher will be asked about.
            others: More images that results may be for.

        Raises:
            UserError: Results are for images that nobody holds, a listing has none, or two
                listings have images that results cannot tell apart.
        """
        keys, known = set(self._keys.tolist()), set()
        for source in asked:
            held = {self._item_key(item) for item in source.items}
            if known & held:
                raise UserError(
                    f"{self._text!r}: the data {asked[0].name!r} and {source.name!r} have images "
                    f"that its results cannot tell apart, such as {min(known & held)!r}. Give "
                    "?images=INSTANCES.json to join by file name, and files of different names."
                )
            if keys and held and not keys & held:
                raise UserError(
                    f"{self._text!r} has no result for any image of the data {source.name!r}. "
                    "Give ?images=INSTANCES.json to join by file name. Where these are validation "
                    "images: give results for them too, or --score_threshold=NUMBER and "
                    "--calibration=none, which ask for none."
                )
            known |= held
        known |= {self._item_key(item) for source in others for item in source.items}
        unknown = sorted(keys - known)
        if unknown:
            names = ", ".join(repr(source.name) for source in asked)
            raise UserError(
                f"{self._text!r} has results for {len(unknown)} images that the data {names} does "
                f"not hold, the first: {unknown[:10]}. Give the data they were made of, or "
                "?images=INSTANCES.json to join by file name."
            )

    def _result_key(self, image_id: int) -> int | str:
        if self._names is None:
            return image_id
        if image_id not in self._names:
            raise UserError(
                f"{self._text!r} has results for image {image_id}, which ?images= does not list."
            )
        return self._names[image_id]

    def _item_key(self, item: Item) -> int | str:
        return item.image_id if self._names is None else os.path.basename(item.location)


def _read_json(spec: Spec, path: str) -> dict | list:
    if not files.exists(path):
        raise UserError(f"{spec.text!r}: there is no file {path!r}.")
    try:
        return files.read_json(path)
    except ValueError as error:
        raise UserError(f"{spec.text!r}: {error}") from error


def _categories(spec: Spec) -> dict[int, str]:
    """Name by category id, in the order of the ids."""
    path = spec.options.get("categories")
    if not path:
        raise UserError(
            f"{spec.text!r}: give ?categories=FILE, an instances JSON or one name a line; a "
            "results file holds ids only."
        )
    if not path.endswith(".json"):
        if not files.exists(path):
            raise UserError(f"{spec.text!r}: there is no file {path!r}.")
        lines = files.read_text(path).splitlines()
        return {i: line.strip() for i, line in enumerate(lines, start=1) if line.strip()}
    content = _read_json(spec, path)
    entries = content.get("categories") if isinstance(content, dict) else content
    try:
        return {entry["id"]: entry["name"] for entry in sorted(entries, key=lambda e: e["id"])}
    except (TypeError, KeyError) as error:
        raise UserError(f"{spec.text!r}: {path} names no categories: {error!r}.") from error


def _image_names(spec: Spec) -> dict[int, str] | None:
    path = spec.options.get("images")
    if not path:
        return None
    content = _read_json(spec, path)
    try:
        return {entry["id"]: os.path.basename(entry["file_name"]) for entry in content["images"]}
    except (TypeError, KeyError) as error:
        raise UserError(f"{spec.text!r}: {path} lists no images: {error!r}.") from error
