"""What an exported file knows about itself, kept as JSON inside it; needs no TensorFlow."""

import dataclasses
import json
from collections.abc import Callable

from kd_tf.errors import UserError
from kd_tf.values import show

# The name of the JSON file: among a SavedModel's assets, and inside a .tflite file.
FILE_NAME = "kd_tf_export.json"


@dataclasses.dataclass(frozen=True)
class ExportMeta:
    """What the user of an exported detector has to know.

    Attributes:
        class_names: In the order of the class indices.
        image_size: (height, width) of the network's input in pixels; images are letterboxed.
        score_thresholds: Per class, the lowest score at which a detection is worth showing:
            the working thresholds found on validation data. Detections below are given too.
        score_floor: Lowest score that is given at all, so that AP can be measured.
        iou_threshold: Of the non-maximum suppression, within one class.
        max_detections: Most detections of one image.
        network: Name of the network, as in kd_tf.names.
        stage: The stage whose weights these are.
        commit: Of the code that exported, or "" where it was no checkout.
        ap: COCO AP of the Keras network on evaluation or validation data; None if unmeasured.
        versions: Library names to versions.
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    score_thresholds: tuple[float, ...]
    score_floor: float = 0.01
    iou_threshold: float = 0.65
    max_detections: int = 100
    network: str = ""
    stage: str = ""
    commit: str = ""
    ap: float | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if len(self.score_thresholds) != len(self.class_names):
            raise ValueError(
                f"score_thresholds needs one value for each of {len(self.class_names)} classes, "
                f"got {len(self.score_thresholds)}."
            )


def meta_to_json(meta: ExportMeta) -> str:
    """The meta data as readable JSON text."""
    return json.dumps(dataclasses.asdict(meta), indent=2, ensure_ascii=False, allow_nan=False)


def meta_from_json(text: str | bytes, *, where: str) -> ExportMeta:
    """The meta data read back; keys that a later version may have added are ignored.

    Args:
        text: As `meta_to_json` gives it.
        where: The file it comes from, for messages.

    Raises:
        UserError: The text is no JSON object, or a value is missing or does not fit.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {show(str(error))}. {_ADVICE}") from error
    if not isinstance(content, dict):
        raise UserError(f"{where} holds {show(content)}; a JSON object is needed. {_ADVICE}")
    values = {}
    for field in dataclasses.fields(ExportMeta):
        if field.name in content:
            values[field.name] = _checked(content[field.name], field.name, where=where)
        elif field.name in _REQUIRED:
            raise UserError(f"{where}: {field.name!r} is missing. {_ADVICE}")
    if len(values["score_thresholds"]) != len(values["class_names"]):
        raise UserError(
            f"{where}: 'score_thresholds' has {len(values['score_thresholds'])} values for "
            f"{len(values['class_names'])} classes. {_ADVICE}"
        )
    return ExportMeta(**values)


_ADVICE = "Export the model again by --stage=export."
_REQUIRED = ("class_names", "image_size", "score_thresholds")


def _checked(value: object, name: str, *, where: str) -> object:
    """A value of the meta data, lists as tuples; raises UserError where it is none."""
    is_sound, wanted = _SCHEMA[name]
    if not is_sound(value):
        raise UserError(f"{where}: {name!r} is {show(value)}; {wanted} is needed. {_ADVICE}")
    return tuple(value) if isinstance(value, list) else value


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list(value: object, of: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(map(of, value))


_MOST = 1 << 16
_SHARE = (_is_share, "a number from 0 to 1")
_TEXT = (_is_text, "text")
# What each value must be, and that in words.
_SCHEMA: dict[str, tuple[Callable[[object], bool], str]] = {
    "class_names": (
        lambda names: _is_list(names, _is_text) and 0 < len(names) == len(set(names)),
        "a list of names, each once,",
    ),
    "image_size": (
        lambda size: _is_list(size, _is_count) and len(size) == 2,
        f"a list of two whole numbers from 1 to {_MOST}",
    ),
    "score_thresholds": (
        lambda values: _is_list(values, _is_share),
        "a list of numbers from 0 to 1",
    ),
    "score_floor": _SHARE,
    "iou_threshold": _SHARE,
    "max_detections": (_is_count, f"a whole number from 1 to {_MOST}"),
    "network": _TEXT,
    "stage": _TEXT,
    "commit": _TEXT,
    "ap": (lambda ap: ap is None or _is_share(ap), "null or a number from 0 to 1"),
    "versions": (
        lambda versions: isinstance(versions, dict) and all(map(_is_text, versions.values())),
        "an object of texts",
    ),
}
