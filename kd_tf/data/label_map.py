"""label_map.pbtxt of the TensorFlow Object Detection API: names of the labels, from 1."""

import re
from collections.abc import Sequence

from kd_tf import files
from kd_tf.errors import UserError

FILE_NAME = "label_map.pbtxt"
_STRING = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_ITEM = re.compile(rf"\bitem\s*:?\s*\{{((?:{_STRING}|[^{{}}\"'])*)\}}", re.DOTALL)
_FIELD = re.compile(rf"(\w+)\s*:\s*({_STRING}|[^\s,;]+)")
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

    Raises:
        UserError: Not a label map, a label below 1 or one that occurs twice.
    """
    labels: dict[int, str] = {}
    # Comments hold no quotes in practice; a # inside a name is kept.
    text = re.sub(r"(?m)^\s*#.*$", "", files.read_text(path))
    for item in _ITEM.finditer(text):
        fields = dict(_FIELD.findall(item[1]))
        name = fields.get("display_name", fields.get("name"))
        if name is None or not fields.get("id", "").isdigit() or int(fields["id"]) < 1:
            raise UserError(f"{path}: {item[0]!r} needs an id from 1 and a name.")
        if int(fields["id"]) in labels:
            raise UserError(f"{path}: id {fields['id']} occurs twice.")
        labels[int(fields["id"])] = _unquote(name)
    if not labels:
        raise UserError(f'{path} holds no item {{ id: 1 name: "..." }}: it is not a label map.')
    return dict(sorted(labels.items()))


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
