"""`yolo:DATA.yaml?split=train`: a text file of normalised centres for each image."""

import array
import hashlib
import math
from collections.abc import Callable

import numpy as np

from kd_tf import files
from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.rejects import NO_LABEL_FILE
from kd_tf.data.sources import packed, reading, yolo_yaml
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec

# Boxes may stick out of the image, but a value beyond this was meant in pixels.
_MAX_UNIT = 2.0


def open_yolo(spec: Spec) -> Source:
    """Lists a split of a YOLO data set and packs its boxes.

    See `yolo_yaml` for the YAML file. The labels of `images/a.jpg` lie in `labels/a.txt`, one
    line `class x_centre y_centre width height` an object, as fractions of the upright image; a
    line of a polygon (`class x y x y x y ...`) counts as the box around it. An image without
    that file has no objects, and is counted.

    Raises:
        UserError: The file is not such YAML, the split is not in it, holds no image, or none of
            its images has a label file.
    """
    settings = yolo_yaml.read_settings(spec)
    rejects: list[Reject] = []
    paths = sorted(set(yolo_yaml.image_paths(settings, spec, rejects=rejects)))
    if not paths:
        first = f"; the first reject: {rejects[0]}" if rejects else ""
        raise UserError(f"{spec.text}: the split holds no image{first}.")
    names = _short_names(paths)
    collected = _Collected(num_classes=len(settings.class_names), rejects=rejects)
    for name, path in zip(names, paths, strict=True):
        collected.add(name, label_path(path))
    if collected.num_without_file == len(paths):
        raise UserError(
            f"{spec.text}: none of {len(paths)} images has a label file; the first would be "
            f"{label_path(paths[0])!r}. The labels of images/train/a.jpg must lie in "
            "labels/train/a.txt. Move them there; for images without labels give images:FOLDER."
        )
    read_bytes, read_header = reading.file_readers()
    return Source(
        name=spec.name,
        class_names=settings.class_names,
        items=[
            Item(rank, name, path)
            for rank, (name, path) in enumerate(zip(names, paths, strict=True), start=1)
        ],
        read_bytes=read_bytes,
        read_labels=_label_reader(collected.packed(), read_header, name=spec.name),
        rejects=tuple(rejects),
        fingerprint=reading.fingerprint(
            [collected.digest.digest(), *settings.class_names, "", *names]
        ),
    )


def label_path(image_path: str) -> str:
    """Where the labels of an image lie: the last folder `images` becomes `labels`."""
    parent, _, name = image_path.rpartition("/")
    folders = parent.split("/")
    for place in range(len(folders) - 1, -1, -1):
        if folders[place] == "images":
            folders[place] = "labels"
            break
    return files.join("/".join(folders), name.rpartition(".")[0] + ".txt")


def parse_line(line: str, *, num_classes: int) -> tuple[int, list[float]]:
    """The class and the box [x1, y1, x2, y2], as fractions of the image, of one line.

    Raises:
        RejectedError: "bad label line", "class id out of range" or "box not normalised".
    """
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError as error:
        raise RejectedError("bad label line", f"{line[:100]!r}: {error}") from error
    polygon = len(numbers) >= 7 and len(numbers) % 2 == 1
    if len(numbers) != 5 and not polygon:
        raise RejectedError(
            "bad label line",
            f"{line[:100]!r} has {len(numbers)} numbers; needed are class x y width height",
        )
    if not 0 <= numbers[0] < num_classes or numbers[0] != int(numbers[0]):
        raise RejectedError(
            "class id out of range", f"{numbers[0]:g}; ids are 0 to {num_classes - 1}"
        )
    if any(abs(value) > _MAX_UNIT for value in numbers[1:] if math.isfinite(value)):
        raise RejectedError("box not normalised", f"{line[:100]!r}: fractions are at most 1")
    if polygon:
        xs, ys = numbers[1::2], numbers[2::2]
        return int(numbers[0]), [min(xs), min(ys), max(xs), max(ys)]
    x, y, width, height = numbers[1:]
    return int(numbers[0]), [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


class _Collected:
    """The label files read so far, in flat arrays: 50 bytes a box, 8 an image."""

    def __init__(self, *, num_classes: int, rejects: list[Reject]):
        self.num_classes = num_classes
        self.rejects = rejects
        self.digest = hashlib.sha256()
        self.num_images = 0
        self.num_without_file = 0
        self.corners = array.array("d")
        self.classes = array.array("i")
        self.lines = array.array("i")
        self.rows = array.array("q")
        self.lost_rows = array.array("q")

    def add(self, name: str, path: str) -> None:
        """Reads the label file of the next image; that may be absent."""
        content = b""
        if files.exists(path):
            content = files.read_bytes(path)
        else:
            self.num_without_file += 1
            self.rejects.append(Reject(name, NO_LABEL_FILE, path, False))
        self.digest.update(hashlib.sha256(content).digest())
        for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), start=1):
            if not line.strip():
                continue
            try:
                index, corners = parse_line(line, num_classes=self.num_classes)
            except RejectedError as error:
                what = f"{name}: line {number}"
                self.rejects.append(Reject(what, error.reason, error.detail, False))
                self.lost_rows.append(self.num_images)
                continue
            self.corners.extend(corners)
            self.classes.append(index)
            self.lines.append(number)
            self.rows.append(self.num_images)
        self.num_images += 1

    def packed(self) -> packed.PackedBoxes:
        boxes = packed.raw_boxes(np.array(self.corners), self.classes, ids=self.lines)
        return packed.pack(
            boxes,
            np.array(self.rows, np.int64),
            num_images=self.num_images,
            lost_rows=self.lost_rows,
        )


def _label_reader(
    boxes: packed.PackedBoxes, read_header: Callable, *, name: str
) -> Callable[[Item], tuple[Labels, list[Reject]]]:
    def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
        header = read_header(item)
        height, width = header.upright_size
        unit = boxes.of(item.image_id - 1)
        return packed.to_labels(
            packed.scaled(unit, np.array([width, height, width, height], np.float64)),
            item=item,
            header=header,
            judged=None,
            key=f"{name}/{item.original_id}",
        )

    return read_labels


def _short_names(paths: list[str]) -> list[str]:
    """Paths without the folders that they all share."""
    parents = [path.split("/")[:-1] for path in paths]
    # All parents lie between the first and the last in order; os.path.commonpath breaks gs://.
    first, last = min(parents), max(parents)
    pairs = enumerate(zip(first, last, strict=False))
    shared = next((place for place, (a, b) in pairs if a != b), min(len(first), len(last)))
    return ["/".join(path.split("/")[shared:]) for path in paths]
