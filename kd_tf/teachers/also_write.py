"""Pseudo labels as COCO JSON and as YOLO text files, so that any trainer can use them."""

import json
import os
from collections.abc import Iterator, Sequence

import numpy as np

from kd_tf import files
from kd_tf.data.records import Record, from_example
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError

FORMATS = ("coco", "yolo")


def also_write(records: RecordSet, *, folder: str, formats: Sequence[str]) -> None:
    """Writes the working labels of records in other formats, one image at a time.

    coco: `folder`/coco.json, instances with `score` beside each annotation; `file_name` is the
    image's identity, so it can be joined to the data.
    yolo: `folder`/yolo/labels/<source>/<original id>.txt with lines "class x y w h" (center,
    0..1), images/ beside it with the pixels, and data.yaml.

    Args:
        records: Of stage pseudo.
        folder: Where to.
        formats: Some of `FORMATS`.

    Raises:
        UserError: An unknown format.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise UserError(f"--also_write={','.join(unknown)}: known are {', '.join(FORMATS)}.")
    if "coco" in formats:
        _write_coco(records, files.join(folder, "coco.json"))
    if "yolo" in formats:
        _write_yolo(records, files.join(folder, "yolo"))


def _records(records: RecordSet) -> Iterator[Record]:
    for serialized in records:
        yield from_example(serialized, class_names=records.class_names)


def _write_coco(records: RecordSet, path: str) -> None:
    """The file is written piece by piece: no more than one image is in memory."""
    with files.writing(path) as file:
        file.write(b'{"categories": ' + _json(_categories(records)) + b',\n"images": [\n')
        for number, record in enumerate(_records(records)):
            entry = {
                "id": record.image_id,
                "file_name": record.source_id,
                "height": record.height,
                "width": record.width,
            }
            file.write((b",\n" if number else b"") + _json(entry))
        file.write(b'],\n"annotations": [\n')
        # From 1: pycocotools takes an annotation with id 0 for "no match".
        annotation_id = 0
        for record in _records(records):
            for entry in _coco_annotations(record):
                annotation_id += 1
                line = _json({"id": annotation_id, **entry})
                file.write((b",\n" if annotation_id > 1 else b"") + line)
        file.write(b"]}\n")


def _coco_annotations(record: Record) -> Iterator[dict]:
    objects = record.objects
    for row in np.flatnonzero(objects.working):
        x1, y1, x2, y2 = objects.boxes[row].tolist()
        yield {
            "image_id": record.image_id,
            "category_id": int(objects.classes[row]) + 1,
            "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
            "area": round((x2 - x1) * (y2 - y1), 3),
            "iscrowd": int(objects.is_crowd[row]),
            "score": round(float(objects.scores[row]), 6),
        }


def _categories(records: RecordSet) -> list[dict]:
    return [{"id": i, "name": name} for i, name in enumerate(records.class_names, start=1)]


def _write_yolo(records: RecordSet, folder: str) -> None:
    used: set[str] = set()
    for record in _records(records):
        stem = _file_stem(record.source_id, used)
        files.write_bytes(
            files.join(folder, "images", f"{stem}.{_EXTENSIONS.get(record.format, record.format)}"),
            record.encoded,
        )
        files.write_text(files.join(folder, "labels", f"{stem}.txt"), _yolo_lines(record))
    names = "".join(f"  {i}: {_yaml(name)}\n" for i, name in enumerate(records.class_names))
    files.write_text(
        files.join(folder, "data.yaml"), f"path: .\ntrain: images\nval: images\nnames:\n{names}"
    )


_EXTENSIONS = {"jpeg": "jpg"}


def _yolo_lines(record: Record) -> str:
    objects = record.objects
    size = np.array([record.width, record.height], np.float64)
    lines = []
    for row in np.flatnonzero(objects.working & ~objects.is_crowd):
        low, high = objects.boxes[row, :2] / size, objects.boxes[row, 2:] / size
        x, y, w, h = (*((low + high) / 2), *(high - low))
        lines.append(f"{objects.classes[row]} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n")
    return "".join(lines)


def _file_stem(source_id: str, used: set[str]) -> str:
    """A path below the folder that no id can leave; a.jpg and a.png get different ones."""
    parts = [part for part in source_id.split("/") if part not in ("", ".", "..")]
    stem, _ = os.path.splitext("/".join(parts))
    stem = "".join(ch if ch.isprintable() else f"%{ord(ch):02x}" for ch in stem)
    free, number = stem, 1
    while free in used:
        number += 1
        free = f"{stem}_{number}"
    used.add(free)
    return free


def _yaml(name: str) -> str:
    return _json(name).decode()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
