"""Runs the grid of an experiment: `python -m experiments.run experiments/NAME`.

What has finished with the same settings is skipped, what was cut off goes on, and the
table and the figure in the folder are written from what is known. The same command in a second
terminal takes part of the work.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from experiments import cells as all_cells
from experiments import pricing
from experiments.cells import Cell
from experiments.grid import Grid, load
from experiments.runner import run_grid
from kd_tf.errors import UserError


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
    # Imported here: a dry run must not wait for TensorFlow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from experiments import results

    running = [] if given.table else cells
    results.refuse_loss(grid, results.own(every), forget=given.forget, running=running)
    failed = run_grid(grid, running, say=lambda text: print(text, flush=True))
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
