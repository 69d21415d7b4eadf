import os
import pathlib
import subprocess
import sys

import pytest

from experiments.coco import dry_run
from kd_tf.errors import UserError

FOLDER = pathlib.Path(dry_run.__file__).parent
ROOT = FOLDER.parent.parent


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    """Flagfiles name the common one from the project's folder."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COCO", "/coco")
    monkeypatch.setenv("KD_TF_DATA", "/data")


def _read(*names):
    return dry_run.read([f"--flagfile={FOLDER / name}.txt" for name in names])


@pytest.mark.parametrize(
    ("machine", "batch", "teacher_batch", "finetune_steps"),
    [
        pytest.param("gpu1", 64, 16, 5500, id="gpu1"),
        pytest.param("gpu8", 256, 128, 1400, id="gpu8"),
        pytest.param("tpu", 256, 64, 1400, id="tpu"),
    ],
)
def test_flagfiles_do_the_epochs_that_the_readme_counts(
    machine, batch, teacher_batch, finetune_steps
):
    found = _read(machine)
    assert found.of("pretrain", "batch_size") == batch
    assert found.of("teacher", "batch_size") == teacher_batch
    assert found.finetune_steps == finetune_steps
    assert found.pretrain_steps * batch / 239_690 == pytest.approx(50, rel=0.01)
    assert found.teacher_steps * teacher_batch / 116_287 == pytest.approx(12, rel=0.01)
    assert found.finetune_steps * batch / 11_629 == pytest.approx(30, rel=0.03)


@pytest.mark.parametrize("machine", ["gpu1", "gpu8", "tpu"])
def test_retinanet_flagfile_changes_the_student_alone(machine):
    found = _read(machine, "retinanet")
    assert found.student == "retinanet_resnet50"
    assert (found.of("pretrain", "accumulate"), found.of("teacher", "accumulate")) == (4, 1)
    assert (found.of("pretrain", "optimizer"), found.of("teacher", "optimizer")) == ("sgd", "adamw")


def test_replaced_makes_small_and_says_what():
    before = _read("tpu")
    after = dry_run.replaced(before, keep=["image_size"])
    assert (after.strategy, after.jit_compile, after.image_size) == ("one", False, "640x640")
    assert after.of("teacher", "batch_size") == after.of("finetune", "batch_size") == 4
    assert after.of("teacher", "backbone_weights") == ""
    assert after.teacher_steps == after.pretrain_steps == after.finetune_steps == 2
    # What is the recipe's own stays.
    assert (after.teacher_model, after.precision) == ("yolov8_xl", "bfloat16")
    assert after.of("finetune", "learning_rate") == 0.001
    lines = dry_run.differences(before, after)
    assert "strategy: tpu -> one" in lines
    assert "teacher_batch_size: 64 -> as batch_size" in lines
    assert not any(line.startswith(("image_size", "student", "learning_rate")) for line in lines)


def test_a_stage_form_behind_the_flagfile_stays():
    own = ("--teacher_batch_size=6", "--teacher_backbone_weights=x")
    before = dry_run.read([f"--flagfile={FOLDER / 'tpu.txt'}", *own])
    after = dry_run.replaced(before, keep=["teacher_batch_size", "teacher_backbone_weights"])
    assert after.of("teacher", "batch_size") == 6
    assert after.of("finetune", "batch_size") == 4
    assert after.of("teacher", "backbone_weights") == "x"


def test_main_without_a_flagfile_says_what_to_give():
    with pytest.raises(UserError, match="Give a flagfile"):
        dry_run.main(["--student=yolov8_s"])


@pytest.mark.slow
def test_dry_run_trains_two_steps_of_every_stage(real_data):
    found = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.coco.dry_run", "experiments/coco/gpu8.txt"),
            # The recipe's teacher has 64 million parameters; that it is built is tested elsewhere.
            *("--teacher_model=yolov8_tiny", "--image_size=64x64", "--precision=float32"),
        ],
        env={**os.environ, "KD_TF_DATA": str(real_data)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "strategy: mirrored -> one" in found.stdout
    assert "teacher, pseudo, pretrain, finetune, baseline built and trained 2 steps" in found.stdout
