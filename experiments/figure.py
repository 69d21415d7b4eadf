"""The figure of a grid: AP against the point of a run, one line for each series."""

import statistics
import textwrap

from experiments.grid import Grid

_METRIC = "AP"
_LABEL_WIDTH = 50


def draw(grid: Grid, scores: dict[str, list[dict]], *, path: str) -> None:
    """Writes the picture.

    Rows of runs with an `x` make lines, with the standard deviation over seeds as bars. A
    line joins the means over the seeds that all its points have: a point of more seeds is a
    dot beside it, as seeds differ by more than neighbouring points may. Rows of runs
    without `x` and `point` are level, dashed lines; a variant, which has a `point` alone, is
    left to the table. Where no run has an `x`, every row is a dot, and rows named "THIS: ONE"
    and "THIS: OTHER" are dots of two colours on one line.

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
        told = [_draw_line(axes, series, points) for series, points in lines.items()]
        _draw_levels(axes, levels, first_color=len(lines))
        axes.set_xlabel("\n".join([grid.figure.x_label, *sorted(set(filter(None, told)))]))
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
    """Series -> points (x, seed -> value), and row -> (mean, spread) of the levels."""
    with_x = any(run.x is not None for run in grid.runs)
    lines: dict[str, list[tuple]] = {}
    levels: dict[str, tuple] = {}
    for run in grid.runs:
        for model, series in run.show.items():
            values = {one["seed"]: one[_METRIC] for one in scores[run.row(model)]}
            values = {seed: value for seed, value in values.items() if value is not None}
            if not values:
                continue
            if run.x is None and (not run.point or not with_x):
                levels[run.row(model)] = _mean_spread(values)
            elif run.x is not None:
                lines.setdefault(series, []).append((run.x, values))
    return lines, levels


def _mean_spread(values: dict[int, float]) -> tuple[float, float]:
    found = list(values.values())
    return statistics.mean(found), statistics.stdev(found) if len(found) > 1 else 0.0


def _draw_line(axes, series: str, points: list[tuple[float, dict[int, float]]]) -> str:
    """Draws a series; gives what its picture does not say of itself, or nothing."""
    points = sorted(points, key=lambda point: point[0])
    x = [at for at, _ in points]
    mean, spread = zip(*(_mean_spread(values) for _, values in points), strict=True)
    common = set.intersection(*(set(values) for _, values in points))
    if all(set(values) == common for _, values in points) or not common:
        axes.errorbar(x, mean, yerr=spread, marker="o", capsize=3, label=series)
        return ""
    of_common = [statistics.mean(values[seed] for seed in common) for _, values in points]
    (line,) = axes.plot(x, of_common, marker=".", linewidth=1, label=series)
    more = [number for number, (_, values) in enumerate(points) if set(values) != common]
    at, means, spreads = ([column[number] for number in more] for column in (x, mean, spread))
    axes.errorbar(at, means, yerr=spreads, fmt="o", capsize=3, color=line.get_color())
    return f"lines: seed {_told(common)} at every point; dots: means of all seeds"


def _told(seeds: set[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))


def _draw_levels(axes, levels: dict, *, first_color: int) -> None:
    for number, (row, (mean, _)) in enumerate(levels.items()):
        color = f"C{first_color + number}"
        axes.axhline(mean, linestyle="--", linewidth=1, color=color, label=row)


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
        mean, spread = zip(*(levels[row] for row in rows), strict=True)
        at = [names.index(_line(row)) for row in rows]
        axes.errorbar(mean, at, xerr=spread, fmt="o", capsize=3, label=one or None)
    axes.set_yticks(range(len(names)), [textwrap.fill(name, _LABEL_WIDTH) for name in names])


def _line(row: str) -> str:
    return row.partition(": ")[0]


def _series(row: str) -> str:
    """The part of a row's name behind a colon: rows with one name before it share a line."""
    return row.partition(": ")[2]
