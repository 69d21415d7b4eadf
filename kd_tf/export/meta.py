"""What an exported file knows about itself, kept as JSON inside it; needs no TensorFlow."""

import dataclasses
import json

from kd_tf import values
from kd_tf.errors import UserError

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
    known = {field.name for field in dataclasses.fields(ExportMeta)}
    try:
        given = {name: value for name, value in json.loads(text).items() if name in known}
        lists = {name: tuple(v) for name, v in given.items() if isinstance(v, list)}
        meta = ExportMeta(**{**given, **lists})
        _check(meta)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{where} is not the meta data of an exported detector: {values.show(str(error))}. "
            "Export the student again (--stage=export --overwrite)."
        ) from error
    return meta


def _check(meta: ExportMeta) -> None:
    """Raises ValueError for a value of another type than the field's."""
    if not all(isinstance(name, str) for name in meta.class_names):
        raise ValueError("class_names must be texts")
    if not all(type(side) is int and 0 < side < 65536 for side in meta.image_size):
        raise ValueError(f"image_size must be two numbers of pixels, got {meta.image_size}")
    if len(meta.image_size) != 2:
        raise ValueError(f"image_size must be height and width, got {meta.image_size}")
    if not all(values.to_number(score) is not None for score in meta.score_thresholds):
        raise ValueError("score_thresholds must be numbers")
