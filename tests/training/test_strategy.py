import numpy as np
import pytest
import tensorflow as tf

from kd_tf.errors import UserError
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings
from tests.training import fakes


@pytest.mark.parametrize(
    ("name", "tf_config", "message"),
    [
        pytest.param("two", "", "one of one, mirrored, multi_worker, tpu, got 'two'", id="name"),
        pytest.param("multi_worker", "", "TF_CONFIG, which is ''.*example", id="no_tf_config"),
        pytest.param("multi_worker", "{", "TF_CONFIG, which is '{'", id="not_json"),
        pytest.param("multi_worker", '{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG", id="no_task"),
        pytest.param("tpu", "", "No TPU found at 'local'.*tensorflow-tpu", id="no_tpu"),
    ],
)
def test_build_strategy_says_what_is_missing(name, tf_config, message, monkeypatch):
    if name == "tpu" and tf.config.list_logical_devices("TPU"):
        pytest.skip("tpu: there is one")
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(UserError, match=message):
        strategies.build_strategy(name)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        pytest.param("one", {"accumulate": 3}, "8 cannot be cut evenly over 1", id="uneven"),
        pytest.param(
            "mirrored", {"jit_compile": True}, "jit_compile does not work under", id="xla_mirrored"
        ),
    ],
)
def test_check_refuses(name, change, message):
    strategy = strategies.build_strategy(name)
    strategies.check(strategy, settings=TrainSettings(steps=1, batch_size=8))
    with pytest.raises(UserError, match=message):
        strategies.check(strategy, settings=TrainSettings(steps=1, batch_size=8, **change))


def test_distribute_starts_at_the_step_and_drops_ids():
    strategy = strategies.build_strategy("one")
    data = strategies.distribute(fakes.batches(batch_size=4), start_step=7, strategy=strategy)
    iterator = iter(data)
    for step in (7, 8):
        got, expected = next(iterator), fakes.batch(step, batch_size=4)
        assert set(got) == {"images", "target", "weights"}
        np.testing.assert_array_equal(got["images"].numpy(), expected["images"])
        np.testing.assert_array_equal(got["target"].numpy(), expected["target"])


def test_distribute_refuses_dynamic_shapes():
    def batches(*_):
        return tf.data.Dataset.range(5).map(lambda i: {"images": i}).batch(2)

    with pytest.raises(ValueError, match="static shapes, 'images' has"):
        strategies.distribute(batches, start_step=0, strategy=strategies.build_strategy("one"))


def test_one_process_is_the_chief_and_agrees_with_itself():
    strategy = strategies.build_strategy("one")
    assert strategies.is_chief(strategy)
    assert strategies.num_workers(strategy) == 1
    agree = strategies.build_agreement(strategy)
    assert (agree(True), agree(False)) == (True, False)
