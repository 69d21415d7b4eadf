"""Draws the figures: SVG that reads on white and on black, with a text of what it shows."""

import base64
import dataclasses
import io
import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_tf.evaluation.report.data import History, RunData
from kd_tf.evaluation.tide import KINDS

# Okabe and Ito's palette (jfly.uni-koeln.de/color), which colour-blind readers can tell apart,
# without its black; mid-tones, so one set serves white and black ground.
PALETTE = ("#3b8fd4", "#e08a1e", "#1fa37a", "#c76aa0", "#d9603b", "#8f7ad6", "#9a9a2e", "#5aa9b8")
_MODELS = ("teacher", "baseline", "pretrain", "finetune")
_LIGHT = {"ink": "#3c4350", "grid": "#e3e6eb"}
_DARK = {"ink": "#b9c0cc", "grid": "#333a45"}
# Matplotlib lists its own fonts; the reader's are those of the page.
_FONTS = re.compile(rb"'DejaVu Sans'[^;\"]*sans-serif")
_INKED = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
_STYLE = {
    **dict.fromkeys(_INKED, _LIGHT["ink"]),
    "grid.color": _LIGHT["grid"],
    "svg.fonttype": "none",
    "svg.hashsalt": "kd_tf",
    "font.family": ["sans-serif"],
    "font.size": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 11,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}
FOR_TEMPLATES = (
    "training_pictures",
    "precision_recall_pictures",
    "tide_picture",
    "share_picture",
)


@dataclasses.dataclass(frozen=True)
class Picture:
    """One figure in two inks.

    Attributes:
        light, dark: SVG data URIs, for white and for black ground.
        alt: What it shows, in words.
        caption: What stands below it.
        width, height: In CSS pixels.
    """

    light: str
    dark: str
    alt: str
    caption: str
    width: int
    height: int


def picture(
    draw: Callable[[Axes], None], *, alt: str, caption: str, width: int = 350, height: int = 230
) -> Picture:
    """What `draw` draws, in both inks."""
    light = _svg(draw, size=(width, height))
    dark = light
    for part in ("ink", "grid"):
        dark = dark.replace(_LIGHT[part].encode(), _DARK[part].encode())
    return Picture(_to_uri(light), _to_uri(dark), alt, caption, width, height)


def _svg(draw: Callable[[Axes], None], *, size: tuple[int, int]) -> bytes:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        # No date: the same run gives the same page.
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _FONTS.sub(b"system-ui, sans-serif", buffer.getvalue())


def _to_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def training_pictures(run: RunData) -> list[Picture]:
    """Loss, learning rate and validation AP of all training stages, by step."""
    kinds = (
        ("loss", "Training loss", True),
        ("learning_rate", "Learning rate", False),
        ("val_ap", "AP on the validation images", False),
    )
    pictures = []
    for key, title, logarithmic in kinds:
        lines = {
            stage: _column(rows, key) for stage, rows in run.histories.items() if _has(rows, key)
        }
        if lines:
            pictures.append(_line_picture(lines, title=title, logarithmic=logarithmic))
    return pictures


def _has(rows: History, key: str) -> bool:
    return any(key in row for row in rows)


def _column(rows: History, key: str) -> tuple[list[float], list[float]]:
    kept = [(row["step"], row[key]) for row in rows if key in row]
    return [step for step, _ in kept], [value for _, value in kept]


def _line_picture(
    lines: Mapping[str, tuple[list[float], list[float]]], *, title: str, logarithmic: bool
) -> Picture:
    def draw(axes: Axes) -> None:
        for number, (stage, (steps, values)) in enumerate(lines.items()):
            marker = "o" if len(steps) <= 20 else ""
            axes.plot(
                steps, values, label=stage, color=model_color(stage, number), marker=marker, ms=3.5
            )
        if logarithmic and min(min(values) for _, values in lines.values()) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(_minor_tick)
        axes.set_xlabel("step")
        axes.legend()

    ends = "; ".join(f"{stage} ends at {values[-1]:.4g}" for stage, (_, values) in lines.items())
    return picture(draw, alt=f"{title} by step: {ends}.", caption=title)


def precision_recall_pictures(run: RunData, *, student: str | None) -> list[Picture]:
    """Mean curve of every model, and every class of the student."""
    means = {}
    for name, content in run.curves.items():
        rows = [one["precisions"] for one in content["per_class"].values() if one["precisions"]]
        if rows:
            means[name] = np.mean(rows, axis=0)
    if not means:
        return []
    caption = "Precision and recall at IoU 0.5, mean of classes"
    pictures = [_curve_picture(means, caption=caption, colors=model_color)]
    if student in run.curves:
        per_class = {
            name: np.array(one["precisions"])
            for name, one in run.curves[student]["per_class"].items()
            if one["precisions"]
        }
        caption = f"Precision and recall of {student} by class"
        if len(per_class) > len(PALETTE):
            best_first = sorted(per_class, key=lambda name: -per_class[name].mean())
            chosen = best_first[:4] + best_first[-4:]
            per_class = {name: per_class[name] for name in chosen}
            caption += " (the four best and the four worst)"
        pictures.append(_curve_picture(per_class, caption=caption, colors=_by_number))
    return pictures


def _curve_picture(
    lines: Mapping[str, np.ndarray], *, caption: str, colors: Callable[[str, int], str]
) -> Picture:
    recalls = np.linspace(0, 1, 101)

    def draw(axes: Axes) -> None:
        for number, (name, values) in enumerate(lines.items()):
            axes.plot(recalls, values, label=plain(short(name)), color=colors(name, number))
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend()

    areas = "; ".join(f"{name} {values.mean():.3f}" for name, values in lines.items())
    return picture(draw, alt=f"{caption}. Area below: {areas}.", caption=caption)


def tide_picture(run: RunData) -> Picture | None:
    """The AP50 each kind of error costs, for every model."""
    models = {
        name: metrics["tide"]
        for name, metrics in run.models.items()
        if metrics.get("tide", {}).get("AP50") is not None
    }
    if not models:
        return None
    width = 0.8 / len(models)

    def draw(axes: Axes) -> None:
        for number, (name, gains) in enumerate(models.items()):
            at = np.arange(len(KINDS)) - 0.4 + (number + 0.5) * width
            heights = [gains[kind] for kind in KINDS]
            axes.bar(at, heights, width, label=plain(name), color=model_color(name, number))
        axes.set_xticks(range(len(KINDS)), KINDS)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("AP50 gained")
        axes.legend()

    told = "; ".join(
        f"{name}: " + ", ".join(f"{kind} {gains[kind]:.3f}" for kind in KINDS)
        for name, gains in models.items()
    )
    caption = "What the errors cost (TIDE)"
    return picture(draw, alt=f"{caption}. {told}.", caption=caption)


def share_picture(runs: Sequence[RunData]) -> Picture | None:
    """AP of finetune and baseline against the share of labels; None for a single share."""
    points = {}
    for run in runs:
        stage = run.stage("finetune") or run.stage("baseline")
        share = (stage.settings if stage else {}).get("label_fraction")
        for name in ("teacher", "baseline", "pretrain", "finetune"):
            ap = run.models.get(name, {}).get("AP")
            if share is not None and ap is not None:
                points.setdefault(name, {}).setdefault(float(share), []).append(ap)
    if len({share for table in points.values() for share in table}) < 2:
        return None

    def draw(axes: Axes) -> None:
        for number, (name, table) in enumerate(points.items()):
            shares, ink = sorted(table), model_color(name, number)
            means = [np.mean(table[share]) for share in shares]
            axes.plot(shares, means, marker="o", ms=4, label=name, color=ink)
            for share in shares:
                axes.plot([share] * len(table[share]), table[share], ".", color=ink)
        axes.set(xlabel="share of the labels", ylabel="AP", ylim=(0, None))
        axes.legend()

    told = "; ".join(
        f"{name}: "
        + ", ".join(f"{share:.0%} {np.mean(aps):.3f}" for share, aps in sorted(table.items()))
        for name, table in points.items()
    )
    caption = "AP against the share of labels"
    return picture(draw, alt=f"{caption}. {told}.", caption=caption)


def plain(text: str) -> str:
    """Text for matplotlib: a dollar sign would start a formula."""
    return text.replace("$", r"\$")


def short(name: str) -> str:
    """A name cut to what fits below a small figure."""
    return name if len(name) <= 22 else name[:20] + "…"


def model_color(name: str, number: int) -> str:
    """The same colour for the same model in every figure."""
    return color(_MODELS.index(name) if name in _MODELS else len(_MODELS) + number)


def _by_number(_name: str, number: int) -> str:
    return color(number)


def _minor_tick(value: float, _position: int) -> str:
    """Only 2 and 5 between powers of ten: all nine would overlap."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def color(number: int) -> str:
    """The colour of a line or class; the palette repeats."""
    return PALETTE[number % len(PALETTE)]
