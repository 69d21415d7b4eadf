"""Defaults that depend on what data there is."""

import pytest

from kd_tf import config, files, manifests
from kd_tf.errors import UserError
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


def test_scoring_another_workdir_on_the_scenes_by_default_is_refused(tmp_path):
    workdir = str(tmp_path)
    labeled = manifests.Manifest("labeled", {"labeled": ["voc:mine"]})
    manifests.write(files.join(workdir, "labeled"), labeled)
    for stage in ("evaluate", "export"):
        with pytest.raises(UserError, match=r"made of voc:mine.*--eval_data=.*labeled/flags.txt"):
            start(config.Config(stage=stage, workdir=workdir))
    assert start(config.Config(stage="report", workdir=workdir)).settings.eval_data
    given = config.Config(stage="evaluate", workdir=workdir, eval_data="voc:held_out")
    assert start(given).settings.eval_data == "voc:held_out"
