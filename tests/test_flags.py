"""The flags are the settings: same names, same defaults, replayed by a flagfile."""

import dataclasses
import subprocess
import sys

import pytest
from absl import flags as absl_flags

from kd_tf import checks, config, flags
from kd_tf.errors import UserError
from kd_tf.export.formats import FORMATS


def _parse(*arguments: str) -> config.Config:
    values = absl_flags.FlagValues()
    flags.define(values)
    values(["kd_tf", *arguments])
    return flags.read(values)


def test_read_no_flags_gives_the_defaults():
    assert _parse() == config.Config()


def test_stage_form_wins_over_common_and_baseline_follows_pretrain():
    settings = _parse("--batch_size=4", "--pretrain_batch_size=2", "--finetune_learning_rate=0.1")
    of = {stage: settings.of(stage, "batch_size") for stage in config.TRAINING}
    assert of == {"teacher": 4, "pretrain": 2, "finetune": 4, "baseline": 2}
    assert settings.of("finetune", "learning_rate") == 0.1
    assert settings.of("baseline", "learning_rate") == config.Config().learning_rate


def test_variables_in_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "/data")
    settings = _parse(
        "--label_ids=${SOMEWHERE}/ids.txt", "--teacher_backbone_weights=${SOMEWHERE}/w.npz"
    )
    assert settings.label_ids == "/data/ids.txt"
    assert settings.of("teacher", "backbone_weights") == "/data/w.npz"
    monkeypatch.delenv("SOMEWHERE")
    with pytest.raises(UserError, match="variable SOMEWHERE is not set"):
        _parse("--label_ids=${SOMEWHERE}/ids.txt")


def test_export_formats_are_those_that_can_be_written():
    field = {field.name: field for field in config.fields()}["export_formats"]
    assert field.metadata["parts"] == tuple(FORMATS)


def test_identity_holds_the_resolved_settings_of_the_stage_alone():
    settings = _parse("--pretrain_batch_size=2", "--teacher_steps=7")
    assert settings.identity("pretrain")["batch_size"] == 2
    assert settings.identity("teacher")["batch_size"] == 8
    assert "teacher_steps" not in settings.identity("pretrain")
    assert "workdir" not in settings.identity("teacher")


def test_flagfile_replays_every_kind_of_value(tmp_path):
    settings = _parse(
        "--labeled=scenes:train?num=20&domain=fog",
        "--unlabeled=scenes:train?name=a",
        "--unlabeled=images:b",
        "--jit_compile",
        "--freeze_batch_norm",
        "--nopretrain_freeze_batch_norm",
        "--learning_rate=0.0003",
        "--finetune_mosaic=0.5",
        "--seed=3",
    )
    path = tmp_path / "flags.txt"
    path.write_text(flags.to_flagfile(settings))
    assert _parse(f"--flagfile={path}") == settings


def test_every_setting_has_help_and_an_owner_or_is_about_the_run():
    for field in config.fields():
        assert field.metadata["help"], field.name
        unknown = set(field.metadata["stages"]) - set(config.STAGES) - {"labeled", "predictions"}
        assert not unknown, (field.name, unknown)


@pytest.mark.parametrize("workdir", ["runs/ä b, 20 % (2)", "gs://bucket/runs/a", "ram://a{1}"])
def test_read_unusual_workdirs_are_accepted(workdir):
    assert _parse(f"--workdir={workdir}").workdir == workdir


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--finetune_batch_size=0"], "--finetune_batch_size=0 must be at least 1", id="low"
        ),
        pytest.param(["--workdir=runs/[a]"], r"holds '\['.*Give a path", id="workdir_glob"),
        pytest.param(["--workdir=runs/a?b"], r"holds '\?'", id="workdir_spec"),
        pytest.param(["--workdir=runs/a%20b"], "holds '%20'", id="workdir_quoted"),
        pytest.param(["--label_fraction=0"], "greater than 0", id="above"),
        pytest.param(["--label_fraction=1.5"], "at most 1", id="high"),
        pytest.param(["--learning_rate=nan"], "not a finite number", id="nan"),
        pytest.param(["--fusion=magic"], "not one of nms", id="choice"),
        pytest.param(["--student=yolo8_tiny"], "Did you mean 'yolov8_tiny'", id="student"),
        pytest.param(["--image_size=100x160"], "100 must be a multiple of 32", id="multiple"),
        pytest.param(["--image_size=160"], "must be HxW", id="size_form"),
        pytest.param(
            ["--label_fraction=0.1", "--num_labels=5"], "contradict", id="share_and_number"
        ),
        pytest.param(["--worker_index=2", "--num_workers=2"], "must be below", id="worker"),
        pytest.param(["--score_threshold=1.2"], r"in \[0, 1\]", id="threshold"),
        pytest.param(
            ["--score_threshold=0.2", "--ignore_threshold=0.3"], "must not exceed", id="band"
        ),
        pytest.param(
            ["--overwrite", "--stage=pseudo", "--num_workers=2"], "is for one process", id="anew"
        ),
        pytest.param(
            ["--overwrite", "--strategy=multi_worker"], "is for one process", id="anew_together"
        ),
        pytest.param(["--pretrain_accumulate=3"], "divisible by accumulate=3", id="accumulate"),
        pytest.param(["--scale_jitter=2,1"], "low <= high", id="jitter_order"),
        pytest.param(["--scale_jitter=x"], "two numbers", id="jitter_form"),
        pytest.param(["--jit_compile", "--strategy=mirrored"], "does not work", id="jit"),
        pytest.param(["--labeled=images:x"], "has no labels", id="unlabelled_as_labelled"),
        pytest.param(
            ["--teacher=keras:a/m.keras", "--teacher=keras:b/m.keras"], "add name=", id="same_name"
        ),
        pytest.param(["--stage=compare"], "go together", id="compare_alone"),
        pytest.param(["--also_write=cocoo"], "one of coco, yolo.*Did you mean 'coco'", id="parts"),
        pytest.param(["--export_formats=tflite"], "not one of saved_model", id="formats"),
        pytest.param(["--export_formats=onnx,onnx"], "one of them twice", id="format_twice"),
        pytest.param(["--export_formats= ,"], "needs at least one of saved_model", id="no_format"),
        pytest.param(["--tta_scales=1;2"], "must be numbers, for example 1,2", id="scales"),
        pytest.param(["--teacher_weights=big"], "must look like big=2", id="weights_form"),
        pytest.param(["--teacher_weights=big=0"], "greater than 0", id="weights_sign"),
        pytest.param(["--ema_decay=1"], "must be below 1", id="ema"),
        pytest.param(["--weight_decay=5"], "at most 1", id="weight_decay"),
    ],
)
def test_read_wrong_settings_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        _parse(*arguments)


def test_multi_worker_without_a_cluster_is_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="TF_CONFIG"):
        checks.check(dataclasses.replace(config.Config(), strategy="multi_worker"))


def test_unknown_flag_names_the_nearest_and_help_needs_no_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "kd_tf.main"]
    found = subprocess.run([*command, "--studnt=x"], capture_output=True, text=True)
    assert found.returncode != 0 and "Did you mean: student" in found.stderr
    assert "tensorflow" not in found.stderr
