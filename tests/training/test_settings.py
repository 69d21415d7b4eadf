import dataclasses

import pytest

from kd_tf.errors import UserError
from kd_tf.training import settings as all_settings
from kd_tf.training.settings import TrainSettings

GOOD = TrainSettings(steps=1, batch_size=6, accumulate=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"steps": 0}, r"steps must be in \[1, .*got 0", id="no_step"),
        pytest.param({"learning_rate": 0.0}, "learning_rate must be in", id="no_learning"),
        pytest.param({"learning_rate": float("nan")}, "got nan", id="nan"),
        pytest.param({"ema_decay": 1.0}, "ema_decay must be in", id="average_that_never_moves"),
        pytest.param({"optimizer": "adam"}, "one of adamw, sgd, got 'adam'", id="optimizer"),
        pytest.param({"precision": "float16"}, "one of float32, bfloat16", id="precision"),
        pytest.param({"accumulate": 4}, "6 cannot be cut into accumulate=4", id="accumulate"),
    ],
)
def test_check_names_the_field(change, message):
    all_settings.check(GOOD)
    with pytest.raises(UserError, match=message):
        all_settings.check(dataclasses.replace(GOOD, **change))


def test_speed_only_are_fields():
    assert set(all_settings.SPEED_ONLY) <= {f.name for f in dataclasses.fields(TrainSettings)}
