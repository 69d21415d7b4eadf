"""One picture of all claims: what each changed in AP, from the numbers the grids have left.

    python -m experiments.claims

Draws experiments/claims.png: every `[[compare]]` of a grid that has a headline and was run, with
the 95 % interval over the scored images.
"""

import json
import pathlib
import textwrap

from experiments import grid, results

FIGURE = "claims.png"
_LABEL_WIDTH = 50


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
    drawing, axes = plt.subplots(figsize=(10, 0.8 + 0.45 * len(lines)), layout="constrained")
    for row, (_, found) in enumerate(lines):
        mean, (low, high) = found["mean"], found["interval"]
        errors = [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]
        axes.errorbar([mean], [row], xerr=errors, fmt="o", capsize=3, color="C0")
        if len(found["by_seed"]) > 1:
            axes.plot(found["by_seed"], [row] * len(found["by_seed"]), "|", color="C1")
    axes.axvline(0.0, color="black", linewidth=1)
    axes.set_yticks(range(len(lines)), [_label(*line) for line in lines])
    axes.set_xlabel("difference in AP, 95 % interval over the images; ticks: single seeds")
    axes.grid(alpha=0.3)
    drawing.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(drawing)


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
