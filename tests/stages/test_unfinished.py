"""What error messages advise can be done: an unfinished training without an update binds nobody."""

import dataclasses
import re

import absl.flags
import numpy as np
import pytest
import tensorflow as tf

from kd_tf import config, files, flags, stages
from kd_tf.errors import UserError
from kd_tf.training import checkpoint
from kd_tf.training.settings import TrainSettings


@pytest.fixture
def settings(tmp_path):
    """Of a stage teacher that stops where its network is built: its weights' file lacks them."""
    path = str(tmp_path / "weights.npz")
    np.savez(path, stem__kernel=np.zeros(1, np.float32))
    return config.Config(
        stage="teacher",
        workdir=str(tmp_path / "run"),
        labeled=("scenes:train?num=20&size=64",),
        image_size="64x64",
        teacher_model="yolov8_tiny",
        backbone_weights=path,
    )


def _save(settings, *, step: int) -> None:
    """A checkpoint of the stage, with what the loop writes beside it."""
    folder = files.join(settings.workdir, "teacher")
    files.write_text(files.join(folder, "metrics.jsonl"), "")
    checkpoint.save(
        folder,
        variables={"step": tf.Variable(step)},
        progress=checkpoint.Progress(step=step),
        settings=TrainSettings(steps=9, batch_size=1),
    )


def _refused_for_its_weights(settings, *, message="lacks") -> None:
    with pytest.raises(UserError, match=message):
        stages.run(settings)
    assert files.exists(files.join(settings.workdir, "teacher", "label_ids.txt"))


def test_training_without_an_update_takes_other_settings(settings):
    _refused_for_its_weights(settings)
    # The advice of that very message.
    given = dataclasses.replace(settings, allow_missing="nothing")
    _refused_for_its_weights(given, message="No weight or layer of the backbone is called: nothing")
    _save(settings, step=0)
    smaller = dataclasses.replace(given, overrides=(("teacher_batch_size", 2),))
    _refused_for_its_weights(smaller, message="is called: nothing")
    assert not files.exists(files.join(settings.workdir, "teacher", "checkpoint.json"))


def test_training_with_an_update_is_refused_to_other_settings(settings):
    _refused_for_its_weights(settings)
    _save(settings, step=1)
    smaller = dataclasses.replace(settings, batch_size=2)
    with pytest.raises(UserError, match="batch_size: was 8, is 2 now"):
        stages.run(smaller)
    _refused_for_its_weights(settings)
    _refused_for_its_weights(dataclasses.replace(smaller, overwrite=True))


def test_out_of_memory_names_flags_that_exist(monkeypatch):
    def dies(run):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore")

    monkeypatch.setitem(stages._STAGES, "report", dies)
    with pytest.raises(UserError, match=r"out of memory: OOM when allocating For") as caught:
        stages.run(config.Config(stage="report"))
    known = absl.flags.FlagValues()
    flags.define(known)
    named = re.findall(r"--([A-Za-z_]+)", str(caught.value))
    assert "STAGE_batch_size" in named and "overwrite" in named
    for stage in config.OVERRIDING:
        assert {name.replace("STAGE", stage) for name in named} <= set(known)
