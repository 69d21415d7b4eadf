import dataclasses
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from kd_tf import files
from kd_tf.errors import UserError
from kd_tf.training import checkpoint, loop, stopping, summaries
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings
from tests.training import fakes

SETTINGS = TrainSettings(
    steps=12,
    batch_size=4,
    learning_rate=0.02,
    warmup_steps=2,
    eval_every=5,
    checkpoint_every=3,
    steps_per_call=2,
)


def _train(folder, *, settings=SETTINGS, validate=None, before=lambda step: None, bad_step=None):
    return loop.train(
        build=fakes.build,
        batches=fakes.batches(batch_size=settings.batch_size, before=before, bad_step=bad_step),
        settings=settings,
        folder=str(folder),
        validate=validate,
        strategy=strategies.build_strategy("one"),
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One run to the end: its folder and its result."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, _train(folder)


def test_train_lowers_the_loss_and_writes_each_update_once(plain):
    folder, result = plain
    rows = summaries.read_metrics(str(folder))
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert (result.step, result.best, result.evaluations) == (12, None, ())
    assert rows[-1]["loss"] < rows[0]["loss"]
    # Warm-up of 2: half the peak, then the peak.
    assert [row["learning_rate"] for row in rows[:2]] == pytest.approx([0.01, 0.02])
    assert result.images_per_s > 0.0
    assert "images_per_s" not in rows[1]  # The first call of two updates traces.
    assert rows[2]["images_per_s"] > 0.0


def test_train_returns_the_averaged_weights(plain):
    folder, result = plain
    path = files.join(str(folder), "checkpoints", "step-000000012")
    _, values = _stored(path)
    live = [value for name, value in values.items() if name.startswith("model/")]
    got = np.concatenate([value.ravel() for value in fakes.weights(result.network)])
    np.testing.assert_array_equal(got, values["ema"])
    assert np.abs(got - np.concatenate([value.ravel() for value in live])).max() > 1e-4


def test_train_again_does_no_update(plain):
    folder, result = plain
    before = summaries.read_metrics(str(folder))

    def refuse(step):
        raise AssertionError(f"asked for the data of step {step}")

    again = _train(folder, before=refuse)
    for one, other in zip(fakes.weights(again.network), fakes.weights(result.network), strict=True):
        np.testing.assert_array_equal(one, other)
    assert summaries.read_metrics(str(folder)) == before


def test_train_refuses_to_go_on_with_other_settings(plain):
    folder, _ = plain
    with pytest.raises(UserError, match="batch_size was 4, is 8"):
        _train(folder, settings=dataclasses.replace(SETTINGS, batch_size=8))


def test_train_keeps_the_best_validation(tmp_path):
    scores = {5: 0.25, 10: 0.75, 12: 0.5}
    seen = {}

    def validate(network):
        step = [5, 10, 12][len(seen)]
        seen[step] = fakes.weights(network)
        return scores[step]

    folder = f"ram://{tmp_path}"
    result = _train(folder, validate=validate)
    assert result.best == checkpoint.Evaluation(10, 0.75)
    assert [(e.step, e.ap) for e in result.evaluations] == list(scores.items())
    for got, expected in zip(fakes.weights(result.network), seen[10], strict=True):
        np.testing.assert_array_equal(got, expected)
    rows = summaries.read_metrics(folder)
    assert [(r["step"], r["val_ap"]) for r in rows if "val_ap" in r] == list(scores.items())


def test_train_keeps_the_weights_it_began_with_where_no_others_score_better(tmp_path):
    """And after a crash it judges them no second time."""
    settings = dataclasses.replace(SETTINGS, judge_start=True)
    scores = iter([0.5, 0.25, 0.5, 0.125])

    def validate(network):
        return next(scores)

    def fail(step):
        if step == 2:
            raise InterruptedError

    with pytest.raises(tf.errors.OpError, match="InterruptedError"):
        _train(tmp_path, settings=settings, validate=validate, before=fail)
    result = _train(tmp_path, settings=settings, validate=validate)
    found = [(e.step, e.ap) for e in result.evaluations]
    assert found == [(0, 0.5), (5, 0.25), (10, 0.5), (12, 0.125)]
    assert result.best == checkpoint.Evaluation(0, 0.5)
    for got, first in zip(fakes.weights(result.network), fakes.weights(fakes.build()), strict=True):
        np.testing.assert_array_equal(got, first)
    rows = summaries.read_metrics(str(tmp_path))
    assert [(r["step"], r["val_ap"]) for r in rows if "val_ap" in r] == found


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        # What finds nothing before and after has at least learned something.
        pytest.param((0.0, 0.0, 0.0, 0.0), 12, id="all_0_last"),
        pytest.param((0.0, 0.0, 0.25, 0.25), 10, id="equal_first"),
        pytest.param((0.0, 0.25, 0.0, 0.0), 5, id="0_after_better"),
    ],
)
def test_train_of_equal_validations_keeps_the_first_but_of_zeros_the_last(
    tmp_path, caplog, scores, kept
):
    settings = dataclasses.replace(SETTINGS, judge_start=True)
    seen = {}

    def validate(network):
        step = (0, 5, 10, 12)[len(seen)]
        seen[step] = fakes.weights(network)
        return scores[len(seen) - 1]

    result = _train(tmp_path, settings=settings, validate=validate)
    assert result.best == checkpoint.Evaluation(kept, max(scores))
    for got, expected in zip(fakes.weights(result.network), seen[kept], strict=True):
        np.testing.assert_array_equal(got, expected)
    assert ("All 4 validations scored 0" in caplog.text) == (not any(scores))


@pytest.mark.parametrize(
    ("judge_start", "scores", "kept"),
    [
        pytest.param(True, (0.5, 0.75, 0.25, 0.375), 0, id="first_weights"),
        pytest.param(True, (0.125, 0.75, 0.25, 0.25), 10, id="those_of_the_checkpoint"),
        pytest.param(False, (0.5, 0.75, 0.25, 0.375), 12, id="later_ones"),
    ],
)
def test_train_chooses_again_where_the_best_weights_are_damaged(
    tmp_path, judge_start, scores, kept
):
    """Damaged are those of step 5, while the run stands at step 10 of 12."""
    settings = dataclasses.replace(SETTINGS, judge_start=judge_start)
    steps = iter((0, 5, 10, 12) if judge_start else (5, 10, 12))
    score_of, seen = dict(zip((0, 5, 10, 12), scores, strict=True)), {}

    def validate(network):
        step = next(steps)
        seen[step] = fakes.weights(network)
        return score_of[step]

    def fail(step):
        if step == 11:
            raise InterruptedError

    with pytest.raises(tf.errors.OpError, match="InterruptedError"):
        _train(tmp_path, settings=settings, validate=validate, before=fail)
    (data,) = tmp_path.glob("checkpoints/best-000000005.data-*")
    data.write_bytes(data.read_bytes()[:10])
    result = _train(tmp_path, settings=settings, validate=validate)
    assert result.best == checkpoint.Evaluation(kept, score_of[kept])
    assert [(e.step, e.ap) for e in result.evaluations] == [(s, score_of[s]) for s in seen]
    for got, expected in zip(fakes.weights(result.network), seen[kept], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_train_stops_at_a_loss_that_is_not_finite(tmp_path):
    with pytest.raises(stopping.TrainingDivergedError) as caught:
        _train(tmp_path, bad_step=7)
    error = caught.value
    assert error.step == 8  # The eighth update takes the batch of step 7.
    assert error.ids == ("fake/7-0", "fake/7-1", "fake/7-2", "fake/7-3")
    assert "checkpoint of step 6 stays" in str(error)
    assert checkpoint.read_progress(str(tmp_path)).saved == (5, 6)
    _, values = _stored(f"{tmp_path}/checkpoints/step-000000006")
    assert all(np.isfinite(value).all() for value in values.values())
    rows = summaries.read_metrics(str(tmp_path))
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert "loss" not in rows[-1]


def test_sigterm_saves_and_the_run_goes_on(tmp_path, plain):
    def terminate(step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = dataclasses.replace(SETTINGS, checkpoint_every=0, eval_every=0)
    with pytest.raises(stopping.PreemptedError) as caught:
        _train(tmp_path, settings=settings, before=terminate)
    assert caught.value.code == 143
    stopped = checkpoint.read_progress(str(tmp_path)).saved[-1]
    assert 0 < stopped < 12
    result = _train(tmp_path, settings=settings)
    rows = summaries.read_metrics(str(tmp_path))
    assert [row["step"] for row in rows] == list(range(1, 13))
    for one, other in zip(
        fakes.weights(result.network), fakes.weights(plain[1].network), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_train_refuses_a_score_that_is_no_number(tmp_path):
    settings = dataclasses.replace(SETTINGS, steps=1)
    with pytest.raises(ValueError, match="finite number, got nan"):
        _train(tmp_path, settings=settings, validate=lambda network: float("nan"))


def _stored(prefix):
    """Names and values of a checkpoint file, in the order of the names."""
    reader = checkpoint.tf.train.load_checkpoint(prefix)
    names = sorted(reader.get_variable_to_shape_map())
    return names, {name: reader.get_tensor(name) for name in names}
