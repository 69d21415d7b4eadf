"""Names of formats, and what an export may cost."""

import pytest

from kd_tf.errors import UserError
from kd_tf.export.formats import Artefact, check_ap_drop, load_detector

SAVED_MODEL = Artefact("saved_model", "runs/export/saved_model", 1)
INT8 = Artefact("tflite_int8", "runs/export/detector_int8.tflite", 1)


@pytest.mark.parametrize(
    ("artefact", "keras_ap", "ap", "max_drop", "drop"),
    [
        pytest.param(SAVED_MODEL, 0.5, 0.499, None, 0.001, id="within_the_formats_limit"),
        pytest.param(SAVED_MODEL, 0.5, 0.6, None, -0.1, id="better_than_keras"),
        pytest.param(INT8, 0.5, 0.485, None, 0.015, id="int8_may_lose_more"),
        pytest.param(SAVED_MODEL, 0.5, 0.4, 0.2, 0.1, id="limit_by_flag"),
        pytest.param(SAVED_MODEL, 0.0, 0.0, 0.0, 0.0, id="nothing_to_lose"),
    ],
)
def test_check_ap_drop_gives_the_drop(artefact, keras_ap, ap, max_drop, drop):
    found = check_ap_drop(artefact, keras_ap=keras_ap, ap=ap, max_drop=max_drop)
    assert found == pytest.approx(drop)


@pytest.mark.parametrize(
    ("artefact", "keras_ap", "ap", "max_drop"),
    [
        pytest.param(SAVED_MODEL, 0.5, 0.497, None, id="beyond_the_formats_limit"),
        pytest.param(INT8, 0.5, 0.47, None, id="int8_beyond_its_limit"),
        pytest.param(INT8, 0.5, 0.49, 0.005, id="limit_by_flag"),
        pytest.param(SAVED_MODEL, 0.5, float("nan"), None, id="nan"),
    ],
)
def test_check_ap_drop_refuses(artefact, keras_ap, ap, max_drop):
    with pytest.raises(UserError, match=f"{artefact.format} reaches AP"):
        check_ap_drop(artefact, keras_ap=keras_ap, ap=ap, max_drop=max_drop)


def test_load_detector_of_nothing_says_so(tmp_path):
    with pytest.raises(UserError, match="There is nothing at"):
        load_detector(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="is not a SavedModel written by --stage=export"):
        load_detector(str(tmp_path))
