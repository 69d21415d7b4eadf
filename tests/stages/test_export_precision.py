"""A student trained in bfloat16 leaves in float32."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from kd_tf import config, files, manifests, stages
from kd_tf.detectors import zoo
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.detectors.saving import load_network, save_network
from kd_tf.export.exported import load_exported

pytestmark = pytest.mark.slow

IMAGES = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    """A finished stage pretrain with a network of bfloat16, and its export."""
    workdir = str(tmp_path_factory.mktemp("run"))
    network = zoo.build(
        "yolov8_tiny", class_names=("a", "b"), image_size=(64, 64), precision="mixed_bfloat16"
    )
    # With moving statistics that fit, activations reach the last layers at their full size.
    for _ in range(20):
        network.model(tf.cast(IMAGES, tf.float32), training=True)
    save_network(network, files.join(workdir, "pretrain", "model.keras"))
    manifests.write(files.join(workdir, "pretrain"), manifests.Manifest("pretrain", {}))
    stages.run(config.Config(stage="export", workdir=workdir, unlabeled=("scenes:unlabeled",)))
    return workdir


def _dtypes(path: str) -> set[str]:
    """Names of all types that nodes and inner functions of a SavedModel mention."""
    stored = saved_model_pb2.SavedModel.FromString(files.read_bytes(path))
    (graph,) = (meta.graph_def for meta in stored.meta_graphs)
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    values = [value for node in nodes for value in node.attr.values()]
    numbers = {n for value in values for n in (value.type, value.tensor.dtype, *value.list.type)}
    return {types_pb2.DataType.Name(number) for number in numbers}


def test_export_of_bfloat16_computes_in_float32(workdir):
    found = _dtypes(files.join(workdir, "export", "saved_model", "saved_model.pb"))
    assert "DT_FLOAT" in found
    assert "DT_BFLOAT16" not in found


def test_export_of_bfloat16_finds_what_the_network_finds_in_float32(workdir):
    path = files.join(workdir, "pretrain", "model.keras")
    exported = load_exported(files.join(workdir, "export", "saved_model")).detect(IMAGES)
    same, trained = (
        NetworkDetector(load_network(path, precision=precision), batch_size=4).detect(IMAGES)
        for precision in ("float32", None)
    )
    for found, one, other in zip(exported, same, trained, strict=True):
        np.testing.assert_allclose(found.scores, one.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes, one.boxes, atol=1e-3)
        # In bfloat16, 8 bits of mantissa, the ten best differ by .0008 at most.
        np.testing.assert_allclose(found.scores[:10], other.scores[:10], atol=4e-3)
        assert np.abs(found.scores - other.scores).max() > 1e-4
