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
    variable = tf.Variable([[4.0], [0.0]])
    average = ema.create([variable])
    variable.assign([[14.0], [0.0]])
    # Decay 0.1 at step 0: 0.1 * 4 + 0.9 * 14 = 13.
    ema.update(average, [variable], step=tf.constant(0), decay=0.5)
    assert average.numpy() == pytest.approx([13.0, 0.0])
    variable.assign([[5.0], [0.0]])
    # Decay 0.5 at step 100: (13 + 5) / 2 = 9.
    ema.update(average, [variable], step=tf.constant(100), decay=0.5)
    assert average.numpy() == pytest.approx([9.0, 0.0])
    assert variable.numpy()[0] == 5.0


def test_swapped_gives_the_weights_back_after_an_error():
    variables = [tf.Variable([1.0]), tf.Variable([[3.0, 4.0]])]
    average = tf.Variable([2.0, 5.0, 6.0])
    with pytest.raises(KeyError), ema.swapped(variables, average):
        assert variables[0].numpy() == pytest.approx([2.0])
        assert variables[1].numpy()[0] == pytest.approx([5.0, 6.0])
        raise KeyError
    assert [v.numpy().ravel().tolist() for v in (*variables, average)] == [
        [1.0],
        [3.0, 4.0],
        [2.0, 5.0, 6.0],
    ]


def test_swapped_without_averages_leaves_the_weights():
    variable = tf.Variable([1.0])
    with ema.swapped([variable], None):
        assert variable.numpy()[0] == 1.0
