"""label_map.pbtxt of the TensorFlow Object Detection API: names of the labels, from 1."""

import re
from collections.abc import Iterator, Sequence

from absl import logging

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.values import show

FILE_NAME = "label_map.pbtxt"
_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<mark>[{}<>:,;\[\]]) | (?P<word>[^\s{}<>:,;\[\]"'#]+)""",
    re.VERBOSE | re.DOTALL,
)
_MAX_LABEL = 2**31
_BACKGROUND = ("background", "bg", "none", "__background__", "???")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def write(path: str, class_names: Sequence[str]) -> None:
    """Writes a label map: the first class is 1."""
    files.write_text(
        path,
        "".join(
            f"item {{\n  id: {label}\n  name: {_quote(name)}\n}}\n"
            for label, name in enumerate(class_names, start=1)
        ),
    )


def read(path: str) -> dict[int, str]:
    """The name of each label. `display_name` wins over `name`, which may be a code (/m/01g317).

    Blocks inside an item, such as keypoints, are passed over, and so is label 0 where it is
    the background, for which the format keeps it.

    Raises:
        UserError: Not a label map, a label below 1 or one that occurs twice.
    """
    labels: dict[int, str] = {}
    for fields in _items(documents.read_text(path), path):
        name = fields.get("display_name", fields.get("name"))
        given = fields.get("id", "")
        label = int(given) if re.fullmatch(r"[0-9]{1,10}", given) else -1
        if label == 0 and name is not None and _unquote(name).lower() in _BACKGROUND:
            logging.info("%s: label 0, the background, is no class.", path)
            continue
        if not name or not 1 <= label < _MAX_LABEL:
            raise UserError(
                f"{path}: an item has id {show(given)} and name {show(name)}; it needs an id from "
                "1 and a name."
            )
        if label in labels:
            raise UserError(f"{path}: id {label} occurs twice.")
        labels[label] = _unquote(name)
    if not labels:
        raise UserError(f'{path} holds no item {{ id: 1 name: "..." }}: it is not a label map.')
    return dict(sorted(labels.items()))


def _items(text: str, path: str) -> Iterator[dict[str, str]]:
    """The fields of each item, as they stand; what lies in blocks inside an item is left out."""
    depth, field, fields, in_item = 0, "", {}, False
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            line = text.count("\n", 0, position) + 1
            raise UserError(f"{path}: line {line} holds {show(text[position:])}: no label map.")
        position = token.end()
        value = token["text"] or token["word"]
        if token["mark"] in ("{", "<"):
            depth += 1
            in_item = in_item or (depth == 1 and field == "item")
            field = ""
        elif token["mark"] in ("}", ">"):
            if depth == 1 and in_item:
                yield fields
                fields, in_item = {}, False
            depth, field = max(depth - 1, 0), ""
        elif value and field and depth == 1 and in_item:
            fields.setdefault(field, value)
            field = ""
        elif value:
            field = value
        elif token["mark"] in (",", ";"):
            field = ""


def _quote(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _unquote(text: str) -> str:
    if text[:1] not in "\"'":
        return text

    def value(match: re.Match) -> bytes:
        code = match[1]
        if code[:1].isdigit():
            return bytes([int(code, 8) & 255])
        if code[:1] == b"x" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        return _LETTERS.get(code, code)

    return _ESCAPE.sub(value, text[1:-1].encode()).decode("utf-8", "replace")
