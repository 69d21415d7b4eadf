"""`results:FILE.json?categories=FILE`: COCO results, so that a teacher of any framework gets in."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from kd_tf import documents
from kd_tf.data.items import Item, Source
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.specs import Spec
from kd_tf.teachers import results_file
from kd_tf.teachers.results_file import KEYS, Key, plain
from kd_tf.values import show, to_whole

_JOINS = ("auto", "id", "name")
# What files of images end with, as far as a name without it may mean the same image.
_ENDING = re.compile(r"\.(jpe?g|jpe|png|gif|bmp|webp|tiff?)$", re.IGNORECASE)


def load_results(spec: Spec) -> "ResultsTeacher":
    """Reads a COCO results file: a list of {image_id, category_id, bbox: [x, y, w, h], score}.

    `categories=FILE` names the categories: a JSON file with "categories" (an instances file
    will do), a list of {id, name}, or a text file, whose line n is category n from 1.

    An image is found by what identifies it, never by its rank: `file_name` where a result has
    one, else `image_id`: the data set's own id, a file name, a path (its end, where it is
    absolute), a stem, or a stem as a number (Ultralytics writes 139 for 000139.jpg).
    `images=FILE`, an instances file, turns ids into file names. `join=id` or `join=name` decides
    what a number is where both fit.

    Raises:
        UserError: Not such a file, a result that cannot be used, or a category without a name.
    """
    results = documents.read_json(spec.location, where=repr(spec.text))
    if not isinstance(results, list):
        raise UserError(
            f"{spec.text!r} is not a COCO results file: it holds {show(results)}; needed is a list "
            f"of objects with image_id, {', '.join(KEYS)}."
        )
    if spec.options.get("join", "auto") not in _JOINS:
        raise UserError(
            f"{spec.text!r}: join={spec.options['join']} must be one of {', '.join(_JOINS)}."
        )
    categories = results_file.read_categories(spec)
    names = results_file.read_image_names(spec)
    keys = [
        results_file.key_of(entry, row, spec=spec, names=names) for row, entry in enumerate(results)
    ]
    numbers = [results_file.numbers_of(entry, row, spec=spec) for row, entry in enumerate(results)]
    unknown = sorted({int(row[0]) for row in numbers} - set(categories))
    if unknown:
        raise UserError(
            f"{spec.text!r} has results of categories {unknown[:10]}, which ?categories= does "
            f"not name. Known ids: {list(categories)[:10]} ..."
        )
    values = np.array(numbers, np.float64).reshape(-1, 6)
    return ResultsTeacher(spec, keys, values, categories=categories)


class ResultsTeacher:
    """Knows its answers already; implements `data.predict.Recaller`.

    Memory: 28 bytes per result, and its keys once an image.
    """

    def __init__(
        self, spec: Spec, keys: Sequence[Key], values: np.ndarray, *, categories: dict[int, str]
    ):
        self._text = spec.text
        self._join = spec.options.get("join", "auto")
        self._class_names = tuple(categories.values())
        index = {category: i for i, category in enumerate(categories)}
        self._keys = list(dict.fromkeys(keys))
        number_of = {key: number for number, key in enumerate(self._keys)}
        numbers = np.array([number_of[key] for key in keys], np.int64)
        order = np.argsort(numbers, kind="stable")
        self._starts = np.searchsorted(numbers[order], np.arange(len(self._keys) + 1))
        boxes_xywh = values[order, 1:5].astype(np.float32)
        self._boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], 1)
        self._scores = values[order, 5].astype(np.float32)
        self._classes = np.array([index[int(c)] for c in values[order, 0]], np.int32)
        self._by_stem: dict[str, list[int]] = {}
        for number, key in enumerate(self._keys):
            if isinstance(key, str):
                self._by_stem.setdefault(_stem(key), []).append(number)
        self._by_number = {key: n for n, key in enumerate(self._keys) if isinstance(key, int)}

    def needs(self) -> Needs:
        """The categories' names; it looks at no image."""
        return Needs(self._class_names, None, None, "none")

    def recall(self, item: Item) -> Detections:
        """The results of one image; none where the file has none for it.

        Raises:
            UserError: Results of several names fit the image.
        """
        number = self._number_of(item, self._join)
        rows = slice(0, 0) if number is None else slice(*self._starts[number : number + 2])
        return Detections(self._boxes[rows], self._scores[rows], self._classes[rows])

    def check_images(self, asked: Sequence[Source], *, others: Sequence[Source] = ()) -> None:
        """Refuses to answer for the wrong images.

        Args:
            asked: All listings that the teacher will be asked about.
            others: More images that results may be for.

        Raises:
            UserError: Results are for images that nobody holds, a listing has none, two images
                have the same results, or numbers may be ids or names.
        """
        self._join = self._decide_join(asked)
        held: dict[int, tuple[str, str]] = {}
        for source in asked:
            found = self._match(source, held)
            if self._keys and source.items and not found:
                raise UserError(
                    f"{self._text!r} has no result for any image of the data {source.name!r}. It "
                    f"names images like {self._shown(self._keys)}; the data has "
                    f"{self._shown(item.original_id for item in source.items)}.{self._two_types()} "
                    "Give ?images=INSTANCES.json if the numbers are ids of that file. Where these "
                    "are validation images: give results for them too, or "
                    "--score_threshold=NUMBER and --calibration=none, which ask for none."
                )
            held |= found
        known = set(held)
        for source in others:
            known |= {self._number_of(item, self._join) for item in source.items} - {None}
        unknown = [key for number, key in enumerate(self._keys) if number not in known]
        if unknown:
            names = ", ".join(repr(source.name) for source in asked)
            raise UserError(
                f"{self._text!r} has results for {len(unknown)} images that the data {names} does "
                f"not hold, the first: {self._shown(unknown)}; the data has images like "
                f"{self._shown(item.original_id for one in asked for item in one.items)}."
                f"{self._two_types()} Give the data they were made of, or ?images=INSTANCES.json "
                "if the numbers are ids of that file."
            )

    def _match(
        self, source: Source, held: dict[int, tuple[str, str]]
    ) -> dict[int, tuple[str, str]]:
        """Number of the key -> (data, image) for every image of a source that has results."""
        found: dict[int, tuple[str, str]] = {}
        for item in source.items:
            number = self._number_of(item, self._join)
            if number is None:
                continue
            if number in found or number in held:
                other_source, other = (found | held)[number]
                raise UserError(
                    f"{self._text!r}: the results of {show(self._keys[number])} fit two images, "
                    f"{other!r} of the data {other_source!r} and {item.original_id!r} of "
                    f"{source.name!r}. Its results cannot tell them apart: write paths with their "
                    "folders as file_name, or give ?images=INSTANCES.json."
                )
            found[number] = (source.name, item.original_id)
        return found

    def _decide_join(self, asked: Sequence[Source]) -> str:
        """Whether numbers are the data's own ids or file names, where some are given."""
        if self._join != "auto" or not self._by_number:
            return self._join
        items = [item for source in asked for item in source.items]
        by_id = {self._number_of(item, "id"): item.original_id for item in items}
        by_name = {self._number_of(item, "name"): item.original_id for item in items}
        numbers = set(self._by_number.values())
        if not numbers <= set(by_id) or not numbers <= set(by_name):
            return "id" if numbers & set(by_id) and not numbers <= set(by_name) else "name"
        different = [n for n in numbers if by_id[n] != by_name[n]]
        if different:
            first = min(different)
            raise UserError(
                f"{self._text!r}: the number {self._keys[first]} may be an id (of the image "
                f"{by_id[first]!r}) or a file name (of {by_name[first]!r}). Give &join=id or "
                "&join=name."
            )
        return "id"

    def _number_of(self, item: Item, join: str) -> int | None:
        """The key whose results are of an image; None where there is none."""
        paths = _paths(item)
        candidates = {n for path in paths for n in self._by_stem.get(_stem(path), ())}
        fits = {n: max(_likeness(str(self._keys[n]), path) for path in paths) for n in candidates}
        best = max(fits.values(), default=0)
        chosen = {n for n, likeness in fits.items() if likeness == best and best > 0}
        chosen |= self._numbered(item, paths, join)
        if len(chosen) > 1:
            named = " and ".join(show(self._keys[n]) for n in sorted(chosen)[:2])
            raise UserError(
                f"{self._text!r}: the results of {named} both fit the image "
                f"{item.original_id!r}.{self._two_types()} Name each image in one way only, with "
                "its folders where file names repeat."
            )
        return next(iter(chosen), None)

    def _numbered(self, item: Item, paths: Iterable[str], join: str) -> set[int]:
        own = item.original_id.rpartition("/")[2]
        own_id = to_whole(own) if own == str(item.image_id) else None
        if join == "id" or (join == "auto" and own_id in self._by_number):
            wanted = {own_id}
        else:
            wanted = {to_whole(_stem(path)) for path in paths if own_id is None or path != own}
        return {self._by_number[number] for number in wanted if number in self._by_number}

    def _two_types(self) -> str:
        words = {to_whole(key): key for key in self._keys if isinstance(key, str)}
        both = next((key for key in self._by_number if key in words), None)
        if both is None:
            return ""
        return f" It has image_id {both} as a number and {words[both]!r} as text: write one."

    @staticmethod
    def _shown(keys: Iterable[Key]) -> str:
        first = [show(key) for _, key in zip(range(3), keys, strict=False)]
        return ", ".join(first) or "none"


def _paths(item: Item) -> list[str]:
    """What identifies an image, as paths: the data set's own id, and where its file lies."""
    location = item.location.partition("?")[0]
    paths = [plain(item.original_id), plain(location)]
    return list(dict.fromkeys(path for path in paths if path))


def _stem(path: str) -> str:
    return _ENDING.sub("", path.rpartition("/")[2])


def _likeness(key: str, path: str) -> int:
    """How many of the last parts of two paths are the same; 0 where they name other files."""
    mine, other = key.split("/"), path.split("/")
    endings = [_ENDING.search(parts[-1]) for parts in (mine, other)]
    if all(endings) and endings[0][0].lower() != endings[1][0].lower():
        return 0
    mine[-1], other[-1] = _ENDING.sub("", mine[-1]), _ENDING.sub("", other[-1])
    same = 0
    for a, b in zip(reversed(mine), reversed(other), strict=False):
        if a != b:
            break
        same += 1
    return same
