"""Runs the cells of a grid, each stage as a process of its own; several runners may share them."""

import contextlib
import fcntl
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from experiments import cells as all_cells
from experiments import pricing
from experiments.cells import Cell
from experiments.grid import Grid

PROGRAM = (sys.executable, "-m", "kd_tf.main")
_LOCK = ".lock"
_TAIL_LINES = 15
_POLL_S = 0.2
_TELL_S = 60.0
_WAIT_S = 2.0
_DONE, _FAILED, _HELD, _BLOCKED = "done", "failed", "held by another process", "blocked"

Say = Callable[[str], None]


def run_grid(
    grid: Grid, cells: Sequence[Cell], *, program: Sequence[str] = PROGRAM, say: Say = print
) -> list[Cell]:
    """Runs every cell that is not done.

    Several processes may do so at once: a cell at which another one works is left to it, and
    what builds on that cell waits for it.

    Args:
        grid: The experiment.
        cells: Some or all of its cells, in order.
        program: Command that takes the flags; tests give another one.
        say: Takes lines of progress.

    Returns:
        The cells that failed, and those that build on them.
    """
    failed: list[Cell] = []
    waiting = list(range(1, len(cells) + 1))
    told_at = float("-inf")
    while waiting:
        found = {}
        for number in waiting:
            before = [cells[one - 1] for one in found if found[one] in (_HELD, _BLOCKED)]
            found[number] = _attend(grid, cells, number, before=before, program=program, say=say)
        failed += [cells[number - 1] for number in waiting if found[number] == _FAILED]
        left = [number for number in waiting if found[number] in (_HELD, _BLOCKED)]
        if left == waiting:
            if time.monotonic() - told_at > _TELL_S:
                names = ", ".join(cells[one - 1].name for one in left if found[one] == _HELD)
                say(f"waiting for another process, which is at work at {names}")
                told_at = time.monotonic()
            time.sleep(_WAIT_S)
        waiting = left
    return [cell for cell in failed if not cell.is_done()]


def _attend(
    grid: Grid,
    cells: Sequence[Cell],
    number: int,
    *,
    before: Sequence[Cell],
    program: Sequence[str],
    say: Say,
) -> str:
    """Runs the cell of that number where it can be done now; those before it still wait."""
    cell = cells[number - 1]
    place = f"[{number}/{len(cells)}] {cell.name}"
    if cell.is_done():
        say(f"{place}: done already")
        return _DONE
    missing = [one.folder for one in cell.needs if not one.is_done()]
    if any(one.folder in missing for one in before):
        return _BLOCKED
    if missing:
        say(f"{place}: left out, what it builds on has not finished")
        return _FAILED
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cell) as lock:
        if lock is None:
            return _HELD
        if cell.is_done():  # by the process that had the lock until now
            return _DONE
        progress = _Progress(grid, cells, number, f"{place}: ", say)
        return _DONE if _run_cell(cell, program, progress, lock=lock) else _FAILED


class _Progress:
    """Lines that say where the whole grid is and how long it will take."""

    def __init__(self, grid: Grid, cells: Sequence[Cell], number: int, place: str, say: Say):
        prices = pricing.Prices(grid, cells)
        cell = cells[number - 1]
        self._after_s = sum(prices.left(one) for one in cells if one is not cell)
        self._stage_s = {one.stage: prices.seconds(one) for one in pricing.work(cell)}
        self._stages, self._place = cell.run.stages, place
        self._say = say

    def tell(self, stage: str, *, elapsed_s: float) -> None:
        """Says what runs now, since when, and what is left of the grid."""
        later = self._stages[self._stages.index(stage) + 1 :]
        rest = sum(self._stage_s[name] for name in later) + self._after_s
        left = rest + max(self._stage_s[stage] - elapsed_s, 0.0)
        since = f", {elapsed_s:.0f} s" if elapsed_s >= 1 else ""
        self._say(f"{self._place}{stage}{since}; grid: {pricing.clock(left)} left")

    def tell_text(self, text: str) -> None:
        """Says something about the cell."""
        self._say(f"{self._place}{text}")


def _run_cell(cell: Cell, program: Sequence[str], progress: _Progress, *, lock: int) -> bool:
    """Runs the stages of a cell that are missing; False where one failed."""
    if cell.is_other():
        progress.tell_text(f"settings changed; the old work is {all_cells.set_aside(cell)}")
    cell.folder.mkdir(exist_ok=True)
    cell.note(finished=False)  # first: a folder without settings would pass for any
    all_cells.take_over(cell)
    stale = _stale(cell)
    cell.note(stale=sorted(stale))
    for stage in cell.run.stages:
        if cell.has(stage) and stage not in stale:
            continue
        command = [*program, *["--overwrite"] * cell.has(stage)]
        if not _run_stage(cell, stage, command, lock=lock, progress=progress):
            return False
        stale.discard(stage)
        cell.note(stale=sorted(stale))
    cell.note(finished=True)
    progress.tell_text("done")
    return True


def _stale(cell: Cell) -> set[str]:
    """Finished stages that rest on what is done again, as this process or one before it found.

    None that is missing: a stage whose runner was killed outright finishes without it.
    """
    stages = cell.run.stages
    first = next((n for n, stage in enumerate(stages) if not cell.has(stage)), len(stages))
    noted = set(cell.state().get("stale", ()))
    return {stage for stage in noted | set(stages[first:]) if cell.has(stage)}


def _run_stage(
    cell: Cell, stage: str, program: Sequence[str], *, lock: int, progress: _Progress
) -> bool:
    """Runs one stage as a process of its own, which writes to the cell's log."""
    command = [*program, *_flags(cell, stage), f"--stage={stage}", f"--workdir={cell.folder}"]
    progress.tell(stage, elapsed_s=0.0)
    if "--overwrite" in program or not (cell.folder / stage).exists():
        _forget_cost(cell, stage)
    start, cpu_start = time.time(), _children_s()
    with open(cell.folder / all_cells.LOG, "a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        try:
            code = _wait(command, log, lock=lock, tell=lambda s: progress.tell(stage, elapsed_s=s))
        finally:
            # Also of an attempt that was interrupted: its steps are not done again.
            _add(cell, "seconds", stage, time.time() - start)
            _add(cell, "core_s", stage, _children_s() - cpu_start)
            cell.note(machine=_machine())
    if code:
        _say_failure(cell, stage, code, progress)
        return False
    return True


def _add(cell: Cell, name: str, stage: str, value: float) -> None:
    known = cell.state().get(name, {})
    cell.note(**{name: {**known, stage: round(known.get(stage, 0.0) + value, 1)}})


def _forget_cost(cell: Cell, stage: str) -> None:
    """What is done from its beginning costs what it costs now."""
    for name in ("seconds", "core_s"):
        known = cell.state().get(name, {})
        cell.note(**{name: {one: cost for one, cost in known.items() if one != stage}})


def _flags(cell: Cell, stage: str) -> list[str]:
    """The cell's flags; teachers are scored in the cells that train them, not again in each."""
    scores = stage == "evaluate"
    return [flag for flag in cell.flags if not (scores and flag.startswith("--teacher="))]


def _wait(command: Sequence[str], log, *, lock: int, tell: Callable[[float], None]) -> int:
    """The exit status of a command; whatever ends this process ends the command too."""
    # The child holds the cell's lock as well: if this process is killed outright, a
    # second runner still sees that the cell is being worked on.
    child = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, pass_fds=(lock,)
    )
    start = told = time.time()
    try:
        while child.poll() is None:
            time.sleep(_POLL_S)
            if time.time() - told >= _TELL_S:
                told = time.time()
                tell(told - start)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    return child.returncode


def _say_failure(cell: Cell, stage: str, code: int, progress: _Progress) -> None:
    path = cell.folder / all_cells.LOG
    tail = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    shown = "\n    ".join(tail)
    progress.tell_text(f"stage {stage} failed with status {code}. The end of {path}:\n    {shown}")


def _children_s() -> float:
    """Processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def _locked(cell: Cell) -> Iterator[int | None]:
    """Holds the cell for this process and its children; gives the open file's number.

    None where another process holds it.
    """
    with open(f"{cell.folder}{_LOCK}", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def _machine() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores ({names[0] if names else 'unknown processor'})"
