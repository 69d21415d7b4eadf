"""A data set or a teacher as one string: `kind:location?key=value&key=value`."""

import csv
import dataclasses
import difflib
import hashlib
import os
import re
import urllib.parse

from kd_tf.errors import UserError

# Plain tables: importing them costs nothing, so `--help` can list the kinds.
DATA_KINDS: dict[str, tuple[str, ...]] = {
    "scenes": ("num", "seed", "domain", "size", "classes", "labels", "name"),
    "tfds": ("split", "data_dir", "names", "name"),
    "coco": ("images", "name"),
    "lvis": ("images", "name"),
    "voc": ("ids", "difficult", "origin", "name"),
    "yolo": ("split", "task", "name"),
    "images": ("name",),
    "records": ("name",),
}
TEACHER_KINDS: dict[str, tuple[str, ...]] = {
    "keras": ("name",),
    "kerascv": ("weights", "name"),
    "saved_model": ("label_map", "signature", "input_size", "resize", "name"),
    "tflite": ("classes", "ids", "label_offset", "mean", "std", "scores", "resize", "name"),
    "results": ("categories", "images", "join", "name"),
    "python": ("name", "*"),
}


# Of the name of a folder made from a teacher or data set; file systems take 255.
_MAX_NAME_BYTES = 100


@dataclasses.dataclass(frozen=True)
class Spec:
    """One parsed spec.

    Attributes:
        text: The spec as it was given, variables not expanded: what manifests keep.
        kind: One of the keys of the table it was parsed with.
        location: What follows the kind; may be empty.
        options: The options behind the `?`.
    """

    text: str
    kind: str
    location: str
    options: dict[str, str]

    @property
    def name(self) -> str:
        """The `name=` option, else a name made from the location."""
        if "name" in self.options:
            return self.options["name"]  # One safe segment of a path: `parse` refuses others.
        last = self.location.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        stem = re.sub(r"\.(json|keras|tflite|yaml|yml)$", "", last)
        name = re.sub(r"[^\w.-]+", "_", stem).strip("_") or self.kind
        if len(name.encode()) > _MAX_NAME_BYTES:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            name = name.encode()[: _MAX_NAME_BYTES - 9].decode(errors="ignore") + f"-{digest}"
        return name if name.strip(".") else self.kind


def parse(text: str, kinds: dict[str, tuple[str, ...]]) -> Spec:
    """Parses a spec against a table of kinds.

    Options start at the first `?` (a literal one is `%3F`); `${VAR}` is expanded
    from the environment. A table entry that lists "*" takes any key.

    Raises:
        UserError: Unknown kind or key, unset variable, or an option without `=`.
    """
    kind, colon, rest = expand(text, quote=True).partition(":")
    if not colon or kind not in kinds:
        raise UserError(
            f"{text!r} is not a spec of a known kind. Known: {', '.join(sorted(kinds))}; "
            f"write kind:location, for example {next(iter(kinds))}:..." + nearest(kind, kinds)
        )
    location, _, query = rest.partition("?")
    options = {}
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"{text!r}: option {pair!r} needs the form key=value.")
        if key not in kinds[kind] and "*" not in kinds[kind]:
            raise UserError(
                f"{text!r}: {kind} has no option {key!r}. Known: {', '.join(kinds[kind])}."
                + nearest(key, kinds[kind])
            )
        if key in options:
            raise UserError(f"{text!r}: option {key!r} is given twice.")
        options[key] = _unquoted(value, text)
    if "name" in options:
        _check_name(options["name"], text)
    return Spec(text, kind, home(_unquoted(location, text)), options)


def _unquoted(value: str, text: str) -> str:
    """The value of a spec, free of what no path can hold."""
    found = urllib.parse.unquote(value)
    if "\0" in found or any(0xD800 <= ord(letter) <= 0xDFFF for letter in found):
        raise UserError(
            f"{text!a} holds a NUL or a letter that is no Unicode; write the path as it is."
        )
    return found


def _check_name(name: str, text: str) -> None:
    """Refuses a name that is no folder's: results are kept in folders called after teachers."""
    safe = re.fullmatch(r"[\w .+()-]+", name) and name.strip(". ") and name == name.strip()
    if not safe or len(name.encode()) > _MAX_NAME_BYTES:
        raise UserError(
            f"{text!r}: name={name[:_MAX_NAME_BYTES]} must be one plain name of at most "
            f"{_MAX_NAME_BYTES} bytes: letters, digits and . _ - + ( ), no slash."
        )


def home(path: str) -> str:
    """A path in which a leading ~ is the home folder, as the shell has it."""
    return os.path.expanduser(path) if path.startswith("~") else path


def expand(text: str, *, quote: bool = False) -> str:
    """The text with each `${VAR}` replaced by the environment variable.

    Args:
        text: A path, or with `quote` a spec.
        quote: Whether `%` and `?` in a value are literal, as in the location of a spec.

    Raises:
        UserError: A variable is not set.
    """

    def value(match: re.Match) -> str:
        if match[1] not in os.environ:
            raise UserError(f"{text!r}: the environment variable {match[1]} is not set.")
        found = os.environ[match[1]]
        return found.replace("%", "%25").replace("?", "%3F") if quote else found

    return re.sub(r"\$\{(\w+)\}", value, text)


def nearest(word: str, known: dict | tuple) -> str:
    """Gives " Did you mean 'x'?" for the known word nearest to `word`, or an empty text."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def names_list(text: str) -> tuple[str, ...]:
    """The parts of a comma list, in its order and without blanks; "" gives none.

    A part that holds a comma itself stands in double quotes, as in CSV: a,"b, c".
    """
    try:
        (parts,) = csv.reader([text.replace("\n", " ")], skipinitialspace=True)
    except (csv.Error, ValueError):
        parts = text.split(",")
    return tuple(part.strip() for part in parts if part.strip())
