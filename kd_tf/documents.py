"""Small files that people and other programs write: text, lists of names, JSON, YAML.

Whatever is in such a file, only a UserError comes out: it names the file, what came and what is
allowed. Nothing in a file is executed.
"""

import codecs
import json
import re

import tensorflow as tf
import yaml
from absl import logging

from kd_tf import files
from kd_tf.errors import UserError
from kd_tf.values import Json, show

# YAML as it is read here: numbers and words alike are text.
Yaml = str | list["Yaml"] | dict[str, "Yaml"]

_MAX_YAML_BYTES = 4 << 20
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: str, *, where: str = "") -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 with a byte order mark, else Windows-1252.

    Windows-1252 is what is left when text is not UTF-8; it is logged, as it is a guess.

    Args:
        path: The file.
        where: The flag or spec that names it, for the message.

    Raises:
        UserError: It cannot be read, or is no text.
    """
    return decode(read_bytes(path, where=where), path=path)


def read_bytes(path: str, *, where: str = "") -> bytes:
    """The bytes of a file that must be there.

    Raises:
        UserError: It is missing, a folder, or cannot be read.
    """
    named = _named(path, where)
    try:
        if files.is_folder(path):
            raise UserError(f"{named} is a folder; a file is needed.")
        if files.is_special(path):
            raise UserError(f"{named} is a pipe or a device; a file is needed.")
        return files.read_bytes(path)
    except tf.errors.NotFoundError as error:
        raise UserError(f"{named}: there is no such file.") from error
    except (tf.errors.OpError, OSError, UnicodeError) as error:
        raise UserError(f"{named} cannot be read: {show(str(error))}.") from error


def _named(path: str, where: str) -> str:
    return f"{where}: {show(path)}" if where else show(path)


def decode(content: bytes, *, path: str) -> str:
    """The text of a file's bytes; see `read_text`. `path` is for messages."""
    mark, encoding = next((pair for pair in _MARKS if content.startswith(pair[0])), (b"", "utf-8"))
    content = content.removeprefix(mark)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UserError(f"{show(path)} begins like {encoding} and is none: {error}.") from error
        text = _decode_windows(content, path=path)
    if "\0" in text:
        raise UserError(f"{show(path)} is no text: it holds NUL characters. Save it as UTF-8.")
    return text


def _decode_windows(content: bytes, *, path: str) -> str:
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{show(path)} is neither UTF-8 nor Windows-1252 text. Save it as UTF-8."
        ) from error
    logging.warning("%s is not UTF-8; it is read as Windows-1252. Save it as UTF-8.", show(path))
    return text


def read_lines(path: str, *, where: str = "") -> list[str]:
    r"""The lines of a text file without blanks around them; empty ones are left out.

    Lines end with \n, \r\n or \r, and with nothing else: a name may hold any other letter.
    """
    lines = split_lines(read_text(path, where=where))
    return [line.strip() for line in lines if line.strip()]


def split_lines(text: str) -> list[str]:
    r"""The lines of a text, which end with \n, \r\n or \r."""
    return _LINE_ENDS.split(text)


def read_json(path: str, *, where: str = "") -> Json:
    """The content of a JSON file.

    Raises:
        UserError: It cannot be read, or is not JSON.
    """
    return parse_json(read_text(path, where=where), path=path, where=where)


def parse_json(text: str | bytes, *, path: str, where: str = "") -> Json:
    """The content of JSON text. `path` is for messages.

    Raises:
        UserError: It is not JSON, is nested too deep, or holds a number of thousands of digits.
    """
    if isinstance(text, bytes):
        text = decode(text, path=path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{_named(path, where)} is not JSON: {show(str(error))}.") from error


def read_json_lines(path: str) -> list[Json]:
    """One JSON value a line; a last line without its end, which a crash cut off, is left out."""
    lines = read_text(path).split("\n")
    return [parse_json(line, path=path) for line in lines[:-1] if line.strip()]


def read_yaml(path: str, *, where: str = "") -> Yaml:
    """The content of a YAML file; every scalar is text as it stands: "on", "007", "1.0".

    So no name turns into a truth value or a number; see `to_whole`. Tags are not obeyed.

    Raises:
        UserError: It cannot be read, is not YAML, gives a key twice, or repeats a list or table
            by an alias (a few such lines unfold to gigabytes).
    """
    content = read_bytes(path, where=where)
    if len(content) > _MAX_YAML_BYTES:
        raise UserError(
            f"{show(path)} has {len(content)} bytes; a YAML file has at most {_MAX_YAML_BYTES}."
        )
    try:
        return yaml.load(decode(content, path=path), Loader=_TextLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{show(path)} is not YAML: {show(str(error), 300)}.") from error


class _TextLoader(yaml.BaseLoader):
    """Reads scalars as text, and refuses what would be joined or unfolded in silence."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            anchor = self.anchors.get(event.anchor)
            if anchor is not None and not isinstance(anchor, yaml.ScalarNode):
                raise UserError(
                    f"YAML repeats a list or table by the alias *{event.anchor}, line "
                    f"{event.start_mark.line + 1}: write it out."
                )
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"YAML line {key_node.start_mark.line + 1}: a key must be a word.")
            if key_node.value in keys:
                raise UserError(
                    f"YAML line {key_node.start_mark.line + 1}: the key "
                    f"{show(key_node.value)} is given twice."
                )
            keys.add(key_node.value)
        return super().construct_mapping(node, deep=deep)
