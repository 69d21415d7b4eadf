"""What a finished stage says about itself: written last, so it makes the folder complete."""

import collections
import dataclasses
import hashlib
import json
import re
import subprocess

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.schema import ANY, TEXT, WHOLE, Schema, check
from kd_tf.values import Json, show

FILE_NAME = "manifest.json"
_VERSION = 1
# Images left out are listed by name, all but in a run that goes wrong anyway; boxes only so
# far that one can look at some.
_LISTED_IMAGES = 10_000
_LISTED_BOXES = 20
_SHA256 = re.compile(r'"[0-9a-f]{64}"')

COUNTS_SCHEMA: Schema = {
    "seen": WHOLE,
    "written": WHOLE,
    "skipped": {TEXT: WHOLE},
    "skipped_boxes": {TEXT: WHOLE},
    "kept_boxes?": WHOLE,
    "examples": {TEXT: [TEXT]},
}
_SCHEMA: Schema = {
    "version": WHOLE,
    "stage": TEXT,
    "identity": {TEXT: ANY},
    "outputs": {TEXT: TEXT},
    "info": {TEXT: ANY},
    "counts": COUNTS_SCHEMA,
}
_ADVICE = (
    "The stage's other files are as they were: bring the file back from a copy, or move the "
    "stage's folder away and run it again."
)


@dataclasses.dataclass(eq=False)
class Counts:
    """What became of the images and boxes that a stage met.

    Attributes:
        seen: Images met.
        written: Images whose result is in the folder.
        skipped: Images left out, by reason.
        skipped_boxes: Boxes left out of images that were kept, by reason; and what is only noted,
            such as boxes that were clipped.
        kept_boxes: Boxes of the images whose result is in the folder.
        examples: For each reason what was left out, as a person would look for it: images
            up to 10,000, boxes only the first 20.
    """

    seen: int = 0
    written: int = 0
    skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    skipped_boxes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    kept_boxes: int = 0
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def skip(self, reason: str, what: str, *, detail: str = "", whole_image: bool = True) -> None:
        """Counts something left out; `whole_image` False means one box of a kept image."""
        (self.skipped if whole_image else self.skipped_boxes)[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < self._most(reason):
            named.append(f"{what}: {detail}" if detail else what)

    def add(self, other: "Counts") -> None:
        """Adds the counts of another part of the same work, for example of another shard."""
        self.seen += other.seen
        self.written += other.written
        self.skipped.update(other.skipped)
        self.skipped_boxes.update(other.skipped_boxes)
        self.kept_boxes += other.kept_boxes
        for reason, named in other.examples.items():
            mine = self.examples.setdefault(reason, [])
            mine.extend(named[: self._most(reason) - len(mine)])

    def _most(self, reason: str) -> int:
        return _LISTED_IMAGES if self.skipped[reason] else _LISTED_BOXES

    def to_json(self) -> dict[str, Json]:
        """Plain values, reasons sorted, for `from_json`."""
        return {
            "seen": self.seen,
            "written": self.written,
            "skipped": dict(sorted(self.skipped.items())),
            "skipped_boxes": dict(sorted(self.skipped_boxes.items())),
            "kept_boxes": self.kept_boxes,
            "examples": dict(sorted(self.examples.items())),
        }

    @classmethod
    def from_json(cls, content: dict[str, Json]) -> "Counts":
        """The counts that `to_json` gave."""
        return cls(
            seen=content["seen"],
            written=content["written"],
            skipped=collections.Counter(content["skipped"]),
            skipped_boxes=collections.Counter(content["skipped_boxes"]),
            kept_boxes=content.get("kept_boxes", 0),  # Earlier versions did not count them.
            examples={reason: list(named) for reason, named in content["examples"].items()},
        )


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of a stage's manifest.

    Attributes:
        stage: Name of the stage.
        identity: The stage's own flags and the content hashes of its inputs, flat: what decides
            whether the work in the folder is the work that is asked for.
        outputs: sha256 of what the stage made, by file name, as far as stages behind it
            depend on it. Not compared with what is asked for, but part of `identity_hash`.
        info: What else is worth knowing and decides nothing: commit, versions, workers, seconds.
        counts: What became of the images.
    """

    stage: str
    identity: dict[str, Json]
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    info: dict[str, Json] = dataclasses.field(default_factory=dict)
    counts: Counts = dataclasses.field(default_factory=Counts)


def write(folder: str, manifest: Manifest) -> None:
    """Writes `folder`/manifest.json, whole or not at all: from here on the stage is complete."""
    files.write_json(
        files.join(folder, FILE_NAME),
        {
            "version": _VERSION,
            "stage": manifest.stage,
            "identity": manifest.identity,
            "outputs": manifest.outputs,
            "info": manifest.info,
            "counts": manifest.counts.to_json(),
        },
    )


def is_complete(folder: str) -> bool:
    """Whether the stage that owns `folder` has finished."""
    return files.exists(files.join(folder, FILE_NAME))


def read(folder: str) -> Manifest:
    """The manifest of a finished stage.

    Raises:
        UserError: There is none, or it is not one that this version understands.
    """
    path = files.join(folder, FILE_NAME)
    if not files.exists(path):
        raise UserError(
            f"{folder} holds no {FILE_NAME}, so its stage has not finished. Run that stage first."
        )
    content = documents.read_json(path)
    version = content.get("version", _VERSION) if isinstance(content, dict) else _VERSION
    if version != _VERSION:
        raise UserError(
            f"{path} has version {show(version)}, this program knows {_VERSION}. "
            "Use the version that wrote it, or give another --workdir."
        )
    check(content, _SCHEMA, path=path, advice=_ADVICE)
    return Manifest(
        stage=content["stage"],
        identity=content["identity"],
        outputs=content["outputs"],
        info=content["info"],
        counts=Counts.from_json(content["counts"]),
    )


def differences(old: dict[str, Json], new: dict[str, Json]) -> list[str]:
    """A readable line for every key in which two identities differ, sorted by key.

    Values are compared as JSON keeps them, so a tuple equals the list read back. Of a
    content hash the first digits are told.
    """
    lines = []
    for key in sorted(old.keys() | new.keys()):
        if key not in new:
            lines.append(f"{key}: was {_told(old[key])}, is not given now")
        elif key not in old:
            lines.append(f"{key}: was not given, is {_told(new[key])} now")
        elif _text(old[key]) != _text(new[key]):
            lines.append(f"{key}: was {_told(old[key])}, is {_told(new[key])} now")
    return lines


def _told(value: Json) -> str:
    text = _text(value)
    return f"content {text[1:9]}" if _SHA256.fullmatch(text) else text


def identity_hash(folder: str) -> str:
    """Hex sha256 of what a finished stage was asked for and made: an input of later stages.

    Counts, versions and times are not in it, so moving a workdir or running a
    deterministic stage once more changes nothing behind it.

    Raises:
        UserError: As `read`.
    """
    manifest = read(folder)
    return content_hash([manifest.stage, manifest.identity, manifest.outputs])


def content_hash(content: Json) -> str:
    """Hex sha256 of a JSON value, the same whatever the order of its keys."""
    return hashlib.sha256(_text(content).encode()).hexdigest()


def _text(value: Json) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def commit() -> str:
    """The commit of the code that runs, or "unknown" outside a checkout."""
    folder = __file__.rsplit("/", 2)[0]
    try:
        found = subprocess.run(
            ["git", "-C", folder, "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
