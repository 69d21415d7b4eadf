"""Tiny data sets that tests make for themselves."""

import io
import json
import pathlib
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from kd_tf import specs
from kd_tf.data.items import Source
from kd_tf.data.sources import open_source


def open_spec(text: str, **options) -> Source:
    """The source of a data spec."""
    return open_source(specs.parse(text, specs.DATA_KINDS), **options)


def colours(height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth image in which no two of its turned versions are alike."""
    y, x = np.mgrid[:height, :width]
    red, green = x * 200 // width + 20, y * 200 // height + 30
    return np.stack([red, green, (2 * x + y) % 200], axis=-1).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", *, mode: str = "RGB", **options) -> bytes:
    """The bytes of an image file."""
    picture = Image.fromarray(pixels)
    return encode_picture(
        picture if picture.mode == mode else picture.convert(mode), kind, **options
    )


def encode_picture(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(pixels: np.ndarray, orientation: int, kind: str = "JPEG") -> bytes:
    """An image whose EXIF asks viewers to turn it."""
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[274] = orientation
    options = {"quality": 95} if kind == "JPEG" else {}
    return encode_picture(picture, kind, exif=exif, **options)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(b""))
        + (chunk(b"IEND", b""))
    )


def coco(
    folder: pathlib.Path,
    *,
    images: list[dict] | None = None,
    annotations: list[dict] | None = None,
    categories: list[dict] | None = None,
    files: dict[str, bytes] | None = None,
) -> str:
    """Writes a COCO data set; returns its spec. By default one image with one box."""
    size = {"height": 24, "width": 40}
    content = {
        "images": images or [{"id": 7, "file_name": "a.png", **size}],
        "categories": categories or [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": [box()] if annotations is None else annotations,
    }
    for name, data in (files or {"a.png": encode(colours())}).items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "instances.json").write_text(json.dumps(content))
    return f"coco:{folder}/instances.json?images={folder}/images&name=set"


def box(**changes) -> dict:
    """A good annotation of `coco`, changed."""
    entry = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 5], "area": 50}
    return {**entry, "iscrowd": 0, **changes}


def voc_xml(
    objects: list[tuple[str, tuple, int]], *, size: tuple[int, int] | None = (24, 40)
) -> str:
    """A VOC annotation: (name, (xmin, ymin, xmax, ymax), difficult) each; size (height, width)."""
    stated = size and f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    body = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax>"
        "</bndbox></object>"
        for name, b, difficult in objects
    )
    return f"<annotation><filename>a.png</filename>{stated or ''}{body}</annotation>"


def voc(folder: pathlib.Path, annotations: dict[str, str], *, images: dict[str, bytes]) -> str:
    """Writes a VOC data set; returns its spec."""
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    for stem, xml in annotations.items():
        (folder / "Annotations" / f"{stem}.xml").write_text(xml)
    for name, data in images.items():
        (folder / "JPEGImages" / name).write_bytes(data)
    return f"voc:{folder}?name=set"


def yolo(folder: pathlib.Path, labels: dict[str, str], *, yaml: str | None = None) -> str:
    """Writes a YOLO data set with an image for each label file; returns its spec."""
    for part in ("images", "labels"):
        (folder / part / "train").mkdir(parents=True)
    for stem, text in labels.items():
        (folder / "images" / "train" / f"{stem}.png").write_bytes(encode(colours()))
        (folder / "labels" / "train" / f"{stem}.txt").write_text(text)
    content = yaml or "train: images/train\nnames: {0: cat, 1: dog}\n"
    (folder / "data.yaml").write_text(content)
    return f"yolo:{folder}/data.yaml?name=set"


def labels_and_reasons(spec: str):
    """Boxes of the only image, and the reasons of what was left out of it."""
    source = open_spec(spec)
    assert len(source.items) == 1
    labels, rejects = source.read_labels(source.items[0])
    return labels, [reject.reason for reject in (*source.rejects, *rejects)]


def listing_reasons(spec: str) -> tuple[int, list[str]]:
    """How many images are listed, and the reasons of those that are not."""
    source = open_spec(spec)
    return len(source.items), [reject.reason for reject in source.rejects if reject.whole_image]


def foreign_record(name: str) -> bytes:
    """A record with the standard keys alone, as TensorFlow's own scripts write it."""
    floats = {"xmin": 0.25, "ymin": 0.5, "xmax": 0.5, "ymax": 0.75}
    feature = {
        f"image/object/bbox/{side}": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        for side, value in floats.items()
    }
    texts = {
        "image/encoded": encode(colours()),
        "image/format": b"png",
        "image/source_id": name.encode(),
        "image/filename": b"a.png",
        "image/object/class/text": b"dog",
    }
    numbers = {"image/height": 24, "image/width": 40, "image/object/class/label": 18}
    feature |= {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in texts.items()
    } | {
        key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        for key, value in numbers.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)
