"""An exported SavedModel as a detector, so that the yardstick of training measures it too."""

import numpy as np
import tensorflow as tf

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.export.meta import FILE_NAME, ExportMeta, meta_from_json
from kd_tf.geometry.detections import Detections, Needs

_SIGNATURES = ("serving_default", "image_tensor", "tf_example")


def read_export_meta(folder: str) -> ExportMeta:
    """The meta data of a SavedModel written by `export_saved_model`; the graph is not loaded.

    Raises:
        UserError: The folder is no SavedModel of this package.
    """
    path = files.join(folder, "assets", FILE_NAME)
    if not files.exists(path):
        raise UserError(
            f"{folder} holds no {files.join('assets', FILE_NAME)}: it is not a SavedModel written "
            "by --stage=export. Give the folder that holds saved_model.pb."
        )
    return meta_from_json(documents.read_bytes(path), where=path)


def load_exported(folder: str) -> "SavedModelDetector":
    """Loads a SavedModel written by `export_saved_model`.

    Raises:
        UserError: The folder holds no such SavedModel, or one that cannot be loaded.
    """
    meta = read_export_meta(folder)
    try:
        with files.local_to_read(folder) as local:
            module = tf.saved_model.load(local)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        tf.errors.OpError,
    ) as error:
        raise UserError(
            f"{folder} cannot be loaded as a SavedModel: {documents.show(str(error), 300)}"
        ) from error
    missing = [name for name in _SIGNATURES if name not in module.signatures]
    if missing:
        raise UserError(
            f"{folder} lacks the signature {', '.join(missing)}: it is not a SavedModel written by "
            "--stage=export."
        )
    return SavedModelDetector(module, meta=meta)


class SavedModelDetector:
    """Runs a loaded SavedModel; implements `kd_tf.geometry.detections.Detector`.

    Attributes:
        meta: What the file says about itself.
    """

    def __init__(self, module: tf.Module, *, meta: ExportMeta):
        self.meta = meta
        # The signatures die with the module that owns their variables.
        self._module = module
        self._signatures = module.signatures

    def needs(self) -> Needs:
        """Images as they are: the SavedModel letterboxes by itself."""
        return Needs(self.meta.class_names, height=None, width=None, resize="none")

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in images [B, H, W, 3] uint8 RGB of any one size."""
        run = self._signatures["image_tensor"]
        return to_detections(run(input_tensor=tf.constant(images, tf.uint8)))

    def detect_files(self, encoded: list[bytes]) -> tuple[list[Detections], list[str]]:
        """Finds objects in image files of any sizes and formats.

        Returns:
            One `Detections` per file, boxes in pixels of the upright original, and one
            status per file: "ok", or why there are no detections.
        """
        outputs = self._signatures["serving_default"](
            image_bytes=tf.constant(encoded, tf.string, shape=[len(encoded)])
        )
        return to_detections(outputs), [text.decode() for text in outputs["status"].numpy()]


def to_detections(outputs: dict[str, tf.Tensor]) -> list[Detections]:
    """One `Detections` per row of a signature's outputs."""
    counts = outputs["num_detections"].numpy().astype(int)
    boxes = outputs["detection_boxes_xyxy_px"].numpy()
    scores = outputs["detection_scores"].numpy()
    classes = outputs["detection_classes"].numpy().astype(np.int32) - 1
    return [
        Detections(boxes[row, :count], scores[row, :count], classes[row, :count])
        for row, count in enumerate(counts)
    ]
