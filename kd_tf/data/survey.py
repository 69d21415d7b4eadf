"""Looks at a data set before anything is trained: numbers, rejects and nine pictures."""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from kd_tf import files, progress
from kd_tf.data.contact_sheet import NUM_PICTURES, Picture, draw_sheet
from kd_tf.data.images import CheckedImage, check_image, encode_png
from kd_tf.data.items import Labels, Reject, Source
from kd_tf.data.rejects import DUPLICATE, count_rejects
from kd_tf.errors import RejectedError
from kd_tf.manifests import Counts, Json

_WINDOW = 32
# COCO's limits between small, medium and large objects, as areas in pixels.
_SMALL_AREA, _LARGE_AREA = 32**2, 96**2


@dataclasses.dataclass(eq=False)
class Survey:
    """What was found in one source.

    Attributes:
        name: The source's.
        class_names: The source's; empty where nothing is labelled.
        counts: Images seen, usable and left out, and boxes left out, by reason.
        formats: Images by file format.
        num_reencoded: Images that records will keep as an upright PNG.
        sizes: [N, 2] int32, height and width in pixels of each usable image.
        boxes_per_image: [N] int32; empty where nothing is labelled.
        boxes_per_class, images_per_class: [C] int64, crowds left out.
        num_crowd: Boxes that are neither object nor background.
        num_small, num_medium, num_large: Boxes below 32x32, up to 96x96, above, by their area.
        pictures: At most nine, spread over the listing, for the contact sheet.
    """

    name: str
    class_names: tuple[str, ...]
    counts: Counts
    formats: collections.Counter
    num_reencoded: int
    sizes: np.ndarray
    boxes_per_image: np.ndarray
    boxes_per_class: np.ndarray
    images_per_class: np.ndarray
    num_crowd: int
    num_small: int
    num_medium: int
    num_large: int
    pictures: list[Picture]

    def to_json(self) -> dict[str, Json]:
        """The numbers, without the pictures."""
        per_class = {
            name: {"images": int(images), "boxes": int(boxes)}
            for name, images, boxes in zip(
                self.class_names, self.images_per_class, self.boxes_per_class, strict=True
            )
        }
        return {
            "name": self.name,
            "counts": self.counts.to_json(),
            "formats": dict(self.formats.most_common()),
            "reencoded": self.num_reencoded,
            "height": _spread(self.sizes[:, 0]),
            "width": _spread(self.sizes[:, 1]),
            "boxes_per_image": _spread(self.boxes_per_image),
            "boxes": {
                "small": self.num_small,
                "medium": self.num_medium,
                "large": self.num_large,
                "crowd": self.num_crowd,
            },
            "classes": per_class,
        }


def survey(source: Source) -> Survey:
    """Decodes every image of a source and reads its labels.

    Every image is really decoded, so what is rejected here is what a later stage rejects.
    About 2 ms a 640x480 photo on two cores.
    """
    num_classes = len(source.class_names)
    found = Survey(
        source.name, source.class_names, Counts(), collections.Counter(), 0,
        np.zeros((0, 2), np.int32), np.zeros(0, np.int32),
        np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64), 0, 0, 0, 0, [],
    )  # fmt: skip
    count_rejects(found.counts, source.rejects)
    sizes, num_boxes = [], []
    met: dict[str, str] = {}
    # A picture from each ninth of the listing: the first usable image of it.
    due = np.linspace(0, len(source.items), NUM_PICTURES, endpoint=False)
    for row, looked in _look_at_all(source):
        found.counts.seen += 1
        key = source.key(source.items[row])
        if isinstance(looked, RejectedError):
            found.counts.skip(looked.reason, key, detail=looked.detail)
            continue
        image = looked.image
        if met.setdefault(image.sha256, key) != key:
            found.counts.skip(DUPLICATE, key, detail=f"same as {met[image.sha256]}")
            continue
        found.counts.written += 1
        found.formats[image.format] += 1
        found.num_reencoded += image.reencoded
        sizes.append((image.height, image.width))
        if looked.labels is not None:
            num_boxes.append(int((~looked.labels.is_crowd).sum()))
            count_rejects(found.counts, looked.rejects)
            _count_boxes(found, looked.labels)
        if len(found.pictures) < NUM_PICTURES and row >= due[len(found.pictures)]:
            names = source.class_names
            found.pictures.append(
                Picture.reduced(key, image.pixels, labels=looked.labels, class_names=names)
            )
    found.sizes = np.array(sizes, np.int32).reshape(-1, 2)
    found.boxes_per_image = np.array(num_boxes, np.int32)
    return found


def write_survey(folder: str, surveys: list[Survey]) -> str:
    """Writes survey.json, survey.md and a NAME.png with nine pictures for each source.

    Returns:
        The text of survey.md, for the terminal.
    """
    text = "\n\n".join(to_text(one) for one in surveys) + "\n"
    files.write_json(files.join(folder, "survey.json"), [one.to_json() for one in surveys])
    files.write_text(files.join(folder, "survey.md"), text)
    for one in surveys:
        if one.pictures:
            sheet = encode_png(draw_sheet(one.pictures))
            files.write_bytes(files.join(folder, f"{one.name}.png"), sheet)
    return text


def to_text(found: Survey) -> str:
    """The numbers of one source, as Markdown that also reads well on a terminal."""
    counts, numbers = found.counts, found.to_json()
    lines = [
        f"## {found.name}",
        f"images: {counts.seen} seen, {counts.written} usable, {sum(counts.skipped.values())} "
        f"left out; {found.num_reencoded} kept as an upright PNG",
        f"formats: {_listed(found.formats)}",
        f"height: {_spread_text(numbers['height'])}; width: {_spread_text(numbers['width'])}",
    ]
    if found.class_names:
        lines += [
            f"boxes per image: {_spread_text(numbers['boxes_per_image'])}",
            f"boxes: {_listed(numbers['boxes'])}",
            "",
            f"| {'class':24} | {'images':>8} | {'boxes':>8} |",
            f"|{'-' * 26}|{'-' * 10}|{'-' * 10}|",
        ]
        lines += [
            f"| {name:24} | {row['images']:8} | {row['boxes']:8} |"
            for name, row in numbers["classes"].items()
        ]
    for title, reasons in (("images left out", counts.skipped), ("boxes", counts.skipped_boxes)):
        for reason, count in reasons.most_common():
            lines += ["", f"{title}: {count} x {reason}"]
            lines += [f"- {name!s}" for name in counts.examples[reason][:10]]
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True, slots=True)
class _Looked:
    """One usable image; its pixels live until the next window."""

    image: CheckedImage
    labels: Labels | None
    rejects: list[Reject]


def _look_at_all(source: Source) -> Iterator[tuple[int, _Looked | RejectedError]]:
    """Every row with what was found; decoding releases Python's lock, so threads use all cores."""

    def look(row: int) -> _Looked | RejectedError:
        item = source.items[row]
        try:
            image = check_image(source.read_bytes(item))
            labels, rejects = source.read_labels(item) if source.read_labels else (None, [])
        except RejectedError as error:
            return error
        return _Looked(image, labels, rejects)

    total = len(source.items)
    bar = progress.bar(total=total, unit="images", description=f"survey {source.name}")
    with bar, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, total, _WINDOW):
            rows = range(start, min(start + _WINDOW, total))
            yield from zip(rows, pool.map(look, rows), strict=True)
            bar.update(len(rows))


def _count_boxes(found: Survey, labels: Labels) -> None:
    objects = labels.classes[~labels.is_crowd]
    areas = labels.areas[~labels.is_crowd]
    num_classes = len(found.class_names)
    found.boxes_per_class += np.bincount(objects, minlength=num_classes)
    found.images_per_class += np.bincount(np.unique(objects), minlength=num_classes)
    found.num_crowd += int(labels.is_crowd.sum())
    found.num_small += int((areas < _SMALL_AREA).sum())
    found.num_large += int((areas >= _LARGE_AREA).sum())
    found.num_medium += int(((areas >= _SMALL_AREA) & (areas < _LARGE_AREA)).sum())


def _spread(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    return {
        "least": int(values.min()),
        "median": float(np.median(values)),
        "mean": round(float(values.mean()), 2),
        "most": int(values.max()),
    }


def _spread_text(spread: dict[str, float] | None) -> str:
    if spread is None:
        return "none"
    return ", ".join(f"{name} {value:g}" for name, value in spread.items())


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
