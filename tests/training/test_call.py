import pytest

from kd_tf.training import call
from kd_tf.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(0, 4, id="a_whole_call"),
        pytest.param(4, 2, id="until_the_checkpoint_at_6"),
        pytest.param(6, 2, id="back_into_the_rhythm_at_8"),
        pytest.param(8, 2, id="until_the_validation_at_10"),
        pytest.param(12, 1, id="until_the_end"),
    ],
)
def test_steps_until_host(step, expected):
    settings = TrainSettings(
        steps=13, batch_size=1, steps_per_call=4, checkpoint_every=6, eval_every=10
    )
    assert call.steps_until_host(step, settings=settings) == expected


@pytest.mark.parametrize(
    ("step", "every", "expected"),
    [
        pytest.param(0, 5, False, id="not_before_the_first_update"),
        pytest.param(4, 5, False, id="between"),
        pytest.param(5, 5, True, id="multiple"),
        pytest.param(12, 5, True, id="end"),
        pytest.param(12, 0, True, id="end_only"),
        pytest.param(5, 0, False, id="off"),
    ],
)
def test_is_due(step, every, expected):
    assert call.is_due(step, every=every, steps=12) is expected
