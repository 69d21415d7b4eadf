"""Reads one Pascal VOC annotation file; entities and other XML bombs are refused."""

import dataclasses
import math
import re
from xml.etree import ElementTree

import defusedxml
import defusedxml.ElementTree

from kd_tf import documents
from kd_tf.errors import RejectedError
from kd_tf.values import show, to_flag

# What a Chinese file calls its encoding, and the one that holds all of its letters.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "gb_2312-80": "gb18030"}
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["'][^>]*?\?>""")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation file, in its own order.

    Attributes:
        file_name: As stated, or "".
        height, width: Pixels as stated; 0 where they are not.
        names: Class name of each object.
        boxes: xmin, ymin, xmax, ymax of each object as stated; NaN where one is no number.
        difficult: Whether each object is marked difficult.
    """

    file_name: str
    height: int
    width: int
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    difficult: list[bool]


def parse_annotation(content: bytes) -> Annotation:
    """Parses a file in any encoding that Python knows.

    Raises:
        RejectedError: "forbidden XML" (entities, external references) or "bad annotation".
    """
    try:
        root = _root(content)
    except defusedxml.DefusedXmlException as error:
        raise RejectedError("forbidden XML", f"{type(error).__name__}: {error}") from error
    # expat names an unknown encoding by LookupError and a broken one by ValueError.
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise RejectedError("bad annotation", f"not XML: {error}") from error
    if root.tag != "annotation":
        raise RejectedError("bad annotation", f"the root is {show(root.tag)}, not annotation")
    objects = root.findall("object")
    size = root.find("size")
    return Annotation(
        file_name=(root.findtext("filename") or "").strip(),
        height=_whole(size, "height"),
        width=_whole(size, "width"),
        names=[(entry.findtext("name") or "").strip() for entry in objects],
        boxes=[_corners(entry.find("bndbox")) for entry in objects],
        difficult=[bool(to_flag(entry.findtext("difficult") or "0")) for entry in objects],
    )


def _root(content: bytes) -> ElementTree.Element:
    """The parsed file. expat knows UTF-8, UTF-16 and Latin-1; Python decodes the others."""
    declared = _DECLARED.match(content)
    encoding = declared[1].decode().lower() if declared else ""
    if encoding in ("", "utf-8", "utf8", "us-ascii", "utf-16", "iso-8859-1"):
        try:
            return defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
        except ElementTree.ParseError:
            text = documents.decode(content, path="the annotation")
    else:
        text = content.decode(_WIDER.get(encoding, encoding))
    return defusedxml.ElementTree.fromstring(_DECLARATION.sub("", text), forbid_dtd=True)


def _corners(box: ElementTree.Element | None) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (_number(box, name) for name in ("xmin", "ymin", "xmax", "ymax"))
    return x1, y1, x2, y2


def _number(parent: ElementTree.Element | None, name: str) -> float:
    text = parent.findtext(name) if parent is not None else None
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _whole(parent: ElementTree.Element | None, name: str) -> int:
    value = _number(parent, name)
    return int(value) if 0 < value < 1e9 else 0
