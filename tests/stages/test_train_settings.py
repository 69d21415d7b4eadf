"""From a run's settings to those of the training loop."""

import pytest

from kd_tf import config
from kd_tf.stages.train import train_settings


@pytest.mark.parametrize(
    ("stage", "given", "expected"),
    [
        pytest.param("teacher", {}, 0.001, id="of_the_teacher"),
        pytest.param("pretrain", {}, 0.005, id="of_the_student"),
        pytest.param("baseline", {}, 0.005, id="baseline_is_a_student"),
        pytest.param("teacher", {"learning_rate": 0.3}, 0.3, id="given"),
        pytest.param(
            "teacher", {"overrides": (("teacher_learning_rate", 0.4),)}, 0.4, id="given_for_stage"
        ),
        pytest.param(
            "finetune", {"overrides": (("teacher_learning_rate", 0.4),)}, 0.005, id="for_another"
        ),
    ],
)
def test_learning_rate_is_the_networks_unless_given(stage, given, expected):
    settings = config.Config(teacher_model="retinanet_tiny", student="yolov8_xs", **given)
    assert train_settings(settings, stage, steps=100).learning_rate == expected


def test_warm_up_and_decay_are_shares_of_the_steps():
    settings = config.Config(warmup_fraction=0.05, decay_fraction=0.25)
    made = train_settings(settings, "pretrain", steps=200)
    assert (made.warmup_steps, made.decay_steps) == (10, 50)


def test_smallest_decay_is_a_step_and_not_the_whole_run():
    assert train_settings(config.Config(), "pretrain", steps=2).decay_steps == 1


def test_batch_norm_is_frozen_where_the_stage_says_so():
    settings = config.Config(overrides=(("finetune_freeze_batch_norm", True),))
    frozen = [train_settings(settings, s, steps=2).freeze_batch_norm for s in config.TRAINING]
    assert config.TRAINING[2] == "finetune"
    assert frozen == [False, False, True, False]


def test_finetune_alone_judges_the_weights_it_begins_with():
    stages = ("teacher", "pretrain", "finetune", "baseline")
    judged = [train_settings(config.Config(), stage, steps=2).judge_start for stage in stages]
    assert judged == [False, False, True, False]
