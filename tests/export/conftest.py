"""One tiny network and its exports, written once for all tests of this folder."""

import numpy as np
import pytest

from kd_tf.export import formats
from kd_tf.export.meta import ExportMeta
from tests.export import images
from tests.export.fake_network import CLASS_NAMES, FakeNetwork


@pytest.fixture(scope="session")
def network() -> FakeNetwork:
    return FakeNetwork((64, 96))


@pytest.fixture(scope="session")
def meta() -> ExportMeta:
    return ExportMeta(
        class_names=CLASS_NAMES,
        image_size=(64, 96),
        score_thresholds=(0.5, 0.51, 0.52),
        network="fake",
        stage="finetune",
        commit="abc123",
        ap=0.25,
        versions={"tensorflow": "2.20.0"},
    )


@pytest.fixture(scope="session")
def saved_model(network, meta, tmp_path_factory) -> str:
    """Folder of the exported SavedModel."""
    folder = str(tmp_path_factory.mktemp("saved_model"))
    (artefact,) = formats.export(network, folder, formats=["saved_model"], meta=meta)
    return artefact.path


@pytest.fixture(scope="session")
def tflite_files(network, meta, tmp_path_factory) -> dict[str, str]:
    """Paths of the TFLite files by format name."""
    folder = str(tmp_path_factory.mktemp("tflite"))
    names = [name for name in formats.FORMATS if name.startswith("tflite")]
    artefacts = formats.export(
        network, folder, formats=names, meta=meta, representative=representative_images
    )
    return {artefact.format: artefact.path for artefact in artefacts}


def representative_images():
    """Twenty images of several sizes."""
    for seed in range(20):
        yield images.pixels(60 + 7 * seed, 90, seed=seed)


@pytest.fixture(scope="session")
def keras_predictor(network, meta):
    """From an upright image [H, W, 3] uint8 to detections in its pixels, by the Keras model."""
    import tensorflow as tf

    from kd_tf.geometry.detections import Detections
    from kd_tf.geometry.letterbox import boxes_to_original, resize_image

    def predict(image: np.ndarray) -> Detections:
        resized = resize_image(tf.constant(image), network.image_size, resize="letterbox")
        found = network.decode(
            network.model(tf.cast(resized, tf.float32)[tf.newaxis], training=False),
            score_floor=meta.score_floor,
            iou_threshold=meta.iou_threshold,
            max_detections=meta.max_detections,
        )
        count = int(found["num_detections"][0])
        boxes = boxes_to_original(
            found["boxes"][0, :count].numpy(),
            image.shape[:2],
            network.image_size,
            resize="letterbox",
        )
        return Detections(
            boxes, found["scores"][0, :count].numpy(), found["classes"][0, :count].numpy()
        )

    return predict
