import signal
import threading

import pytest
import tensorflow as tf

from kd_tf.training import stopping


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_watching_signals_notes_the_signal_and_gives_the_handler_back(signum):
    before = signal.getsignal(signum)
    with stopping.watching_signals() as asked:
        assert not asked.is_set()
        signal.raise_signal(signum)
        assert asked.is_set() and asked.signum == signum
    assert signal.getsignal(signum) is before


def test_watching_signals_a_second_interrupt_stops_at_once():
    with pytest.raises(KeyboardInterrupt), stopping.watching_signals() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_watching_signals_leaves_what_is_ignored_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.watching_signals() as asked:
            signal.raise_signal(signal.SIGINT)
        assert not asked.is_set() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_watching_signals_outside_the_main_thread_leaves_signals_alone():
    seen = []

    def watch():
        before = signal.getsignal(signal.SIGTERM)
        with stopping.watching_signals() as asked:
            seen.append((asked.is_set(), signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_preempted_ends_a_process_with_143(capsys):
    error = stopping.PreemptedError(12, folder="gs://bucket/run", signum=None)
    assert error.code == 143
    assert "SIGTERM: stopped after update 12, saved in gs://bucket/run" in capsys.readouterr().err
    error = stopping.PreemptedError(12, folder="gs://bucket/run", signum=signal.SIGINT)
    assert error.code == 130


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        pytest.param([], "unknown", id="no_ids"),
        pytest.param(["a/1", "a/2"], "batch: a/1, a/2. ", id="all_named"),
        pytest.param([str(i) for i in range(40)], "30, 31 and 8 more", id="a_large_batch"),
    ],
)
def test_diverged_names_step_images_and_checkpoint(ids, shown):
    error = stopping.diverged(step=7, ids=ids, metrics={"loss": float("nan")}, saved=[2, 5])
    assert (error.step, error.ids) == (7, tuple(ids))
    for part in ("Update 7", "loss nan", shown, "checkpoint of step 5 stays"):
        assert part in str(error)


def test_naming_lost_workers_leaves_other_errors_alone(monkeypatch):
    at_exit = []
    monkeypatch.setattr(stopping.atexit, "register", at_exit.append)
    gone = tf.errors.UnavailableError(None, None, "Graph\nCollective ops is aborted by: closed")
    own = tf.errors.DataLossError(None, None, "corrupt record")
    with (
        pytest.raises(stopping.WorkerLostError, match=r"all 2 .*aborted by: closed"),
        stopping.naming_lost_workers(num_workers=2),
    ):
        raise gone
    with pytest.raises(tf.errors.DataLossError), stopping.naming_lost_workers(num_workers=2):
        raise own
    with pytest.raises(tf.errors.UnavailableError), stopping.naming_lost_workers(num_workers=1):
        raise gone
    assert [function.__name__ for function in at_exit] == ["_end_at_once"]
