"""Killed workers, full disks, read-only folders: nothing is half done, nothing is lost."""

import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from kd_tf.data.shards import RecordSet
from kd_tf.data.verify import verify
from kd_tf.errors import UserError
from kd_tf.teachers.predict_job import Work, label_predictions
from tests.teachers.made import RectangleTeacher, made_source
from tests.teachers.worker import run

NUM_IMAGES, NUM_SHARDS, DELAY_MS = 60, 12, 150
# Kills for each number of workers: 20 in all, or as many each as KD_TF_KILLS says.
KILLS = {1: 8, 2: 6, 3: 6}
ROOT = pathlib.Path(__file__).parent.parent.parent


def _start(folder, *, worker: int, num_workers: int, delay_ms: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.teachers.worker", str(folder)]
    numbers = [NUM_IMAGES, NUM_SHARDS, worker, num_workers, delay_ms]
    return subprocess.Popen(
        [*command, *map(str, numbers)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )


def _records(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(pathlib.Path(folder).iterdir())
            if ".part-" not in p.name}  # fmt: skip


def _done_shards(folder) -> set[str]:
    return {str(p.relative_to(folder)) for p in pathlib.Path(folder).rglob("*.tfrecord")}


def _kill_once(folder, *, num_workers: int, chance: random.Random) -> tuple[int, int]:
    """Starts all workers, kills them at a random moment; shards finished before and after."""
    before = len(_done_shards(folder))
    # As slow as it takes for the work to outlast the kills, whatever the number of workers.
    delay_ms = DELAY_MS * num_workers
    workers = [
        _start(folder, worker=i, num_workers=num_workers, delay_ms=delay_ms)
        for i in range(num_workers)
    ]
    for worker in workers:
        worker.stdout.readline()
    time.sleep(chance.uniform(0.2, 2.5))
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    return before, len(_done_shards(folder))


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_killed_job_gives_the_bytes_of_an_uninterrupted_run(tmp_path, num_workers):
    work = Work(NUM_SHARDS, batch_size=4, max_bad_fraction=0.1)
    assert run(str(tmp_path / "whole"), num_images=NUM_IMAGES, work=work, delay_s=0)
    chance, folder = random.Random(num_workers), tmp_path / "killed"
    folder.mkdir()
    num_at_work = 0
    kills = int(os.environ.get("KD_TF_KILLS", KILLS[num_workers]))
    for _ in range(kills):
        before, after = _kill_once(folder, num_workers=num_workers, chance=chance)
        assert after >= before
        num_at_work += after < 3 * NUM_SHARDS
    assert num_at_work >= kills / 2
    for worker in range(num_workers):
        process = _start(folder, worker=worker, num_workers=num_workers, delay_ms=0)
        code = process.wait(timeout=300)
    assert code == 0
    assert _records(folder / "pseudo") == _records(tmp_path / "whole" / "pseudo")
    for teacher in ("one", "two"):
        whole = tmp_path / "whole" / "predictions" / teacher
        assert _records(folder / "predictions" / teacher) == _records(whole)
    ids = RecordSet.open(str(folder / "pseudo")).source_ids
    # One image is empty, one has the bytes of another.
    assert len(ids) == len(set(ids)) == NUM_IMAGES - 2
    verify(str(folder / "pseudo"))


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 KB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mount: a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _remount(disk: pathlib.Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def _finished(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tfrecord")}


@pytest.mark.slow
def test_job_on_a_full_disk_says_so_and_goes_on_afterwards(disk):
    source, work = made_source(400), Work(num_shards=16, batch_size=8)
    job = {"name": "one", "folder": str(disk / "one"), "work": work}
    with pytest.raises(UserError, match=r"(No space|exhausted)|the disk is full"):
        label_predictions(RectangleTeacher(), source, **job)
    before = _finished(disk / "one")
    assert 0 < len(before) < 16
    _remount(disk, "size=8m")
    assert label_predictions(RectangleTeacher(), source, **job).written == 400
    assert _finished(disk / "one").items() >= before.items()


@pytest.mark.slow
def test_job_on_a_read_only_disk_says_so_and_goes_on_afterwards(disk):
    source, work = made_source(20), Work(num_shards=4, batch_size=5)
    job = {"name": "one", "folder": str(disk / "one")}
    half = dataclasses.replace(work, num_workers=2)
    assert label_predictions(RectangleTeacher(), source, work=half, **job) is None
    before = _finished(disk / "one")
    assert len(before) == 2
    _remount(disk, "ro")
    with pytest.raises(UserError, match=r"cannot be written.*Read-only|it is read-only"):
        label_predictions(RectangleTeacher(), source, work=work, **job)
    assert _finished(disk / "one") == before
    _remount(disk, "rw")
    assert label_predictions(RectangleTeacher(), source, work=work, **job).written == 20
    assert _finished(disk / "one").items() >= before.items()


def test_job_in_a_folder_that_cannot_be_written_says_so(tmp_path):
    # A file where the folder should be: no rights needed to make it, and root fails on it too.
    (tmp_path / "one").write_text("in the way")
    with pytest.raises(UserError, match="one") as caught:
        label_predictions(
            RectangleTeacher(), made_source(2), name="one", folder=str(tmp_path / "one"),
            work=Work(num_shards=1),
        )  # fmt: skip
    assert "a file stands where a folder is needed" in str(caught.value)
