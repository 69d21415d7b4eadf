"""KerasCV's presets: refusals offline, and (slow) their weights from a file."""

import keras_cv
import numpy as np
import pytest

from kd_tf.detectors import backbones, kerascv_preset, weights
from kd_tf.errors import UserError


def _no_network(*args, **kwargs):
    raise ConnectionError("no route to api.kaggle.com")


def test_unknown_presets_are_refused_with_the_known():
    with pytest.raises(UserError, match="Known: yolo_v8_m_pascalvoc, retinanet_resnet50_pascalvoc"):
        kerascv_preset.load_preset("yolo_v9")
    with pytest.raises(UserError, match=r"Known: .*resnet50_imagenet.*yolo_v8_xs_backbone_coco"):
        kerascv_preset.load_preset_backbone("resnet7")


def test_detector_offline_says_which_file_and_how_to_give_it(monkeypatch):
    monkeypatch.setattr(keras_cv.models.YOLOV8Detector, "from_preset", _no_network)
    expected = (
        r"kaggle://keras/yolov8/keras/yolo_v8_m_pascalvoc/2 \(files config.json and "
        r"model.weights.h5\): no route to api.kaggle.com.*"
        r"kerascv:yolo_v8_m_pascalvoc\?weights=FILE.weights.h5"
    )
    with pytest.raises(UserError, match=expected):
        kerascv_preset.load_preset("yolo_v8_m_pascalvoc")


def test_backbone_offline_says_which_file_and_how_to_give_it(monkeypatch):
    monkeypatch.setattr(keras_cv.models.ResNetBackbone, "from_preset", _no_network)
    backbone = backbones.build_backbone("yolov8_tiny", image_size=(32, 32))
    expected = "resnet50_imagenet/2 .*--backbone_weights=FILE.weights.h5"
    with pytest.raises(UserError, match=expected):
        weights.load_backbone_weights(backbone, "kerascv:resnet50_imagenet")


def test_backbone_preset_that_is_fetched_sets_the_weights(monkeypatch):
    fetched = backbones.build_backbone("yolov8_tiny", image_size=(32, 32))
    monkeypatch.setattr(
        keras_cv.models.YOLOV8Backbone, "from_preset", lambda *args, **kwargs: fetched
    )
    target = backbones.build_backbone("yolov8_tiny", image_size=(64, 64))
    report = weights.load_backbone_weights(target, "kerascv:yolo_v8_xs_backbone_coco")
    assert len(report.loaded) == len(target.weights)
    for one, other in zip(target.weights, fetched.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("preset", kerascv_preset.DETECTOR_PRESETS)
def test_detector_from_a_file_of_weights(preset, tmp_path):
    # The size that KerasCV's metadata states.
    parameters = {"yolo_v8_m_pascalvoc": 25_901_004, "retinanet_resnet50_pascalvoc": 35_596_952}
    model = kerascv_preset._build(preset)
    assert model.count_params() == parameters[preset]
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    detector = kerascv_preset.load_preset(preset, weights=path, batch_size=1, score_floor=0.001)
    needs = detector.needs()
    assert (needs.height, needs.width, needs.resize) == (640, 640, "letterbox_top_left")
    images = np.random.default_rng(0).integers(0, 256, (1, 640, 640, 3), np.uint8)
    found = detector.detect(images)[0]
    assert len(found) == 100
    assert (np.diff(found.scores) <= 0).all()
    assert found.classes.min() >= 0
    assert found.classes.max() < 20


def test_file_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="no weights file at"):
        kerascv_preset._load_weights(
            backbones.build_backbone("yolov8_tiny", image_size=(32, 32)), str(tmp_path / "x.h5")
        )
