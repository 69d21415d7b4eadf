"""Paths that cannot be read or written, signals, and other ends: one sentence each."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from kd_tf import checks, config, files, flags, stages
from kd_tf.errors import PathError, UserError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda p: (p / "x").write_text(""), "file or a broken link|a folder", id="file"
        ),
        pytest.param(lambda p: (p / "x").symlink_to(p / "gone"), "broken link", id="dangling_link"),
        pytest.param(lambda p: (p / "x").symlink_to(p / "x"), "circle|broken link", id="loop"),
    ],
)
def test_folder_that_cannot_be_made(tmp_path, make, message):
    make(tmp_path)
    for use in (
        lambda: files.make_folder(str(tmp_path / "x")),
        lambda: files.write_text(str(tmp_path / "x" / "a.txt"), "a"),
        lambda: files.locked(str(tmp_path / "x" / "lock")).__enter__(),
    ):
        with pytest.raises(PathError, match=message) as caught:
            use()
        assert str(tmp_path) in str(caught.value)


def test_name_that_is_too_long_and_file_that_is_a_folder(tmp_path):
    with pytest.raises(PathError, match="too long"):
        files.write_text(str(tmp_path / ("x" * 300)), "a")
    (tmp_path / "d").mkdir()
    with pytest.raises(PathError, match="folder stands where a file is needed"):
        files.read_bytes(str(tmp_path / "d"))
    with pytest.raises(PathError):
        files.list_folder(str(tmp_path / "d" / "none"))
    with pytest.raises(tf.errors.NotFoundError):
        files.read_bytes(str(tmp_path / "none"))


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="needs a file system like /sys")
def test_folder_without_a_right_to_write():
    with pytest.raises(PathError, match=r"no right to do this|read-only|broken"):
        files.write_text("/sys/kernel/kd_tf/a.txt", "a")


def test_error_of_the_caller_inside_a_block_stays_itself(tmp_path):
    with pytest.raises(OSError, match="of the caller"), files.writing(str(tmp_path / "a")):
        raise OSError("of the caller")
    assert files.list_folder(str(tmp_path)) == []


def test_full_disk_is_no_lack_of_memory():
    full = tf.errors.ResourceExhaustedError(None, None, "/d/c.index; No space left on device")
    assert "the disk is full" in str(stages._told(full))
    memory = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor of 8 GB")
    assert "The device is out of memory: OOM" in str(stages._told(memory))
    assert "disk is full" in str(files.path_error(OSError(errno.ENOSPC, "No space left"), "/d"))


def test_sentence_inside_an_error_of_a_pipeline_comes_out():
    text = (
        "{{function_node x}} RejectedError: damaged record: record 3 of a.tfrecord; write it anew\n"
        "Traceback (most recent call last):\n  File ...\n\t [[{{node PyFunc}}]]"
    )
    told = stages._told(tf.errors.UnknownError(None, None, text))
    assert isinstance(told, UserError)
    assert str(told) == "damaged record: record 3 of a.tfrecord; write it anew"
    other = tf.errors.InvalidArgumentError(None, None, "shapes differ")
    assert stages._told(other) is other


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"workdir": "a\n--overwrite"}, id="line_end"),
        pytest.param({"labeled": ("scenes:train", "voc:a\0b")}, id="nul_in_a_list"),
        pytest.param({"class_map": "a=b\x1b[31m"}, id="escape"),
        pytest.param({"workdir": "a\udcff"}, id="not_utf_8"),
        pytest.param({"learning_rate": float("inf")}, id="infinite"),
        pytest.param({"seed": 10**400}, id="digits"),
        pytest.param({"weight_decay": float("nan")}, id="nan"),
    ],
)
def test_values_that_no_setting_takes_are_refused(settings):
    with pytest.raises(UserError) as caught:
        checks.check(config.Config(**settings))
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_parts_of_dead_processes_are_swept_and_others_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f"a.part-{dead.pid}-12ab", f"a.part-{os.getpid()}-12ab", "a.part-x", "a"):
        (tmp_path / name).write_text("")
    files.sweep_parts(str(tmp_path))
    assert files.list_folder(str(tmp_path)) == ["a", f"a.part-{os.getpid()}-12ab", "a.part-x"]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [(["--help"], True), (["-helpfull"], True), (["--stage=all"], False), (["help"], False)],
)
def test_asks_for_help(arguments, asked):
    assert flags.asks_for_help(arguments) is asked


def _run(*arguments, module="kd_tf.main"):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120
    )


def test_help_ends_well_and_without_tensorflow():
    for module in ("kd_tf", "kd_tf.main"):
        start = time.monotonic()
        done = _run("--help", module=module)
        assert done.returncode == 0
        assert "python -m kd_tf.main --stage=all" in done.stdout
        assert time.monotonic() - start < 20
    assert _run("--no_such_flag").returncode == 1


def test_flagfile_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "f").write_bytes(b"\xff\xfe\x00--stage")
    done = _run(f"--flagfile={tmp_path}/f")
    assert done.returncode == 1
    assert "the flags cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


_SLOW = """
import time
import numpy as np
from kd_tf.geometry.detections import Needs, no_detections

class Slow:
    def needs(self):
        return Needs(("disc",), 32, 32)
    def detect(self, images):
        print("LOOKING", flush=True)
        time.sleep(1)
        return [no_detections() for _ in images]

def build():
    return Slow()
"""


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_while_labelling_says_how_to_go_on(tmp_path, signum, code):
    (tmp_path / "slow_teacher.py").write_text(_SLOW)
    command = [
        sys.executable, "-m", "kd_tf.main", "--stage=pseudo", f"--workdir={tmp_path}/run",
        "--teacher=python:slow_teacher:build", "--unlabeled=scenes:unlabeled?num=50&size=64",
        "--score_threshold=0.5", "--pseudo_batch_size=1",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while "LOOKING" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signum)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    last = told.strip().splitlines()[-1]
    assert last.startswith(
        f"kd_tf: error: {signal.Signals(signum).name}: stopped. The same command"
    )
