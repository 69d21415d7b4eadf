"""A network as one TFLite file, in float32, float16 or 8-bit integers."""

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import tensorflow as tf

from kd_tf import files
from kd_tf.errors import UserError
from kd_tf.export.meta import FILE_NAME, ExportMeta, meta_to_json
from kd_tf.export.raw_network import ExportableNetwork, RawNetwork, quietly
from kd_tf.geometry.letterbox import resize_image

Precision = Literal["float32", "float16", "int8"]


def export_tflite(
    network: ExportableNetwork,
    path: str,
    *,
    meta: ExportMeta,
    precision: Precision,
    representative: Iterable[np.ndarray] = (),
) -> None:
    """Writes a .tflite file with two signatures, `network` and `decode`, for one image.

    Their inputs and outputs are those of `RawNetwork`; letterbox and NMS are the caller's
    (kd_tf/export/tflite_runner.py has them). In int8 the layers compute in 8 bits while inputs,
    outputs and `decode` stay float32. The meta data lie in a zip archive behind the model,
    where TFLite's own metadata would: `unzip` shows them, and every runtime ignores them.

    Args:
        network: The network with its final weights.
        path: The file to write.
        meta: Goes into the file.
        precision: Of the weights and, in int8, of the layers' outputs.
        representative: For int8: upright images [H, W, 3] uint8 RGB of any sizes, like
            those the detector will see; a hundred are enough. They set the range of each layer.

    Raises:
        UserError: int8 without a representative image.
    """
    module = RawNetwork(network, batch_size=1)
    with tempfile.TemporaryDirectory() as scratch, quietly():
        tf.saved_model.save(module, scratch, signatures=module.signatures())
        converter = tf.lite.TFLiteConverter.from_saved_model(
            scratch, signature_keys=["network", "decode"]
        )
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            inputs = _network_inputs(representative, image_size=tuple(network.image_size))
            converter.representative_dataset = lambda: inputs
        content = converter.convert()
    files.write_bytes(path, content + _archive(meta))


def _network_inputs(
    images: Iterable[np.ndarray], *, image_size: tuple[int, int]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """What the converter feeds to see each layer's range: the signature and its input."""
    empty = True
    for image in images:
        empty = False
        resized = resize_image(tf.constant(image, tf.uint8), image_size, resize="letterbox")
        yield "network", {"images": tf.cast(resized, tf.float32)[tf.newaxis].numpy()}
    if empty:
        raise UserError(
            "tflite_int8 needs representative images, and there is none: give records with at "
            "least one image, or leave tflite_int8 out of --export_formats."
        )


def _archive(meta: ExportMeta) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # A fixed date: the same network gives the same bytes.
        archive.writestr(zipfile.ZipInfo(FILE_NAME), meta_to_json(meta))
        archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{n}\n" for n in meta.class_names))
    return content.getvalue()
