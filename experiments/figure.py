"""The figure of a grid: AP against the point of a run, one line for each series."""

import statistics
import textwrap

from experiments.grid import Grid

_METRIC = "AP"
_LABEL_WIDTH = 50


def draw(grid: Grid, scores: dict[str, list[dict]], *, path: str) -> None:
    """Writes the picture.

    Rows of runs with an `x` make lines, with the standard deviation over seeds as bars; rows
    of runs without `x` and `point` are level, dashed lines; a variant, which has a `point`
    alone, is left to the table. Where some points have more seeds than others, all lines are
    of the seeds that every point has, and the means of all seeds are dots beside them: seeds
    differ by more than neighbouring points may. Where no run has an `x`, every row is a dot,
    and rows named "THIS: ONE" and "THIS: OTHER" are dots of two colours on one line.

    Args:
        grid: The experiment, with a [figure].
        scores: Row -> numbers of each of its seeds; empty where it has not run.
        path: A .png or .svg.
    """
    # Imported here: it takes a second, and only a finished grid needs it.
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines, levels = _split(grid, scores)
    num_lines = len({_line(row) for row in levels})
    size = (7, 5) if lines else (10, max(2, 0.8 + 0.45 * num_lines))
    drawing, axes = plt.subplots(figsize=size, layout="constrained")
    if lines:
        axes.set_xlabel(f"{grid.figure.x_label}{_draw_lines(axes, lines, levels)}")
        if grid.figure.log:
            _label_points(axes, lines)
        axes.set_ylabel(_METRIC)
    else:
        _draw_dots(axes, levels)
        axes.set_xlabel(_METRIC)
    if lines or any(_series(row) for row in levels):
        drawing.legend(loc="outside lower center", ncols=2, fontsize="small")
    axes.grid(alpha=0.3)
    axes.set_title(grid.question, fontsize="medium", wrap=True)
    drawing.savefig(path, dpi=150, metadata={"Software": None} if path.endswith("png") else None)
    plt.close(drawing)


def draw_curves(curves: dict[str, list[tuple[int, float]]], *, path: str) -> None:
    """Writes a picture of validation AP against steps: how far from their plateau runs are.

    Args:
        curves: Name -> (step, AP) of every validation, in order.
        path: A .png or .svg.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("AP on validation images")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    drawing.savefig(path, dpi=150)
    plt.close(drawing)


def _split(grid: Grid, scores: dict[str, list[dict]]) -> tuple[dict, dict]:
    """Series -> points (x, seed -> value), and row -> seed -> value of the levels."""
    with_x = any(run.x is not None for run in grid.runs)
    lines: dict[str, list[tuple]] = {}
    levels: dict[str, dict[int, float]] = {}
    for run in grid.runs:
        for model, series in run.show.items():
            values = {one["seed"]: one[_METRIC] for one in scores[run.row(model)]}
            values = {seed: value for seed, value in values.items() if value is not None}
            if not values:
                continue
            if run.x is None and (not run.point or not with_x):
                levels[run.row(model)] = values
            elif run.x is not None:
                lines.setdefault(series, []).append((run.x, values))
    return lines, levels


def _mean_spread(values: dict[int, float]) -> tuple[float, float]:
    found = list(values.values())
    return statistics.mean(found), statistics.stdev(found) if len(found) > 1 else 0.0


def _draw_lines(axes, lines: dict, levels: dict) -> str:
    """Draws lines and levels; gives what the picture does not say of itself."""
    sets = [set(values) for points in lines.values() for _, values in points]
    common = set.intersection(*sets)
    mixed = any(seeds != common for seeds in sets)
    for series, points in lines.items():
        points = sorted(points, key=lambda point: point[0])
        if mixed:
            _draw_seeds(axes, series, points, common)
        else:
            x, mean, spread = _columns(points)
            axes.errorbar(x, mean, yerr=spread, marker="o", capsize=3, label=series)
    for number, (row, values) in enumerate(levels.items()):
        own = {seed: value for seed, value in values.items() if seed in common} if mixed else {}
        mean, _ = _mean_spread(own or values)
        color = f"C{len(lines) + number}"
        axes.axhline(mean, linestyle="--", linewidth=1, color=color, label=row)
    if not mixed:
        return ""
    told = ", ".join(str(seed) for seed in sorted(common))
    return f"\nlines: seed {told}; dots: means of all seeds" if common else "\nmeans of all seeds"


def _columns(points: list[tuple]) -> tuple[list, list, list]:
    """x, mean and spread of the points."""
    found = [(x, *_mean_spread(values)) for x, values in points]
    return tuple(list(column) for column in zip(*found, strict=True))


def _draw_seeds(axes, series: str, points: list[tuple], common: set[int]) -> None:
    """A line through the seeds that all points have, and dots for points that have more."""
    more = [point for point in points if set(point[1]) != common]
    joined = points if common else []
    y = [statistics.mean(values[seed] for seed in common) for _, values in joined]
    (line,) = axes.plot([x for x, _ in joined], y, marker=".", linewidth=1, label=series)
    if more:
        x, mean, spread = _columns(more)
        axes.errorbar(x, mean, yerr=spread, fmt="o", capsize=3, color=line.get_color())


def _label_points(axes, lines: dict) -> None:
    """A logarithmic axis with a tick at every point."""
    points = sorted({point[0] for found in lines.values() for point in found})
    axes.set_xscale("log")
    axes.set_xticks(points, [f"{point:g}" for point in points])
    axes.minorticks_off()


def _draw_dots(axes, levels: dict) -> None:
    names = list(dict.fromkeys(_line(row) for row in levels))[::-1]
    series = list(dict.fromkeys(_series(row) for row in levels))
    for one in series:
        rows = [row for row in levels if _series(row) == one]
        mean, spread = zip(*(_mean_spread(levels[row]) for row in rows), strict=True)
        at = [names.index(_line(row)) for row in rows]
        axes.errorbar(mean, at, xerr=spread, fmt="o", capsize=3, label=one or None)
    axes.set_yticks(range(len(names)), [textwrap.fill(name, _LABEL_WIDTH) for name in names])


def _line(row: str) -> str:
    return row.partition(": ")[0]


def _series(row: str) -> str:
    """The part of a row's name behind a colon: rows with one name before it share a line."""
    return row.partition(": ")[2]
