import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from experiments import cells, grid, run, runner
from kd_tf.errors import UserError
from tests.experiments import stub
from tests.experiments.test_grid import BORROWS, FLAGS, GRID

PROGRAM = (sys.executable, stub.__file__)


@pytest.fixture
def place(tmp_path, monkeypatch):
    folder = tmp_path / "question"
    folder.mkdir()
    (folder / "grid.toml").write_text(GRID)
    (folder / "flags.txt").write_text(FLAGS)
    monkeypatch.setenv("STUB_CALLS", str(tmp_path / "calls.txt"))
    return tmp_path


def _run(place: pathlib.Path) -> tuple[list[str], list[str], list[str]]:
    """Names of failed cells, calls of the program, lines of progress."""
    calls = place / "calls.txt"
    calls.write_text("")
    lines: list[str] = []
    found = grid.load(str(place / "question"))
    made = cells.cells(found, runs_folder=str(place / "runs"))
    failed = runner.run_grid(found, made, program=PROGRAM, say=lines.append)
    return [cell.name for cell in failed], calls.read_text().split(), lines


ALL = [
    *("shared/0/teacher", "shared/0/pseudo", "shared/0/pretrain"),
    *("shared/1/teacher", "shared/1/pseudo", "shared/1/pretrain"),
    *("part/0/finetune", "part/0/baseline", "part/0/evaluate"),
]


def test_run_grid_does_all_once_then_nothing(place):
    assert _run(place)[:2] == ([], ALL)
    failed, calls, lines = _run(place)
    assert (failed, calls) == ([], [])
    assert lines[2] == "[3/3] part, seed 0: done already"


def test_run_grid_does_again_what_somebody_removed(place):
    _run(place)
    cell = place / "runs/question/part/seed0"
    shutil.rmtree(cell / "baseline")
    # finetune comes before and stays; evaluate had scored what is gone.
    assert _run(place)[:2] == ([], ["part/0/baseline", "part/0/evaluate"])
    last = [line for line in (cell / "log.txt").read_text().splitlines() if line.startswith("$")][
        -1
    ]
    assert "--overwrite" in last and "--stage=evaluate" in last


def test_what_rests_on_redone_work_is_stale_until_it_is_done_again(place, monkeypatch):
    _run(place)
    cell = cells.cells(grid.load(str(place / "question")), runs_folder=str(place / "runs"))[2]
    shutil.rmtree(cell.folder / "baseline")
    monkeypatch.setenv("FAIL_AT", "part/evaluate")
    assert _run(place)[0] == ["part, seed 0"]
    assert cell.has("evaluate") and not cell.is_done()
    monkeypatch.delenv("FAIL_AT")
    assert _run(place)[:2] == ([], ["part/0/evaluate"])
    assert cell.is_done()


def test_a_kill_while_stages_are_taken_over_leaves_a_cell_with_its_settings(place, monkeypatch):
    def interrupt(cell):
        (cell.folder / "labeled").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "take_over", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _run(place)
    first = cells.cells(grid.load(str(place / "question")), runs_folder=str(place / "runs"))[0]
    assert first.state()["wanted"] == first.wanted and not first.is_done()


def test_run_grid_tells_what_is_left(place):
    _, _, lines = _run(place)
    # 60 s for each of the shared cells and 50 s for the last: 170 s.
    assert lines[0] == "[1/3] shared, seed 0: teacher; grid: 3 min left"


def test_run_grid_gives_the_parents_stages_as_links(place):
    _run(place)
    runs = place / "runs" / "question"
    taken, own = (runs / name / "seed0/pretrain/manifest.json" for name in ("part", "shared"))
    assert taken.stat().st_ino == own.stat().st_ino
    # A link to a lock is the same lock.
    assert own.with_name("in_use.lock").exists()
    assert not taken.with_name("in_use.lock").exists()


def test_run_grid_goes_on_after_a_failure(place, monkeypatch):
    monkeypatch.setenv("FAIL_AT", "shared/pretrain")
    failed, _, lines = _run(place)
    assert failed == ["shared, seed 0", "shared, seed 1", "part, seed 0"]
    assert any("pretrain failed with status 1" in x and "went wrong" in x for x in lines)
    assert "left out, what it builds on has not finished" in lines[-1]
    monkeypatch.delenv("FAIL_AT")
    failed, calls, _ = _run(place)
    assert failed == []
    assert calls == ["shared/0/pretrain", "shared/1/pretrain", *ALL[6:]]


def test_run_grid_with_changed_flags_keeps_the_old_work(place):
    _run(place)
    changed = GRID.replace("label_fraction=0.2", "label_fraction=0.3")
    (place / "question" / "grid.toml").write_text(changed)
    failed, calls, lines = _run(place)
    assert (failed, calls) == ([], ALL[6:])
    assert any("settings changed; the old work is" in line for line in lines)
    assert len(list((place / "runs/question/part").glob("seed0.old-*"))) == 1


def test_run_grid_with_changed_common_flags_does_all_again(place):
    _run(place)
    (place / "question" / "flags.txt").write_text(f"{FLAGS}--flip=0.1\n")
    assert _run(place)[:2] == ([], ALL)


def test_run_grid_with_a_changed_comment_does_nothing(place):
    _run(place)
    (place / "question" / "flags.txt").write_text(f"{FLAGS}# nothing new\n")
    assert _run(place)[:2] == ([], [])


def test_a_stage_done_again_costs_what_it_costs_now(place):
    _run(place)
    cell = cells.cells(grid.load(str(place / "question")), runs_folder=str(place / "runs"))[2]
    cell.note(seconds=dict.fromkeys(cell.run.stages, 1000.0), core_s={"baseline": 1000.0})
    shutil.rmtree(cell.folder / "baseline")
    assert _run(place)[1] == ["part/0/baseline", "part/0/evaluate"]
    state = cell.state()
    assert state["seconds"]["finetune"] == 1000.0
    assert state["seconds"]["baseline"] < 900 and state["core_s"]["baseline"] < 900
    assert state["seconds"]["evaluate"] < 900


def _start(place: pathlib.Path, *, hang_s: int = 60) -> subprocess.Popen:
    """A runner of its own in a process, which waits in the first cell's stage pseudo."""
    code = (
        "import signal; from experiments import cells, grid, run, runner\n"
        "signal.signal(signal.SIGTERM, run._interrupt)\n"
        f"found = grid.load({str(place / 'question')!r})\n"
        f"made = cells.cells(found, runs_folder={str(place / 'runs')!r})\n"
        f"runner.run_grid(found, made, program={PROGRAM!r})\n"
    )
    root = str(pathlib.Path(run.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "HANG_AT": "shared/pseudo",
            "HANG_S": str(hang_s),
            "PYTHONPATH": root,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    calls = place / "calls.txt"
    for _ in range(300):
        if calls.exists() and "shared/0/pseudo" in calls.read_text():
            return process
        time.sleep(0.1)
    raise AssertionError("the stub was never called")


def test_killed_runner_leaves_a_cell_that_goes_on(place):
    process = _start(place)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    failed, calls, _ = _run(place)
    assert failed == []
    assert calls == ALL[1:]


def test_stage_that_outlives_its_killed_runner_is_not_done_again(place):
    process = _start(place, hang_s=3)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    failed, _, _ = _run(place)
    # The stub went on, held the lock, and finished; nobody asked for its stage again.
    assert failed == []
    manifest = place / "runs/question/shared/seed0/pseudo/manifest.json"
    assert manifest.is_file()
    log = (place / "runs/question/shared/seed0/log.txt").read_text()
    assert log.count("--stage=pseudo") == 1 and "--overwrite" not in log


def test_cell_at_which_another_process_works_is_left_to_it(place):
    process = _start(place)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            process.send_signal(signal.SIGTERM)

    found = grid.load(str(place / "question"))
    made = cells.cells(found, runs_folder=str(place / "runs"))
    assert runner.run_grid(found, made, program=PROGRAM, say=say) == []
    process.wait(timeout=20)
    # Meanwhile the other seed was done; what builds on the cell waited for it.
    calls = (place / "calls.txt").read_text().split()
    assert calls == [*ALL[:2], *ALL[3:6], "shared/0/pseudo", "shared/0/pretrain", *ALL[6:]]
    waited = "waiting for another process, which is at work at shared, seed 0"
    assert lines.count(waited) == 1


def test_evaluate_does_not_score_the_teachers_again(place):
    part = cells.cells(grid.load(str(place / "question")), runs_folder="runs")[2]
    given = "--teacher=keras:runs/question/shared/seed0/teacher/model.keras"
    assert given in runner._flags(part, "finetune")
    assert runner._flags(part, "evaluate") == [flag for flag in part.flags if flag != given]


def test_chosen_brings_what_a_run_builds_on(place):
    found = grid.load(str(place / "question"))
    made = cells.cells(found, runs_folder="runs")
    picked = run.chosen(found, made, only="part", seeds="0")
    assert [cell.name for cell in picked] == ["shared, seed 0", "part, seed 0"]
    with pytest.raises(UserError, match="no run is called nobody"):
        run.chosen(found, made, only="nobody", seeds="")
    with pytest.raises(UserError, match=r"no run has seed 7, x\. Known: 0, 1"):
        run.chosen(found, made, only="", seeds="0,7,x")


def test_chosen_leaves_out_what_another_experiment_calls_the_same(place):
    (place / "borrowing").mkdir()
    borrows = BORROWS.replace("question/part", "question/shared").replace("baseline", "teacher")
    (place / "borrowing" / "grid.toml").write_text(borrows)
    found = grid.load(str(place / "borrowing"))
    made = cells.cells(found, runs_folder=str(place / "runs"))
    picked = run.chosen(found, made, only="part", seeds="")
    assert [cell.name for cell in picked] == ["question/shared, seed 0", "part, seed 0"]


def test_dry_run_runs_nothing(place, capsys):
    given = [str(place / "question"), "--dry_run", f"--runs={place / 'runs'}"]
    assert run.main(given) == 0
    assert "3 cells, 0 done; left: 400 steps" in capsys.readouterr().out
    assert not (place / "runs").exists()
