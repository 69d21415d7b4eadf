"""Runs the grid of an experiment: `python -m experiments.run experiments/NAME`.

What has finished with the same settings is skipped, what was cut off goes on, and the
table and the figure in the folder are written from what is there.
"""

import argparse
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from experiments import cells as all_cells
from experiments import pricing
from experiments.cells import Cell
from experiments.grid import Grid, load
from kd_tf.errors import UserError

PROGRAM = (sys.executable, "-m", "kd_tf.main")
_LOCK = ".lock"
_TAIL_LINES = 15
_POLL_S = 0.2
_TELL_S = 60.0

Say = Callable[[str], None]


def run_grid(
    grid: Grid, cells: Sequence[Cell], *, program: Sequence[str] = PROGRAM, say: Say = print
) -> list[Cell]:
    """Runs every cell that is not done.

    Args:
        grid: The experiment.
        cells: Some or all of its cells, in order.
        program: Command that takes the flags; tests give another one.
        say: Takes lines of progress.

    Returns:
        The cells that failed, and those that build on them.
    """
    failed: list[Cell] = []
    for number, cell in enumerate(cells, start=1):
        place = f"[{number}/{len(cells)}] {cell.name}"
        if cell.is_done():
            say(f"{place}: done already")
        elif not all(other.is_done() for other in cell.needs):
            say(f"{place}: left out, what it builds on has not finished")
            failed.append(cell)
        else:
            after = cells[number:]
            if not _run_cell(cell, program, _Progress(grid, cells, cell, after, place, say)):
                failed.append(cell)
    return failed


class _Progress:
    """Lines that say where the whole grid is and how long it will take."""

    def __init__(
        self, grid: Grid, cells: Sequence[Cell], cell: Cell, after: Sequence[Cell], place: str,
        say: Say,
    ):  # fmt: skip
        prices = pricing.Prices(grid, cells)
        self._after_s = sum(prices.left(one) for one in after)
        self._stage_s = {one.stage: prices.seconds(one) for one in pricing.work(cell)}
        self._stages, self._place = cell.run.stages, place
        self.say = say

    def tell(self, stage: str, *, elapsed_s: float) -> None:
        """Says what runs now, since when, and what is left of the grid."""
        later = self._stages[self._stages.index(stage) + 1 :]
        rest = sum(self._stage_s[name] for name in later) + self._after_s
        left = rest + max(self._stage_s[stage] - elapsed_s, 0.0)
        since = f", {elapsed_s:.0f} s" if elapsed_s >= 1 else ""
        self.say(f"{self._place}: {stage}{since}; grid: {pricing.clock(left)} left")

    def tell_text(self, text: str) -> None:
        """Says something about the cell."""
        self.say(f"{self._place}: {text}")


def _run_cell(cell: Cell, program: Sequence[str], progress: _Progress) -> bool:
    """Runs the stages of a cell that are missing; False where one failed."""
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cell) as lock:
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
def _locked(cell: Cell) -> Iterator[int]:
    """Holds the cell for this process and its children; gives the open file's number."""
    with open(f"{cell.folder}{_LOCK}", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{cell.name}: another process is at work in {cell.folder}. Wait for it, or end it."
            ) from error
        yield file.fileno()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.run", description=__doc__)
    parser.add_argument("folder", help="an experiment's folder, with a grid.toml")
    parser.add_argument("--dry_run", action="store_true", help="say what it would cost, and stop")
    parser.add_argument("--table", action="store_true", help="write table and figure, run nothing")
    parser.add_argument(
        "--forget", action="store_true", help="write the table without cells that cannot join it"
    )
    parser.add_argument("--runs", default="runs", help="where the cells' workdirs go")
    parser.add_argument("--only", default="", help="runs, comma separated, with what they build on")
    parser.add_argument("--seeds", default="", help="only these seeds, comma separated")
    return parser.parse_args(argv)


def chosen(grid: Grid, cells: Sequence[Cell], *, only: str, seeds: str) -> list[Cell]:
    """The cells that were asked for and those they build on; all where nothing was said.

    Raises:
        UserError: A run of that name does not exist.
    """
    names = {name.strip() for name in only.split(",") if name.strip()}
    unknown = names - {run.name for run in grid.runs}
    if unknown:
        known = ", ".join(run.name for run in grid.runs)
        raise UserError(f"--only: no run is called {', '.join(sorted(unknown))}. Known: {known}.")
    wanted = _seeds(cells, seeds)
    asked = [
        cell
        for cell in cells
        if (not names or (cell.run.name in names and not cell.lender))
        and (not wanted or cell.seed in wanted)
    ]
    folders = {cell.folder for cell in all_cells.with_needs(asked)}
    return [cell for cell in cells if cell.folder in folders]


def _seeds(cells: Sequence[Cell], text: str) -> set[int]:
    given = [one.strip() for one in text.split(",") if one.strip()]
    known = {str(cell.seed) for cell in cells}
    unknown = [one for one in given if one not in known]
    if unknown:
        told = ", ".join(sorted(known))
        raise UserError(f"--seeds: no run has seed {', '.join(unknown)}. Known: {told}.")
    return {int(one) for one in given}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = _arguments(argv)
    grid = load(given.folder)
    every = all_cells.cells(grid, runs_folder=given.runs)
    cells = chosen(grid, every, only=given.only, seeds=given.seeds)
    print(pricing.table(grid, cells), flush=True)
    if given.dry_run:
        return 0
    failed = []
    if not given.table:
        failed = run_grid(grid, cells, say=lambda text: print(text, flush=True))
    # Imported here: a dry run must not wait for TensorFlow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from experiments import results

    for cell in failed:
        print(f"failed: {cell.name}", file=sys.stderr)
    command = f"python -m experiments.run {given.folder.rstrip('/')}"
    paths = results.write(grid, every, command=command, forget=given.forget)
    print(f"written: {', '.join(paths)}", flush=True)
    return 1 if failed else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.run: error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted. The same command goes on from here.")
