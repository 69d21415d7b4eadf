"""Whole processes: replicas, workers, resuming bit for bit, and being killed."""

import json
import signal
import socket
import time

import numpy as np
import pytest

from kd_tf.training import checkpoint, summaries
from tests.training import process
from tests.training.process import Arguments

EQUAL = {
    "steps": 5,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "clip_norm": 0.5,
    "accumulate": 2,
    "weight_decay": 0.01,
    "eval_every": 2,
    "judge_start": True,
}
LONG = {
    "steps": 24,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "warmup_steps": 3,
    "eval_every": 8,
    "checkpoint_every": 3,
    "steps_per_call": 2,
}
# Drawn once with numpy.random.default_rng(0).choice(24, 5, replace=False).
BREAKS = (7, 10, 14, 18, 21)


def _arguments(parent, name, **changes) -> Arguments:
    given = {"folder": str(parent / name), "weights": str(parent / f"{name}.npz")} | changes
    return Arguments(**given)


def _finish(arguments, **kwargs):
    running = process.start(arguments, **kwargs)
    assert running.wait(200) == 0, process.log_of(arguments)


def _tf_configs() -> list[dict]:
    """Of two workers on free ports of the loopback."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            ports.append(probe.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(2)]


def _workers(folder, **changes) -> list[Arguments]:
    shared = str(folder / "shared")
    return [
        _arguments(folder, f"worker{i}", folder=shared, strategy="multi_worker", **changes)
        for i in range(2)
    ]


def _assert_equal(one, other, *, atol):
    for a, b in zip(process.weights_of(one), process.weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def references(tmp_path_factory) -> dict[str, Arguments]:
    """One replica, not interrupted: the two runs that the others are compared with."""
    folder = tmp_path_factory.mktemp("references")
    runs = {
        "equal": _arguments(folder, "equal", settings=EQUAL, frozen=True),
        "long": _arguments(folder, "long", settings=LONG),
    }
    running = {name: process.start(arguments) for name, arguments in runs.items()}
    for name, arguments in runs.items():
        assert running[name].wait(200) == 0, process.log_of(arguments)
    return runs


def test_two_replicas_give_the_weights_of_one(tmp_path, references):
    """And its scores; with clipping, decay and EMA, whole batches here, micro-batches there."""
    settings = EQUAL | {"accumulate": 1}
    two = _arguments(
        tmp_path, "two", settings=settings, frozen=True, strategy="mirrored", replicas=2
    )
    _finish(two)
    assert "finished with 2 replicas" in process.log_of(two)
    _assert_equal(two, references["equal"], atol=1e-5)
    _assert_same_validations(two, references["equal"])


def _assert_same_validations(one, other):
    first, second = (
        checkpoint.read_progress(arguments.folder).evaluations for arguments in (one, other)
    )
    assert [e.step for e in first] == [e.step for e in second] == [0, 2, 4, 5]
    scores = [[e.ap for e in evaluations] for evaluations in (first, second)]
    assert len(set(scores[0])) == 4
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-5)


def test_resume_after_five_interruptions_is_bit_identical(tmp_path, references):
    broken = _arguments(tmp_path, "broken", settings=LONG, breaks=BREAKS)
    _finish(broken)
    assert process.log_of(broken).count("interrupted: True") == len(BREAKS)
    _assert_equal(broken, references["long"], atol=0)
    _assert_same_records(broken, references["long"])


def _assert_same_records(one, other):
    """The same rows, each once, but for the speed."""
    first, second = (
        [_untimed(row) for row in summaries.read_metrics(a.folder)] for a in (one, other)
    )
    assert first == second
    assert [row["step"] for row in first if "loss" in row] == list(range(1, LONG["steps"] + 1))
    pointers = [json.loads(_text(f"{a.folder}/checkpoint.json")) for a in (one, other)]
    assert pointers[0] == pointers[1]
    assert [e["step"] for e in pointers[0]["evaluations"]] == [8, 16, 24]


def _untimed(row):
    return {name: value for name, value in row.items() if name != "images_per_s"}


@pytest.mark.slow
def test_sigkill_at_any_moment_is_bit_identical(tmp_path, references):
    killed = _arguments(tmp_path, "killed", settings=LONG, pause_s=0.1)
    for seconds in (0.3, 0.9):
        running = process.start(killed)
        _wait_for_new_checkpoint(killed, running)
        time.sleep(seconds)
        running.send_signal(signal.SIGKILL)
        assert running.wait(10) == -signal.SIGKILL
    _finish(killed)
    _assert_equal(killed, references["long"], atol=0)
    _assert_same_records(killed, references["long"])


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_143(tmp_path, references):
    stopped = _arguments(tmp_path, "stopped", settings=LONG, pause_s=0.1)
    running = process.start(stopped)
    _wait_for_new_checkpoint(stopped, running)
    running.terminate()
    assert running.wait(30) == 143
    assert "SIGTERM: stopped after update" in process.log_of(stopped)
    _finish(stopped)
    _assert_equal(stopped, references["long"], atol=0)


@pytest.mark.slow
def test_two_workers_give_the_weights_of_one(tmp_path, references):
    workers = _workers(tmp_path, settings=EQUAL, frozen=True)
    running = [
        process.start(arguments, tf_config=tf_config)
        for arguments, tf_config in zip(workers, _tf_configs(), strict=True)
    ]
    assert [r.wait(200) for r in running] == [0, 0], process.log_of(workers[0])
    for arguments in workers:
        assert "finished with 2 replicas" in process.log_of(arguments)
        _assert_equal(arguments, references["equal"], atol=1e-5)
    _assert_same_validations(workers[0], references["equal"])


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["chief", "other"])
def test_a_killed_worker_stops_the_others_and_all_go_on(tmp_path, victim):
    settings = LONG | {"eval_every": 0}
    workers = _workers(tmp_path, settings=settings, pause_s=0.2)
    running = [
        process.start(arguments, tf_config=tf_config)
        for arguments, tf_config in zip(workers, _tf_configs(), strict=True)
    ]
    _wait_for_new_checkpoint(workers[0], running[0])
    running[victim].kill()
    start = time.monotonic()
    code = running[1 - victim].wait(60)
    print(f"the other worker ended {time.monotonic() - start:.1f} s later with {code}")
    assert code not in (0, None)
    assert "Start all workers again with the same command" in process.log_of(workers[1 - victim])
    again = [
        process.start(arguments, tf_config=tf_config)
        for arguments, tf_config in zip(workers, _tf_configs(), strict=True)
    ]
    assert [r.wait(200) for r in again] == [0, 0], process.log_of(workers[0])
    rows = summaries.read_metrics(workers[0].folder)
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, LONG["steps"] + 1))
    _assert_equal(workers[0], workers[1], atol=0)


def _wait_for_new_checkpoint(arguments, running):
    """Until the pointer of the run changes."""
    pointer = f"{arguments.folder}/checkpoint.json"
    before = _text(pointer)
    for _ in range(1200):
        if _text(pointer) not in (before, ""):
            return
        assert running.poll() is None, process.log_of(arguments)
        time.sleep(0.1)
    raise AssertionError(process.log_of(arguments))


def _text(path) -> str:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""
