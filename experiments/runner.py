"""Runs the cells of a grid, each stage as a process of its own; several runners may share them."""

import contextlib
import fcntl
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
_DONE, _FAILED, _LATER = "done", "failed", "later"

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
    told = False
    while waiting:
        left: list[int] = []
        for number in waiting:
            before = [cells[one - 1] for one in left]
            found = _attend(grid, cells, number, before=before, program=program, say=say)
            if found == _LATER:
                left.append(number)
            elif found == _FAILED:
                failed.append(cells[number - 1])
        if left == waiting:
            if not told:
                names = ", ".join(cells[one - 1].name for one in left)
                say(f"waiting for another process, which is at work: {names}")
            told = True
            time.sleep(_WAIT_S)
        waiting = left
    return failed


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
        return _LATER
    if missing:
        say(f"{place}: left out, what it builds on has not finished")
        return _FAILED
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cell) as lock:
        if lock is None:
            return _LATER
        if cell.is_done():  # by the process that had the lock until now
            return _DONE
        progress = _Progress(grid, cells, number, f"{place}: ", say)
        return _DONE if _run_cell(cell, program, progress, lock=lock) else _FAILED


class _Progress:
    """Lines that say where the whole grid is and how long it will take."""

    def __init__(self, grid: Grid, cells: Sequence[Cell], number: int, place: str, say: Say):
        prices = pricing.Prices(grid, cells)
        cell = cells[number - 1]
        self._after_s = sum(prices.left(one) for one in cells[number:])
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
    cell.note()
    all_cells.take_over(cell)
    redone = False
    for stage in cell.run.stages:
        if cell.has(stage) and not redone:
            continue
        # What comes after a stage that was done again rests on what is gone.
        command = [*program, *["--overwrite"] * cell.has(stage)]
        if not _run_stage(cell, stage, command, lock=lock, progress=progress):
            return False
        redone = True
    cell.note(finished=True)
    progress.tell_text("done")
    return True


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
