"""A network as one ONNX file, through tf2onnx."""

import onnx
import tensorflow as tf
import tf2onnx

from kd_tf import files
from kd_tf.export.meta import FILE_NAME, ExportMeta, meta_to_json
from kd_tf.export.raw_network import ExportableNetwork, RawNetwork

# Of 2022, so runtimes of the last years have it; tf2onnx 1.17 reaches 18 at most.
OPSET = 18


def export_onnx(network: ExportableNetwork, path: str, *, meta: ExportMeta) -> None:
    """Writes an .onnx file: images [B, H, W, 3] float32 to boxes and scores of every anchor.

    Input and outputs are those of `RawNetwork`, both functions in one; letterbox and NMS are
    the caller's (kd_tf/export/onnx_runner.py has them). The meta data are the entry
    `kd_tf_export.json` of the file's metadata_props.
    """
    module = RawNetwork(network, batch_size=None)

    def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return module.decode(**module.network(images))

    model, _ = tf2onnx.convert.from_function(
        tf.function(run, input_signature=module.network.input_signature),
        input_signature=module.network.input_signature,
        opset=OPSET,
    )
    onnx.helper.set_model_props(model, {FILE_NAME: meta_to_json(meta)})
    onnx.checker.check_model(model)
    files.write_bytes(path, model.SerializeToString())
