"""`yolo:DATA.yaml?split=train`: a text file of normalised centres for each image."""

import array
import hashlib
from collections.abc import Callable

import numpy as np
from absl import logging

from kd_tf import files
from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.rejects import NO_LABEL_FILE
from kd_tf.data.sources import packed, reading, yolo_lines, yolo_yaml
from kd_tf.documents import split_lines
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec


def open_yolo(spec: Spec) -> Source:
    """Lists a split of a YOLO data set and packs its boxes.

    See `yolo_yaml` for the YAML file. The labels of `images/a.jpg` lie in `labels/a.txt`, one
    line `class x_centre y_centre width height` an object, as fractions of the upright image; of
    a polygon, a pose or an oriented box the box around it counts. What the lines are is declared
    by `task=` or `kpt_shape`, else found out from all of them (`yolo_lines`). An image without
    that file has no objects, and is counted.

    Raises:
        UserError: The file is not such YAML, the split is not in it, holds no image, or none of
            its images has a label file; or the lines can be read in several ways.
    """
    settings = yolo_yaml.read_settings(spec)
    task = _declared_task(spec, settings)
    rejects: list[Reject] = []
    paths = sorted(set(yolo_yaml.image_paths(settings, spec, rejects=rejects)))
    if not paths:
        first = f"; the first reject: {rejects[0].what} ({rejects[0].reason})" if rejects else ""
        raise UserError(f"{spec.text}: the split holds no image{first}.")
    names = _short_names(paths)
    collected = _Collected(settings, rejects=rejects, task=task)
    for name, path in zip(names, paths, strict=True):
        collected.add(name, label_path(path))
    if collected.num_without_file == len(paths):
        raise UserError(
            f"{spec.text}: none of {len(paths)} images has a label file; the first would be "
            f"{label_path(paths[0])!r}. The labels of images/train/a.jpg must lie in "
            "labels/train/a.txt. Move them there; for images without labels give images:FOLDER."
        )
    boxes = collected.packed(where=spec.text)
    read_bytes, read_header = reading.file_readers()
    return Source(
        name=spec.name,
        class_names=settings.class_names,
        items=[
            Item(rank, name, path)
            for rank, (name, path) in enumerate(zip(names, paths, strict=True), start=1)
        ],
        read_bytes=read_bytes,
        read_labels=_label_reader(boxes, read_header, name=spec.name),
        rejects=tuple(rejects),
        fingerprint=reading.fingerprint(
            [collected.digest.digest(), *settings.class_names, "", *names, *([task] * bool(task))]
        ),
    )


def _declared_task(spec: Spec, settings: yolo_yaml.Settings) -> str:
    """What the lines are, by the spec or the YAML file; "" where neither says."""
    task = spec.options.get("task", "pose" if settings.keypoints else "")
    if task and task not in yolo_lines.TASKS:
        raise UserError(f"{spec.text}: task={task} must be one of {', '.join(yolo_lines.TASKS)}.")
    return task


def label_path(image_path: str) -> str:
    """Where the labels of an image lie: the last folder `images` becomes `labels`."""
    parent, _, name = image_path.rpartition("/")
    folders = parent.split("/")
    for place in range(len(folders) - 1, -1, -1):
        if folders[place] == "images":
            folders[place] = "labels"
            break
    return files.join("/".join(folders), name.rpartition(".")[0] + ".txt")


class _Collected:
    """The label files read so far, in flat arrays: 88 bytes a line, 8 an image."""

    def __init__(self, settings: yolo_yaml.Settings, *, rejects: list[Reject], task: str):
        self.settings = settings
        self.rejects = rejects
        self.task = task
        self.finder = yolo_lines.TaskFinder()
        self.digest = hashlib.sha256()
        self.names: list[str] = []
        self.num_without_file = 0
        self.counts = array.array("i")  # class, how many values, number of the line
        self.rows = array.array("q")
        self.corners = array.array("d")  # the first four values, the box around all
        self.lost_rows = array.array("q")
        self.ids: set[float] = set()

    def add(self, name: str, path: str) -> None:
        """Reads the label file of the next image; that may be absent."""
        self.names.append(name)
        content = b""
        if not files.exists(path):
            self.num_without_file += 1
            self.rejects.append(Reject(name, NO_LABEL_FILE, path, False))
        else:
            try:
                content = reading.read_file(path)
            except RejectedError as error:
                self._lose(len(self.names) - 1, 0, "unreadable label file", error.detail)
        self.digest.update(hashlib.sha256(content).digest())
        text = content.decode("utf-8-sig", "replace")
        for number, line in enumerate(split_lines(text), start=1):
            if line.strip():
                self._add_line(number, line)

    def _add_line(self, number: int, line: str) -> None:
        row = len(self.names) - 1
        try:
            class_id, values = yolo_lines.parse_line(
                line, num_classes=len(self.settings.class_names)
            )
        except RejectedError as error:
            if error.reason == "class id out of range":
                self.ids.add(float(line.split()[0]))
            self._lose(row, number, error.reason, error.detail)
            return
        self.ids.add(class_id)
        self.finder.add(values, line)
        reduced = yolo_lines.reduce_line(class_id, values)
        self.counts.extend([class_id, reduced.num_values, number])
        self.rows.append(row)
        self.corners.extend([*reduced.first, *reduced.around])

    def _lose(self, row: int, number: int, reason: str, detail: str) -> None:
        what = f"{self.names[row]}: line {number}" if number else self.names[row]
        self.rejects.append(Reject(what, reason, detail, False))
        self.lost_rows.append(row)

    def packed(self, *, where: str) -> packed.PackedBoxes:
        """The boxes of all lines, once it is known what the lines are."""
        num_classes = len(self.settings.class_names)
        if self.ids and min(self.ids) == 1 and max(self.ids) == num_classes:
            raise UserError(
                f"{where}: the class ids of the label files run from 1 to {num_classes}, and ids "
                f"count from 0: {num_classes} names are 0 to {num_classes - 1}. Subtract 1 in the "
                "label files, or add a name for class 0."
            )
        task = self.task or self.finder.task(where=where)
        counts = np.array(self.counts, np.int64).reshape(-1, 3)
        corners = np.array(self.corners).reshape(-1, 8)
        if task in ("detect", "track") and (counts[:, 1] > 4).any():
            logging.info(
                "%s: %d label lines have a confidence, which is not used: they count as people's.",
                where, int((counts[:, 1] > 4).sum()),
            )  # fmt: skip
        boxes, kept = [], []
        for place, (class_id, num_values, number) in enumerate(counts.tolist()):
            first, around = corners[place, :4].tolist(), corners[place, 4:].tolist()
            line = yolo_lines.Line(class_id, num_values, tuple(first), tuple(around))
            try:
                box = yolo_lines.box_of(line, task=task, keypoints=self.settings.keypoints)
            except RejectedError as error:
                self._lose(self.rows[place], number, error.reason, error.detail)
                continue
            boxes.append(box)
            kept.append(place)
        raw = packed.raw_boxes(np.array(boxes), counts[kept, 0], ids=counts[kept, 2])
        rows = np.array(self.rows, np.int64)[kept]
        return packed.pack(raw, rows, num_images=len(self.names), lost_rows=self.lost_rows)


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
            num_lost=int(boxes.num_lost[item.image_id - 1]),
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
