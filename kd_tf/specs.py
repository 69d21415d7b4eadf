"""A data set or a teacher as one string: `kind:location?key=value&key=value`."""

import dataclasses
import difflib
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
    "tflite": ("classes", "ids", "label_offset", "resize", "name"),
    "results": ("categories", "images", "join", "name"),
    "python": ("name", "*"),
}


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
            return self.options["name"]
        last = self.location.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        stem = re.sub(r"\.(json|keras|tflite|yaml|yml)$", "", last)
        return re.sub(r"[^\w.-]+", "_", stem).strip("_") or self.kind


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
        options[key] = urllib.parse.unquote(value)
    return Spec(text, kind, urllib.parse.unquote(location), options)


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
    """The parts of a comma list, in its order and without blanks; "" gives none."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
