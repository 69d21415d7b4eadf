"""`voc:DIR?ids=FILE&difficult=ignore|keep`: Pascal VOC XML beside a folder of images."""

import array
import hashlib
import math
import re
import unicodedata
from collections.abc import Callable

import numpy as np
from absl import logging

from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.rejects import NO_ANNOTATION_FILE
from kd_tf.data.sources import packed, reading, voc_layout, voc_xml
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec

_DIFFICULT = ("ignore", "keep")
# VOC counts pixels from 1 and includes the last one: pixel 1 alone is xmin = xmax = 1, which as
# edges is [0, 1]. So the low corner moves by one and the high corner stays.
_FIRST_PIXEL = 1.0
# Where so many boxes begin at 0 or at a fraction, the tool that wrote them counts from 0.
_PROOF_SHARE = 0.01


def open_voc(spec: Spec) -> Source:
    """Lists the annotation files of `Annotations/` and packs their boxes.

    The folders may be in lower case, or be one: XML files beside the images. An image belongs to
    the annotation with the same stem. The classes are the names found in
    all files, sorted, so with `ids=` the list does not depend on the part. Objects marked
    difficult are crowd-like (neither object nor background) with `difficult=ignore`, as in
    the VOC challenge, and plain objects with `difficult=keep`. Images without an annotation
    file are not listed; they are counted.

    VOC counts pixels from 1, many tools from 0: a box that begins at 0 or at a fraction proves it.
    `origin=0` or `origin=1` decides.

    Raises:
        UserError: A folder or the ids file is missing, there is no annotation, or an id of the
            ids file has none.
    """
    difficult = _option(spec, "difficult", _DIFFICULT)
    origin = _option(spec, "origin", ("auto", "0", "1"))
    reading.need_folder(spec.location, where=spec.text, advice=voc_layout.ADVICE)
    rejects: list[Reject] = []
    folder = voc_layout.annotation_folder(spec)
    paths = voc_layout.annotation_paths(folder, rejects=rejects)
    if not paths:
        raise UserError(f"{spec.text}: {folder!r} holds no .xml file. {voc_layout.ADVICE}")
    collected = _Collected(
        voc_layout.image_paths(spec, rejects=rejects), chosen=voc_layout.chosen(spec, set(paths))
    )
    collected.rejects += rejects
    for stem, path in sorted(paths.items()):
        collected.add(stem, path)
    if "ids" not in spec.options:
        collected.note_unlabelled(list(paths))
    if not collected.items:
        first = collected.rejects[0]
        named = f"{first.what}, {first.reason}: {first.detail}"
        raise UserError(f"{spec.text}: no usable image; the first: {named}.")
    return _source(spec, collected, ignore_difficult=difficult == "ignore", origin=origin)


def _option(spec: Spec, name: str, allowed: tuple[str, ...]) -> str:
    value = spec.options.get(name, allowed[0])
    if value not in allowed:
        raise UserError(f"{spec.text}: {name}={value} must be one of {allowed}.")
    return value


class _Collected:
    """The annotation files read so far, in flat arrays: 50 bytes a box, 400 an image."""

    def __init__(self, image_paths: dict[str, str], *, chosen: set[str]):
        self.image_paths = image_paths
        self.by_form = voc_layout.by_form(image_paths)
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
        self.num_telling = self.num_boxes = 0  # of all files, so every part of a set agrees

    def add(self, stem: str, path: str) -> None:
        """Reads a file: its class names always, its boxes where it is chosen."""
        try:
            content = reading.read_file(path)
            annotation = voc_xml.parse_annotation(content)
            for name in filter(None, annotation.names):
                self.names.setdefault(name, len(self.names))
            self.num_boxes += len(annotation.boxes)
            self.num_telling += sum(map(_begins_at_0_or_a_fraction, annotation.boxes))
            if stem in self.chosen:
                self._keep(stem, annotation)
                self.digest.update(hashlib.sha256(content).digest())
        except RejectedError as error:
            if stem in self.chosen:
                self.rejects.append(Reject(stem, error.reason, str(error)))

    def _keep(self, stem: str, annotation: voc_xml.Annotation) -> None:
        stated = re.split(r"[/\\]", annotation.file_name)[-1].rpartition(".")[0]
        path = self._image_path(stem) or self._image_path(stated)
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

    def _image_path(self, stem: str) -> str | None:
        """The image with a stem; its accents may be written in another Unicode form."""
        if stem in self.image_paths:
            return self.image_paths[stem]
        found = self.by_form.get(unicodedata.normalize("NFC", stem), [])
        if len(found) > 1:
            raise RejectedError("ambiguous file name", f"{stem!r} fits {found}")
        return self.image_paths[found[0]] if found else None

    def note_unlabelled(self, stems: list[str]) -> None:
        """Counts the images that no annotation file belongs to; they are no fault."""
        used = {item.location for item in self.items}
        known = set(stems)
        for stem, path in sorted(self.image_paths.items()):
            if path not in used and stem not in known:
                self.rejects.append(Reject(stem, NO_ANNOTATION_FILE, "", False))


def _begins_at_0_or_a_fraction(box: tuple[float, ...]) -> bool:
    return any(low % 1 != 0 or 0 <= low < 1 for low in box[:2] if math.isfinite(low))


def _edges(corners: np.ndarray, collected: _Collected, *, origin: str, where: str) -> np.ndarray:
    """xyxy edges [N, 4] in pixels from VOC's corners.

    Read to the letter, xmin = xmax is one pixel wide; in real sets it is a slip of the mouse, so
    such a box stays without area.
    """
    num, of = collected.num_telling, collected.num_boxes
    if origin == "auto":
        origin = "0" if num and num >= _PROOF_SHARE * of else "1"
        if num:
            logging.warning(
                "%s: %d of %d boxes begin at 0 or at a fraction, so pixels are taken to count from "
                "%s. &origin=0 or &origin=1 decides.", where, num, of, origin,
            )  # fmt: skip
    if origin == "0":
        return corners
    with np.errstate(invalid="ignore"):
        whole = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    edges = corners.copy()
    edges[whole, :2] -= _FIRST_PIXEL
    return edges


def _source(spec: Spec, collected: _Collected, *, ignore_difficult: bool, origin: str) -> Source:
    class_names = tuple(sorted(collected.names))
    class_of_rank = np.array([class_names.index(name) for name in collected.names], np.int32)
    corners = np.array(collected.corners).reshape(-1, 4)
    packed.refuse_fractions(corners, where=spec.text)
    boxes = packed.raw_boxes(
        _edges(corners, collected, origin=origin, where=spec.text),
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
            + [f"origin={origin}"] * (origin != "auto")
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
