"""What a grid costs before it runs: steps and seconds, measured where something has finished."""

import dataclasses
import math
import statistics
from collections.abc import Iterable

from experiments.cells import Cell, settings
from experiments.grid import Grid
from kd_tf import config
from kd_tf.errors import UserError

_SIZE_FLAG = "--image_size="


@dataclasses.dataclass(frozen=True)
class Work:
    """One stage of one cell.

    Attributes:
        stage: Its name.
        network: What it trains; empty where it trains nothing.
        images: Images that its steps see; 0 where it trains nothing.
        steps: Its steps.
        image_size: Of the networks' input.
    """

    stage: str
    network: str = ""
    images: int = 0
    steps: int = 0
    image_size: str = ""

    @property
    def kind(self) -> tuple[str, str, str]:
        """Stages of one kind take about as long for an image."""
        return (self.stage, self.network, self.image_size)


def work(cell: Cell) -> list[Work]:
    """The stages of a cell."""
    flags = settings(cell)
    return [_work(flags, stage) for stage in cell.run.stages]


def _work(flags: config.Config, stage: str) -> Work:
    if stage not in config.TRAINING:
        return Work(stage, image_size=flags.image_size)
    steps = {
        "teacher": flags.teacher_steps,
        "pretrain": flags.pretrain_steps,
        "finetune": flags.finetune_steps,
        "baseline": flags.pretrain_steps + flags.finetune_steps,
    }[stage]
    return Work(
        stage,
        network=flags.teacher_model if stage == "teacher" else flags.student,
        images=steps * flags.of(stage, "batch_size"),
        steps=steps,
        image_size=flags.image_size,
    )


def _pixels(image_size: str) -> int:
    return math.prod(config.Config(image_size=image_size).size())


class Prices:
    """Seconds of a stage: from finished stages of its kind, else from the grid's own figures."""

    def __init__(self, grid: Grid, cells: Iterable[Cell]):
        self._other_s = grid.price.other_s
        self._images_per_s: dict[str, float] = {}
        for one in (*grid.others.values(), grid):
            self._images_per_s |= one.price.images_per_s
        stated = [flag.partition("=")[2] for flag in grid.flags if flag.startswith(_SIZE_FLAG)]
        self._stated_size = stated[-1] if stated else config.Config().image_size
        self._where = f"{grid.folder}/grid.toml"
        self._measured: dict[tuple, list[float]] = {}
        for cell in cells:
            seconds = cell.state().get("seconds", {})
            if cell.is_other():
                continue
            for one in work(cell):
                if one.stage in seconds and (cell.is_done() or cell.has(one.stage)):
                    share = seconds[one.stage] / max(one.images, 1)
                    self._measured.setdefault(one.kind, []).append(share)

    def seconds(self, one: Work) -> float:
        """What a stage is expected to take.

        Stated speeds are for the flagfile's image size; others go with the number of pixels.

        Raises:
            UserError: It was never measured and the grid states no speed for its network.
        """
        if one.kind in self._measured:
            return statistics.median(self._measured[one.kind]) * max(one.images, 1)
        if not one.images:
            return self._other_s
        if one.network not in self._images_per_s:
            raise UserError(
                f"{self._where}: [price] images_per_s has no {one.network}; state how many images "
                "a second it trains on, roughly."
            )
        size = _pixels(one.image_size) / _pixels(self._stated_size)
        return self._other_s + one.images * size / self._images_per_s[one.network]

    def is_measured(self, one: Work) -> bool:
        """Whether the price comes from a finished stage."""
        return one.kind in self._measured

    def left(self, cell: Cell) -> float:
        """Seconds of the stages of a cell that have not finished."""
        if cell.is_done():
            return 0.0
        again = cell.is_other()
        return sum(self.seconds(one) for one in work(cell) if again or not cell.has(one.stage))


def table(grid: Grid, cells: list[Cell]) -> str:
    """The price list of `--dry_run`: what is done, what is left, in steps and time."""
    prices = Prices(grid, cells)
    lines = [f"{'cell':<36}{'stages':<44}{'steps':>7}{'minutes':>9}  state"]
    steps_left, measured = 0, True
    for cell in cells:
        todo = [] if cell.is_done() else work(cell)
        if not cell.is_other():
            todo = [one for one in todo if not cell.has(one.stage)]
        steps = sum(one.steps for one in todo)
        measured &= all(prices.is_measured(one) for one in todo)
        steps_left += steps
        lines.append(
            f"{cell.name:<36}{' '.join(one.stage for one in todo):<44}{steps:>7,}"
            f"{prices.left(cell) / 60:>9.1f}  {state(cell)}"
        )
    hours = sum(prices.left(cell) for cell in cells) / 3600
    source = "measured in finished cells" if measured else "partly from the stated images/s"
    done = sum(cell.is_done() for cell in cells)
    lines.append(
        f"{len(cells)} cells, {done} done; left: {steps_left:,} steps, {hours:.2f} hours ({source})"
    )
    return "\n".join(lines)


def state(cell: Cell) -> str:
    """One word, or a few, on how far a cell is."""
    if cell.is_done():
        return "done"
    if cell.is_other():
        return "settings changed: again, the old folder is kept"
    return "half done" if cell.state() else "to do"


def clock(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
