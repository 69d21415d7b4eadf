"""Runs an exported .onnx file with NumPy, Pillow and onnxruntime; needs no TensorFlow."""

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from kd_tf.errors import UserError
from kd_tf.export.meta import FILE_NAME, meta_from_json
from kd_tf.export.portable import PortableDetector

# What a session raises for bytes that are no model of its own; they share no base class.
_UNREADABLE = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NotImplemented,
)


def load_onnx(content: bytes, *, num_threads: int = 1) -> PortableDetector:
    """A detector from the bytes of an .onnx file written by `export_onnx`.

    Args:
        content: The whole file.
        num_threads: Threads of one inference.

    Raises:
        UserError: The file is no such one.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _UNREADABLE as error:
        raise UserError(f"The ONNX file cannot be loaded: {error}") from error
    text = session.get_modelmeta().custom_metadata_map.get(FILE_NAME)
    if text is None:
        raise UserError(f"The ONNX file holds no {FILE_NAME}: it is not from --stage=export.")

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes, scores = session.run(["boxes_xyxy_px", "scores"], {"images": images})
        return boxes, scores

    return PortableDetector(run, meta=meta_from_json(text, where=FILE_NAME))
