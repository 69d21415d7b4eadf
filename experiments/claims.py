"""One picture of all claims: what each changed in AP, from the numbers the grids have left.

    python -m experiments.claims

Draws experiments/claims.png: every `[[compare]]` of a grid that has a headline and was run, with
the 95 % interval over the scored images, and over seeds where there are three.
"""

import json
import os
import pathlib
import textwrap

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from experiments import grid, results

FIGURE = "claims.png"
_LABEL_WIDTH = 56


def collect(folder: pathlib.Path) -> list[tuple[str, dict]]:
    """Headline -> mean, interval and seeds of its difference, in the order of the folders.

    Args:
        folder: Holds one folder for each grid.
    """
    found = []
    for path in sorted(folder.glob(f"*/{grid.GRID}")):
        numbers = path.parent / results.NUMBERS
        if not numbers.is_file():
            continue
        measured = json.loads(numbers.read_text())["differences"]
        by_rows = {(one["a"], one["b"]): one for one in measured}
        for pair in grid.load(str(path.parent)).compare:
            if pair.headline and (pair.a, pair.b) in by_rows:
                found.append((pair.headline, by_rows[pair.a, pair.b]))
    return found


def draw(lines: list[tuple[str, dict]], *, path: str) -> None:
    """Writes the picture; `lines` as `collect` gives them, at least one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = lines[::-1]
    drawing, axes = plt.subplots(figsize=(10, 1.2 + 0.45 * len(lines)), layout="constrained")
    for row, (_, found) in enumerate(lines):
        _draw_line(axes, row, found)
    axes.axvline(0.0, color="black", linewidth=1)
    axes.set_yticks(range(len(lines)), [_label(*line) for line in lines])
    axes.set_xlabel(
        "difference in AP; 95 % intervals: blue over images, grey over three seeds\n"
        "orange: single seeds; hollow: one seed only"
    )
    axes.grid(alpha=0.3)
    drawing.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(drawing)


def _draw_line(axes, row: int, found: dict) -> None:
    mean, by_seed = found["mean"], found["by_seed"]
    if found["over_seeds"]:
        axes.plot(found["over_seeds"], [row, row], color="0.75", linewidth=7, solid_capstyle="butt")
    low, high = found["interval"]
    errors = [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]
    face = "C0" if len(by_seed) > 1 else "white"
    axes.errorbar(
        [mean], [row], xerr=errors, fmt="o", capsize=3, color="C0", markerfacecolor=face, zorder=3
    )
    if len(by_seed) > 1:
        axes.plot(by_seed, [row] * len(by_seed), "|", color="C1", zorder=4)


def _label(headline: str, found: dict) -> str:
    num = len(found["seeds"])
    label = f"{headline} ({num} seed{'s' if num > 1 else ''})"
    return textwrap.fill(label, _LABEL_WIDTH)


def main() -> None:
    """Draws the picture beside this file."""
    folder = pathlib.Path(__file__).parent
    lines = collect(folder)
    if not lines:
        raise SystemExit("No grid has been run yet: python -m experiments.run experiments/NAME")
    draw(lines, path=str(folder / FIGURE))
    for headline, found in lines:
        low, high = found["interval"]
        print(f"{headline}: {found['mean']:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main()
