"""Reads one Pascal VOC annotation file; entities and other XML bombs are refused."""

import dataclasses
import math
from xml.etree import ElementTree

import defusedxml
import defusedxml.ElementTree

from kd_tf.errors import RejectedError

# VOC counts pixels from 1 and includes the last one: pixel 1 alone is xmin = xmax = 1, which
# as edges is [0, 1]. So the low corner moves by one and the high corner stays.
_FIRST_PIXEL = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation file, in its own order.

    Attributes:
        file_name: As stated, or "".
        height, width: Pixels as stated; 0 where they are not.
        names: Class name of each object.
        boxes: xyxy edges in pixels of each object; NaN where a corner is no number.
        difficult: Whether each object is marked difficult.
    """

    file_name: str
    height: int
    width: int
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    difficult: list[bool]


def parse_annotation(content: bytes) -> Annotation:
    """Parses a file.

    Raises:
        RejectedError: "forbidden XML" (entities, external references) or "bad annotation".
    """
    try:
        root = defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
    except defusedxml.DefusedXmlException as error:
        raise RejectedError("forbidden XML", f"{type(error).__name__}: {error}") from error
    # expat names an unknown encoding by LookupError and a broken one by ValueError.
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RejectedError("bad annotation", f"not XML: {error}") from error
    if root.tag != "annotation":
        raise RejectedError("bad annotation", f"the root is <{root.tag}>, not <annotation>")
    objects = root.findall("object")
    size = root.find("size")
    return Annotation(
        file_name=(root.findtext("filename") or "").strip(),
        height=_whole(size, "height"),
        width=_whole(size, "width"),
        names=[(entry.findtext("name") or "").strip() for entry in objects],
        boxes=[_edges(entry.find("bndbox")) for entry in objects],
        difficult=[(entry.findtext("difficult") or "0").strip() == "1" for entry in objects],
    )


def _edges(box: ElementTree.Element | None) -> tuple[float, float, float, float]:
    """Edges of a box; one whose corners fall together stays without area.

    Read to the letter, xmin = xmax is one pixel wide. In real sets it is a slip of the mouse.
    """
    x1, y1, x2, y2 = (_number(box, name) for name in ("xmin", "ymin", "xmax", "ymax"))
    if x2 <= x1 or y2 <= y1:
        return x1, y1, x2, y2
    return x1 - _FIRST_PIXEL, y1 - _FIRST_PIXEL, x2, y2


def _number(parent: ElementTree.Element | None, name: str) -> float:
    text = parent.findtext(name) if parent is not None else None
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _whole(parent: ElementTree.Element | None, name: str) -> int:
    value = _number(parent, name)
    return int(value) if 0 < value < 1e9 else 0
