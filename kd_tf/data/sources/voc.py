"""`voc:DIR?ids=FILE&difficult=ignore|keep`: Pascal VOC XML beside a folder of images."""

import array
import hashlib
from collections.abc import Callable

import numpy as np

from kd_tf import files
from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.rejects import NO_ANNOTATION_FILE
from kd_tf.data.sources import packed, reading, voc_xml
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec

_IMAGE_FOLDERS = ("JPEGImages", "Images")
_DIFFICULT = ("ignore", "keep")


def open_voc(spec: Spec) -> Source:
    """Lists the annotation files of `Annotations/` and packs their boxes.

    An image belongs to the annotation with the same stem. The classes are the names found in
    all files, sorted, so with `ids=` the list does not depend on the part. Objects marked
    difficult are crowd-like (neither object nor background) with `difficult=ignore`, as in
    the VOC challenge, and plain objects with `difficult=keep`. Images without an annotation
    file are not listed; they are counted.

    Raises:
        UserError: A folder or the ids file is missing, there is no annotation, or an id of the
            ids file has none.
    """
    difficult = spec.options.get("difficult", _DIFFICULT[0])
    if difficult not in _DIFFICULT:
        raise UserError(f"{spec.text}: difficult={difficult} must be one of {_DIFFICULT}.")
    folder = files.join(spec.location, "Annotations")
    advice = "Give the folder that holds Annotations/ and JPEGImages/ or Images/."
    reading.need_folder(spec.location, where=spec.text, advice=advice)
    reading.need_folder(folder, where=spec.text, advice=advice)
    stems = sorted(name[:-4] for name in files.list_folder(folder) if name.endswith(".xml"))
    if not stems:
        raise UserError(f"{spec.text}: {folder!r} holds no .xml file.")
    collected = _Collected(_image_paths(spec), chosen=_chosen(spec, stems))
    for stem in stems:
        collected.add(stem, files.join(folder, f"{stem}.xml"))
    if "ids" not in spec.options:
        collected.note_unlabelled(stems)
    if not collected.items:
        raise UserError(f"{spec.text}: no usable image; the first: {collected.rejects[0]}.")
    return _source(spec, collected, ignore_difficult=difficult == "ignore")


class _Collected:
    """The annotation files read so far, in flat arrays: 50 bytes a box, 400 an image."""

    def __init__(self, image_paths: dict[str, str], *, chosen: set[str]):
        self.image_paths = image_paths
        self.chosen = chosen
        self.names: dict[str, int] = {}
        self.items: list[Item] = []
        self.rejects: list[Reject] = []
        self.digest = hashlib.sha256()
        self.corners = array.array("d")
        self.name_ranks = array.array("i")
        self.difficult = array.array("b")
        self.box_ranks = array.array("i")
        self.image_rows = array.array("q")
        self.lost_rows = array.array("q")

    def add(self, stem: str, path: str) -> None:
        """Reads a file: its class names always, its boxes where it is chosen."""
        try:
            content = reading.read_file(path)
            annotation = voc_xml.parse_annotation(content)
            for name in filter(None, annotation.names):
                self.names.setdefault(name, len(self.names))
            if stem in self.chosen:
                self._keep(stem, annotation)
                self.digest.update(hashlib.sha256(content).digest())
        except RejectedError as error:
            if stem in self.chosen:
                self.rejects.append(Reject(stem, error.reason, str(error)))

    def _keep(self, stem: str, annotation: voc_xml.Annotation) -> None:
        path = self.image_paths.get(stem) or self.image_paths.get(
            annotation.file_name.rpartition(".")[0]
        )
        if path is None:
            raise RejectedError("missing file", f"no image with the stem {stem!r}")
        for rank, name in enumerate(annotation.names):
            if not name:
                what = f"{stem}: box {rank}"
                self.rejects.append(Reject(what, "object without a class", "", False))
                self.lost_rows.append(len(self.items))
                continue
            self.image_rows.append(len(self.items))
            self.box_ranks.append(rank)
            self.name_ranks.append(self.names[name])
            self.difficult.append(annotation.difficult[rank])
            self.corners.extend(annotation.boxes[rank])
        self.items.append(
            Item(len(self.items) + 1, stem, path, annotation.height, annotation.width)
        )

    def note_unlabelled(self, stems: list[str]) -> None:
        """Counts the images that no annotation file belongs to; they are no fault."""
        used = {item.location for item in self.items}
        known = set(stems)
        for stem, path in sorted(self.image_paths.items()):
            if path not in used and stem not in known:
                self.rejects.append(Reject(stem, NO_ANNOTATION_FILE, "", False))


def _image_paths(spec: Spec) -> dict[str, str]:
    """The path of each image by its stem."""
    for name in _IMAGE_FOLDERS:
        folder = files.join(spec.location, name)
        if files.is_folder(folder):
            names = filter(reading.is_image_name, reversed(files.list_folder(folder)))
            return {name.rpartition(".")[0]: files.join(folder, name) for name in names}
    raise UserError(
        f"{spec.text}: {spec.location!r} needs a folder of images, "
        f"called {' or '.join(_IMAGE_FOLDERS)}, beside Annotations."
    )


def _chosen(spec: Spec, stems: list[str]) -> set[str]:
    """The stems to list: all, or those of the ids file (VOC's ImageSets/Main/*.txt)."""
    if "ids" not in spec.options:
        return set(stems)
    path = spec.options["ids"]
    if not files.exists(path):
        path = files.join(spec.location, path)
    reading.need_file(path, where=spec.text)
    lines = files.read_text(path).splitlines()
    ids = [line.strip() for line in lines if line.strip()]
    missing = sorted(set(ids) - set(stems))
    if missing or not ids:
        raise UserError(
            f"{spec.text}: {path!r} lists {len(ids)} ids, {len(missing)} of which have no "
            f"annotation: {', '.join(missing[:10])}. Write one stem of a file a line."
        )
    return set(ids)


def _source(spec: Spec, collected: _Collected, *, ignore_difficult: bool) -> Source:
    class_names = tuple(sorted(collected.names))
    class_of_rank = np.array([class_names.index(name) for name in collected.names], np.int32)
    packed.refuse_fractions(np.array(collected.corners).reshape(-1, 4), where=spec.text)
    boxes = packed.raw_boxes(
        np.array(collected.corners),
        class_of_rank[np.array(collected.name_ranks, np.int64)],
        is_crowd=np.array(collected.difficult, bool) & ignore_difficult,
        ids=np.array(collected.box_ranks),
    )
    rows = np.array(collected.image_rows, np.int64)
    read_bytes, read_header = reading.file_readers()
    return Source(
        name=spec.name,
        class_names=class_names,
        items=collected.items,
        read_bytes=read_bytes,
        read_labels=_label_reader(
            packed.pack(
                boxes, rows, num_images=len(collected.items), lost_rows=collected.lost_rows
            ),
            read_header=read_header,
            name=spec.name,
        ),
        rejects=tuple(collected.rejects),
        fingerprint=reading.fingerprint(
            [collected.digest.digest(), str(ignore_difficult), *class_names]
            + [item.original_id for item in collected.items]
        ),
    )


def _label_reader(
    boxes: packed.PackedBoxes, *, read_header: Callable, name: str
) -> Callable[[Item], tuple[Labels, list[Reject]]]:
    def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
        return packed.to_labels(
            boxes.of(item.image_id - 1),
            num_lost=int(boxes.num_lost[item.image_id - 1]),
            item=item,
            header=read_header(item),
            judged=None,
            key=f"{name}/{item.original_id}",
        )

    return read_labels
