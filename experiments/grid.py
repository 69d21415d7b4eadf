"""A grid of runs, read from the grid.toml of an experiment's folder.

    question = "What is asked?"
    flagfile = "flags.txt"              # what all runs have in common
    seeds = [0, 1, 2]
    metrics = ["AP", "AP50"]            # of evaluate/metrics.json

    [price]                             # until finished runs say it better
    images_per_s = { yolov8_tiny = 65 } # in training, by network
    other_s = 40                        # beside its steps, of every stage

    [figure]                            # optional
    x_label = "share of the labels, %"
    log = true

    [[run]]                             # one line of work; done in the order of the file
    name = "shared"
    stages = ["teacher", "pseudo", "pretrain"]

    [[run]]
    name = "share_20"
    parent = "shared"                   # starts with the finished stages of this run, or of
                                        # "NAME/RUN", a run of the experiment NAME beside this one
    take = ["labeled", "pretrain"]      # only these; default: all but its own stages
    flags = ["--label_fraction=0.2"]    # {NAME} is the folder of another run, same seed
    stages = ["finetune", "baseline", "evaluate"]
    seeds = [0]                         # default: those of the grid
    point = "20 %"                      # names the rows of the table ...
    x = 20                              # ... and their place in the figure
    curve = "baseline"                  # a stage whose validation AP goes into curve.png
    show = { finetune = "pseudo labels, then labels", baseline = "labels alone" }

    [[compare]]                         # paired difference a - b, by row: "SERIES, POINT"
    a = "pseudo labels, then labels, 20 %"
    b = "labels alone, 20 %"
    headline = "C4: with pseudo labels"  # optional: a line of the claims' figure

A flag that may be repeated (--unlabeled, --teacher) adds to those of the flagfile.
"""

import dataclasses
import pathlib
import re
import tomllib

from kd_tf import config
from kd_tf.errors import UserError
from kd_tf.specs import nearest

GRID = "grid.toml"
STAGES = ("teacher", "pseudo", "pretrain", "finetune", "baseline", "evaluate")
# What evaluate says of the labels that stage pseudo made, where people labelled the images too.
LABELS = "pseudo_labels"
TAKEN = (
    *("labeled", "teacher", "predictions", "validation"),
    *("pseudo", "pretrain", "finetune", "baseline"),
)
_TOP = ("question", "flagfile", "seeds", "metrics", "price", "figure", "run", "compare")
_OF_GRID = re.compile(r"(?<!\$)\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Run:
    """One variant: flags, and the stages that are done with them.

    Attributes: as in the table above.
    """

    name: str
    stages: tuple[str, ...]
    flags: tuple[str, ...] = ()
    parent: str = ""
    take: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    point: str = ""
    x: float | None = None
    curve: str = ""
    show: dict[str, str] = dataclasses.field(default_factory=dict)

    def needs(self) -> tuple[str, ...]:
        """Names of the runs that must have finished before."""
        named = [name for flag in self.flags for name in _OF_GRID.findall(flag)]
        return tuple(dict.fromkeys([*([self.parent] if self.parent else []), *named]))

    def row(self, model: str) -> str:
        """The name of a row of the table."""
        return ", ".join(filter(None, (self.show[model], self.point)))


@dataclasses.dataclass(frozen=True)
class Price:
    """What a step is taken to cost before any was measured."""

    images_per_s: dict[str, float] = dataclasses.field(default_factory=dict)
    other_s: float = 40.0


@dataclasses.dataclass(frozen=True)
class Figure:
    """What the figure's axis says."""

    x_label: str = ""
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Compare:
    """Two rows of the table whose difference is asked for, a - b.

    Attributes:
        a, b: The rows.
        headline: What `experiments.claims` calls it; it leaves out those without.
    """

    a: str
    b: str
    headline: str = ""


@dataclasses.dataclass(frozen=True)
class Grid:
    """An experiment: see the module's text for its parts.

    Attributes beside those parts:
        others: Name -> the experiments on whose runs its own build.
    """

    folder: pathlib.Path
    question: str
    flags: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    metrics: tuple[str, ...] = ("AP", "AP50")
    price: Price = dataclasses.field(default_factory=Price)
    figure: Figure | None = None
    compare: tuple[Compare, ...] = ()
    others: dict[str, "Grid"] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def run(self, name: str) -> Run:
        """The run of that name, which must be there."""
        return next(one for one in self.runs if one.name == name)

    def seeds_of(self, run: Run) -> tuple[int, ...]:
        """The seeds a run is done with."""
        return run.seeds or self.seeds


def load(folder: str, *, lends: bool = False) -> Grid:
    """The grid of an experiment's folder, checked.

    Args:
        folder: Of the experiment.
        lends: Another experiment builds on this one, which then must stand alone.

    Raises:
        UserError: There is none, or a part of it is wrong; says which.
    """
    place = pathlib.Path(folder)
    path = place / GRID
    if not path.is_file():
        raise UserError(f"{folder} holds no {GRID}; give an experiment's folder that has one.")
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    _check_keys(content, _TOP, f"{path}")
    for key in ("question", "seeds", "run"):
        if not content.get(key):
            raise UserError(f"{path} lacks {key!r}.")
    runs = tuple(_build(Run, one, f"{path}, [[run]]") for one in content["run"])
    runs = tuple(_with_take(one) for one in runs)
    lenders = dict.fromkeys(run.parent.partition("/")[0] for run in runs if "/" in run.parent)
    if lends and lenders:
        raise UserError(f"{path} builds on {', '.join(lenders)}: build on that, not on both.")
    grid = Grid(
        folder=place,
        question=content["question"],
        flags=_flag_lines(place / content["flagfile"]) if "flagfile" in content else (),
        seeds=tuple(content["seeds"]),
        runs=runs,
        metrics=tuple(content.get("metrics", ("AP", "AP50"))),
        price=_build(Price, content.get("price", {}), f"{path}, [price]"),
        figure=_build(Figure, content["figure"], f"{path}, [figure]")
        if "figure" in content
        else None,
        compare=tuple(
            _build(Compare, one, f"{path}, [[compare]]") for one in content.get("compare", ())
        ),
        others={name: load(str(place.parent / name), lends=True) for name in lenders},
    )
    _check(grid, str(path))
    return grid


def _flag_lines(path: pathlib.Path) -> tuple[str, ...]:
    """The flags of a flagfile without its comments."""
    if not path.is_file():
        raise UserError(f"The flagfile {path} does not exist.")
    lines = (line.strip() for line in path.read_text().splitlines())
    return tuple(line for line in lines if line and not line.startswith(("#", "//")))


def _build(kind: type, content: dict, where: str):
    """A dataclass from a table of the same keys; lists become tuples."""
    fields = dataclasses.fields(kind)
    _check_keys(content, tuple(field.name for field in fields), where)
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})
    except TypeError as error:
        lacking = [f.name for f in fields if _is_required(f) and f.name not in content]
        raise UserError(f"{where} lacks {', '.join(lacking)}: {content}") from error


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _check_keys(content: dict, known: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in known:
            raise UserError(
                f"{where} has an unknown key {key!r}.{nearest(key, known)} "
                f"Known: {', '.join(known)}."
            )


def _with_take(run: Run) -> Run:
    if run.take or not run.parent:
        return run
    return dataclasses.replace(run, take=tuple(n for n in TAKEN if n not in run.stages))


def _check(grid: Grid, where: str) -> None:
    """Raises UserError for names that do not fit together."""
    # Run -> its seeds; first those of other experiments.
    above = {
        f"{other.name}/{run.name}": other.seeds_of(run)
        for other in grid.others.values()
        for run in other.runs
    }
    for run in grid.runs:
        here = f"{where}, run {run.name!r}"
        if run.name in above or not re.fullmatch(r"\w+", run.name):
            raise UserError(f"{here}: a name is there once, of letters, digits and _.")
        _check_names(run.stages, STAGES, f"{here}: stage")
        _check_names(run.take, TAKEN, f"{here}: take")
        _check_names((run.curve,) if run.curve else (), run.stages, f"{here}: curve of stage")
        _check_names(tuple(run.show), (*config.TRAINING, LABELS), f"{here}: show")
        for name in run.needs():
            if name not in above:
                raise UserError(f"{here} builds on {name!r}, which is not a run above it.")
            missing = set(grid.seeds_of(run)) - set(above[name])
            if missing:
                raise UserError(f"{here}: run {name!r} lacks its seeds {sorted(missing)}.")
        if run.show and "evaluate" not in run.stages:
            raise UserError(f"{here} shows scores, so its stages must end with evaluate.")
        above[run.name] = grid.seeds_of(run)
    rows = [run.row(model) for run in grid.runs for model in run.show]
    if len(set(rows)) < len(rows):
        twice = next(row for row in rows if rows.count(row) > 1)
        raise UserError(f"{where}: two rows of the table are called {twice!r}.")
    # Pseudo labels are scored on their own images, not on those of --eval_data.
    scored = tuple(run.row(model) for run in grid.runs for model in run.show if model != LABELS)
    for pair in grid.compare:
        _check_names((pair.a, pair.b), scored, f"{where}, [[compare]]: row")


def _check_names(given: tuple[str, ...], known: tuple[str, ...], what: str) -> None:
    for name in given:
        if name not in known:
            raise UserError(
                f"{what} {name!r} is unknown.{nearest(name, known)} Known: {'; '.join(known)}."
            )
