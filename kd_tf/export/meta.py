"""What an exported file knows about itself, kept as JSON inside or beside it."""

import dataclasses

from kd_tf import files
from kd_tf.errors import UserError

ASSET_NAME = "kd_tf_export.json"


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
    iou_threshold: float = 0.6
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

    def to_json(self) -> dict:
        """The fields as JSON values, tuples as lists."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def meta_from_json(values: dict, *, where: str) -> ExportMeta:
    """The meta data read back; keys a later version may have added are ignored.

    Args:
        values: As `ExportMeta.to_json` gives them.
        where: The file they come from, for messages.

    Raises:
        UserError: A value is missing or does not fit.
    """
    known = {field.name for field in dataclasses.fields(ExportMeta)}
    kept = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in known
    }
    try:
        return ExportMeta(**kept)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} is not the meta data of an exported detector: {error}") from error


def read_export_meta(folder: str) -> ExportMeta:
    """The meta data of an exported SavedModel.

    Raises:
        UserError: The folder is no SavedModel of this package.
    """
    path = files.join(folder, "assets", ASSET_NAME)
    if not files.exists(path):
        raise UserError(
            f"{folder} holds no {files.join('assets', ASSET_NAME)}: it is not a SavedModel written "
            "by --stage=export. Give the folder that holds saved_model.pb."
        )
    return meta_from_json(_read_object(path), where=path)


def _read_object(path: str) -> dict:
    try:
        values = files.read_json(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, not a JSON object.")
    return values
