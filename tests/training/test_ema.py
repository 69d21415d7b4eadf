import pytest
import tensorflow as tf

from kd_tf.training import ema


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(0, 0.1, id="first_update_nearly_forgets_the_start"),
        pytest.param(8, 0.5, id="nine_eighteenths"),
        pytest.param(81, 82 / 91, id="last_before_the_bound"),  # 0.9 is reached at (1+80)/(10+80)
        pytest.param(10**6, 0.95, id="bounded"),
    ],
)
def test_decay_at(step, expected):
    assert float(ema.decay_at(tf.constant(step), decay=0.95)) == pytest.approx(expected, rel=1e-6)


def test_update_follows_by_hand():
    variable = tf.Variable([4.0])
    averages = ema.create([variable])
    variable.assign([14.0])
    # Decay 0.1 at step 0: 0.1 * 4 + 0.9 * 14 = 13.
    ema.update(averages, [variable], step=tf.constant(0), decay=0.5)
    assert averages[0].numpy()[0] == pytest.approx(13.0)
    variable.assign([5.0])
    # Decay 0.5 at step 100: (13 + 5) / 2 = 9.
    ema.update(averages, [variable], step=tf.constant(100), decay=0.5)
    assert averages[0].numpy()[0] == pytest.approx(9.0)
    assert variable.numpy()[0] == 5.0


def test_swapped_gives_the_weights_back_after_an_error():
    variable, average = tf.Variable([1.0]), tf.Variable([2.0])
    with pytest.raises(KeyError), ema.swapped([variable], [average]):
        assert variable.numpy()[0] == 2.0
        raise KeyError
    assert (variable.numpy()[0], average.numpy()[0]) == (1.0, 2.0)


def test_swapped_without_averages_leaves_the_weights():
    variable = tf.Variable([1.0])
    with ema.swapped([variable], []):
        assert variable.numpy()[0] == 1.0
