"""What the chain refuses before its first stage."""

import dataclasses

import pytest

from kd_tf import config, files
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import preflight, teachers
from kd_tf.stages.run import Run


@pytest.fixture
def settings(tmp_path):
    return config.Config(
        workdir=str(tmp_path / "run"),
        labeled=("scenes:train?num=20&size=64",),
        eval_data="scenes:eval?num=4&size=64",
        score_threshold="auto",
    )


def _check(settings, **changes) -> None:
    preflight.check(Run(dataclasses.replace(settings, **changes), redo=True))


def test_check_good_settings_pass_and_a_dry_run_writes_nothing(settings):
    _check(settings, dry_run=True, teacher_model="yolov8_s")
    assert not files.exists(settings.workdir)
    _check(settings, overrides=(("teacher_backbone_weights", "kerascv:resnet50_imagenet"),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"eval_data": "voc:/nope"}, "/nope.*Annotations/", id="eval_data"),
        pytest.param({"val_data": "voc:/nope"}, "/nope.*does not exist", id="val_data"),
        pytest.param({"unlabeled": ("images:/nope",)}, "/nope", id="unlabeled"),
        pytest.param({"label_ids": "/nope.txt"}, "--label_ids: .*'/nope.txt'", id="label_ids"),
        pytest.param({"score_threshold": "/t.json"}, "--score_threshold: ", id="thresholds"),
        pytest.param({"backbone_weights": "/w.npz"}, "weights of teacher: ", id="weights"),
        pytest.param({"class_map": "disc"}, "disc", id="class_map"),
        pytest.param(
            {"labeled": ("scenes:train?num=20&size=64&classes=disc",),
             "eval_data": "scenes:eval?num=4&size=64&classes=ring"},
            "none of the run's classes. It has: ring; the run: disc", id="classes",
        ),
        pytest.param(
            {"eval_data": "scenes:train?num=9&size=64"}, "of the 9 images of --eval_data",
            id="leakage",
        ),
    ],
)  # fmt: skip
def test_check_refuses(settings, changes, message):
    with pytest.raises(UserError, match=message):
        _check(settings, **changes)


def test_own_teacher_is_known_by_its_content_wherever_the_workdir_lies(settings, tmp_path):
    identities = []
    for name in ("here", "there"):
        run = Run(dataclasses.replace(settings, workdir=str(tmp_path / name)), redo=True)
        files.write_bytes(run.folder("teacher", "model.keras"), b"the same weights")
        source = open_source(parse(settings.eval_data, DATA_KINDS))
        (spec,) = teachers.specs(run)
        asked = teachers.question(run, spec, source, parts=("predictions", spec.name))
        identities.append(asked.stage.identity(run.settings))
    assert identities[0] == identities[1]
