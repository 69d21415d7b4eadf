"""Runs an exported .tflite file with NumPy, Pillow and ai-edge-litert; needs no TensorFlow."""

import io
import zipfile
import zlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kd_tf.errors import UserError
from kd_tf.export.meta import FILE_NAME, ExportMeta, meta_from_json
from kd_tf.export.portable import PortableDetector

_MAX_META_BYTES = 16 << 20
# What zipfile raises for damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, LookupError, RuntimeError, OSError, EOFError, ValueError,
)  # fmt: skip


def load_tflite(content: bytes, *, num_threads: int = 1) -> PortableDetector:
    """A detector from the bytes of a .tflite file written by `export_tflite`.

    Args:
        content: The whole file.
        num_threads: Threads of one inference.

    Raises:
        UserError: The file is no such one.
    """
    meta = read_tflite_meta(content)
    try:
        interpreter = Interpreter(model_content=content, num_threads=num_threads)
        network = interpreter.get_signature_runner("network")
        decode = interpreter.get_signature_runner("decode")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"The TFLite file cannot be loaded: {error}") from error

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = decode(**network(images=images))
        return outputs["boxes_xyxy_px"], outputs["scores"]

    return PortableDetector(run, meta=meta)


def read_tflite_meta(content: bytes) -> ExportMeta:
    """The meta data at the end of a .tflite file; the model is not loaded.

    Raises:
        UserError: There are none: another program wrote the file, or it was cut.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.getinfo(FILE_NAME).file_size > _MAX_META_BYTES:
                raise UserError(f"The TFLite file's {FILE_NAME} unpacks to too many bytes.")
            text = archive.read(FILE_NAME)
    except _DAMAGE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"The TFLite file holds no {FILE_NAME}: it is cut, or not from --stage=export."
        ) from error
    return meta_from_json(text, where=FILE_NAME)
