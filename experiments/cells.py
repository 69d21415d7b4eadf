"""One cell of a grid, a run with one seed: what it asks for, where it lies, whether it is done."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterable

from absl import flags as absl_flags

from experiments.grid import LABELS, Grid, Run
from kd_tf import config, flags
from kd_tf.errors import UserError

STATE = "cell.json"
LOG = "log.txt"
METRICS = "evaluate/metrics.json"
_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A run with one seed.

    Attributes:
        run: What is done.
        seed: With which seed.
        folder: Its workdir.
        flags: All its flags but --stage and --workdir, folders of other runs filled in.
        wanted: The settings that decide whether what lies in the folder is what is asked
            for; those of the runs it builds on are in it.
        needs: The cells it builds on; the parent is the first.
        lender: The experiment whose cell it is; empty for the grid's own.
    """

    run: Run
    seed: int
    folder: pathlib.Path
    flags: tuple[str, ...]
    wanted: dict
    needs: tuple["Cell", ...] = ()
    lender: str = ""

    @property
    def name(self) -> str:
        """What the log calls it."""
        lender = f"{self.lender}/" if self.lender else ""
        return f"{lender}{self.run.name}, seed {self.seed}"

    def is_done(self) -> bool:
        """Whether it has finished with these settings, and nobody removed a stage since."""
        state = self.state()
        return (
            bool(state.get("finished"))
            and state.get("wanted") == self.wanted
            and all(self.has(stage) for stage in self.run.stages)
        )

    def is_other(self) -> bool:
        """Whether its folder holds work of other settings."""
        state = self.state()
        return bool(state) and state.get("wanted") != self.wanted

    def state(self) -> dict:
        """What the runner noted in the folder; empty where it was never here."""
        try:
            return json.loads((self.folder / STATE).read_text())
        except FileNotFoundError:
            return {}

    def note(self, **more: object) -> None:
        """Writes the settings, what was noted before and `more`, whole or not at all."""
        old = self.state()
        part = self.folder / f"{STATE}.part"
        part.write_text(json.dumps({**old, "wanted": self.wanted, **more}, indent=1))
        os.replace(part, self.folder / STATE)

    def has(self, stage: str) -> bool:
        """Whether a stage has finished here."""
        return (self.folder / stage / _MANIFEST).is_file()

    def manifest(self, stage: str) -> dict:
        """The manifest of a finished stage."""
        return json.loads((self.folder / stage / _MANIFEST).read_text())

    def models(self) -> dict[str, dict]:
        """Model -> its numbers, and those of the pseudo labels; empty without evaluation."""
        path = self.folder / METRICS
        found = json.loads(path.read_text()) if path.is_file() else {"models": {}}
        return found["models"] | {LABELS: found[LABELS]} if LABELS in found else found["models"]


def cells(grid: Grid, *, runs_folder: str) -> list[Cell]:
    """All cells, in the order in which they are done: by run, then by seed.

    Those of other experiments that they build on come first.
    """
    lent = {
        (f"{other.name}/{cell.run.name}", cell.seed): cell
        for other in grid.others.values()
        for cell in cells(other, runs_folder=runs_folder)
    }
    made: dict[tuple[str, int], Cell] = {}
    for run in grid.runs:
        for seed in grid.seeds_of(run):
            made[run.name, seed] = _cell(grid, run, seed, pathlib.Path(runs_folder), lent | made)
    own = list(made.values())
    needed = {cell.folder for cell in with_needs(own)}
    borrowed = [
        dataclasses.replace(cell, lender=name.partition("/")[0])
        for (name, _), cell in lent.items()
        if cell.folder in needed
    ]
    return borrowed + own


def with_needs(given: Iterable[Cell]) -> list[Cell]:
    """Cells and all that they build on, each once."""
    found: dict[pathlib.Path, Cell] = {}
    waiting = list(given)
    while waiting:
        cell = waiting.pop()
        if cell.folder not in found:
            found[cell.folder] = cell
            waiting += cell.needs
    return list(found.values())


def _cell(
    grid: Grid, run: Run, seed: int, runs_folder: pathlib.Path, made: dict[tuple[str, int], Cell]
) -> Cell:
    own = (*grid.flags, *run.flags, f"--seed={seed}")
    needs = {name: made[name, seed] for name in run.needs()}
    filled = own
    for name, cell in needs.items():
        filled = tuple(flag.replace(f"{{{name}}}", str(cell.folder)) for flag in filled)
    files = _named_files(own)
    return Cell(
        run=run,
        seed=seed,
        folder=runs_folder / grid.name / run.name / f"seed{seed}",
        flags=filled,
        wanted={
            "flags": list(own),
            "stages": list(run.stages),
            "take": list(run.take),
            "needs": {name: cell.wanted for name, cell in needs.items()},
            **({"files": files} if files else {}),
        },
        needs=tuple(needs.values()),
    )


def _named_files(given: Iterable[str]) -> dict[str, str]:
    """Flag -> digest of the file it names: what counts is what the file says."""
    found = {}
    for flag in given:
        name, _, value = flag.removeprefix("--").partition("=")
        path = pathlib.Path(os.path.expandvars(value))
        if value and name in config.paths() and path.is_file():
            found[flag] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def settings(cell: Cell) -> config.Config:
    """The cell's flags as the program will read them.

    Raises:
        UserError: A flag is unknown or has a wrong value; names the cell.
    """
    values = absl_flags.FlagValues()
    flags.define(values)
    try:
        left = values(["kd_tf", *cell.flags])[1:]
        if left:
            raise UserError(f"unknown arguments: {' '.join(left)}")
        return flags.read(values)
    except (absl_flags.Error, UserError) as error:
        raise UserError(f"{cell.name}: {error}") from error


def set_aside(cell: Cell) -> pathlib.Path:
    """Renames the cell's folder, so that its work is kept and the place is free."""
    kept = cell.folder.with_name(f"{cell.folder.name}.old-{time.strftime('%Y%m%dT%H%M%S')}")
    os.replace(cell.folder, kept)
    return kept


def take_over(cell: Cell) -> None:
    """Gives the cell its parent's finished stages, as hard links where the disk has them.

    A stage is complete or absent: it gets its name last.
    """
    for name in cell.run.take:
        source, target = cell.needs[0].folder / name, cell.folder / name
        if target.exists() or not source.exists():
            continue
        part = cell.folder / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        # A linked lock would be one lock for both folders.
        ignore = shutil.ignore_patterns("*.old-*", "*.lock")
        shutil.copytree(source, part, copy_function=_link, ignore=ignore)
        os.replace(part, target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
