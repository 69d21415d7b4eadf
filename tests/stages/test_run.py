"""Defaults that depend on what data there is."""

import pytest

from kd_tf import config
from kd_tf.stages.run import start


@pytest.mark.parametrize(
    ("given", "threshold"),
    [
        pytest.param({"labeled": ("voc:x",)}, "auto", id="labels"),
        pytest.param({"unlabeled": ("images:x",)}, "0.5", id="no_labels"),
        pytest.param({"labeled": ("voc:x",), "score_threshold": "0.3"}, "0.3", id="given"),
        pytest.param({}, "auto", id="scenes"),
    ],
)
def test_score_threshold_is_automatic_where_there_are_labels(given, threshold):
    assert start(config.Config(stage="report", **given)).settings.score_threshold == threshold


def test_without_any_data_the_scenes_are_taken():
    settings = start(config.Config(stage="report")).settings
    assert (settings.labeled, settings.eval_data) == (("scenes:train",), "scenes:eval")
    assert start(config.Config(stage="report", eval_data="voc:x")).settings.labeled == ()
