"""How numbers, durations and boxes read on the page."""

import json

from kd_tf.evaluation.report.data import Box, Example, Panel, RunData
from kd_tf.evaluation.report.verdict import judge_labels

FOR_TEMPLATES = (
    *("score", "signed", "interval", "rate", "milliseconds", "count", "compact", "duration"),
    *("tile_values", "class_names_of", "panel_text", "label_y", "font_size"),
    *("heat_level", "row_sums", "top_confusions", "rejected", "plain_value"),
)
NOTHING = "\N{EN DASH}"
_HEAT_LEVELS = 5
_MAX_CONFUSIONS = 30


def score(value: float | None) -> str:
    """Three digits after the point; a dash where nothing was measured."""
    return NOTHING if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    return NOTHING if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def interval(ends: list[float] | None) -> str:
    """Two signed ends."""
    return NOTHING if ends is None else f"{signed(ends[0])} to {signed(ends[1])}"


def rate(value: float | None) -> str:
    """Images per second."""
    return NOTHING if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    """A latency with its unit."""
    return NOTHING if value is None else f"{value:,.1f} ms"


def count(value: int | None) -> str:
    """A whole number with separators."""
    return NOTHING if value is None else f"{value:,.0f}"


def compact(value: int | None) -> str:
    """A large whole number with K, M or G."""
    if value is None:
        return NOTHING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def tile_values(run: RunData) -> list[tuple[str, str]]:
    """The four numbers at the top, as far as they are there."""
    tiles = []
    metrics = run.models.get(run.student, {}) if run.student else {}
    ap, teacher = metrics.get("AP"), run.models.get("teacher", {})
    if ap is not None:
        tiles.append((score(ap), f"AP of the student ({run.student})"))
        baseline = run.models.get("baseline", {}).get("AP")
        if baseline is not None:
            tiles.append((signed(ap - baseline), "AP against the labels alone"))
        if teacher.get("AP"):
            tiles.append((f"{ap / teacher['AP']:.0%}", "of the teacher's AP"))
    smaller = _ratio(teacher.get("num_parameters"), metrics.get("num_parameters"))
    if smaller:
        tiles.append((f"{smaller:.1f}\N{MULTIPLICATION SIGN}", "fewer parameters than the teacher"))
    labels = judge_labels(run)
    if labels is not None:
        tiles.append(("Go" if labels.outcome == "good" else "No-go", "for the pseudo labels"))
    return tiles


def _ratio(big: float | None, small: float | None) -> float | None:
    return big / small if big and small and big > small else None


def class_names_of(run: RunData) -> list[str]:
    """The classes of the metrics, in their order."""
    names = [name for metrics in run.models.values() for name in metrics.get("per_class", {})]
    return list(dict.fromkeys(names))


def panel_text(panel: Panel) -> str:
    """What a panel shows, for those who do not see it."""
    if not panel.boxes:
        return f"{panel.title}: no boxes"
    named = ", ".join(box.text for box in panel.boxes[:12])
    more = f" and {len(panel.boxes) - 12} more" if len(panel.boxes) > 12 else ""
    return f"{panel.title}: {named}{more}"


def font_size(example: Example) -> float:
    """Of labels on boxes, in pixels of the image: about 14 on the enlarged picture."""
    return round(max(example.width, example.height) / 32, 1)


def label_y(box: Box, example: Example) -> float:
    """Baseline of a box's label: above the box, or inside where there is no room."""
    size = font_size(example)
    above = box.xyxy[1] - size * 0.3
    return round(above if above > size else box.xyxy[1] + size, 1)


def heat_level(value: float | None, largest: float) -> int:
    """0 (nothing) to 5 (all of it)."""
    if not value or not largest:
        return 0
    return min(int(value / largest * _HEAT_LEVELS) + 1, _HEAT_LEVELS)


def row_sums(rows: list[list[int]]) -> list[int]:
    """What each row's cells are shares of."""
    return [sum(row) for row in rows]


def top_confusions(confusion: dict) -> list[tuple[str, str, int]]:
    """The largest cells off the diagonal: (what it is, what it was called, times)."""
    labels, counts = confusion["labels"], confusion["counts"]
    cells = [
        (labels[row], labels[column], counts[row][column])
        for row in range(len(labels))
        for column in range(len(labels))
        if row != column and counts[row][column]
    ]
    return sorted(cells, key=lambda cell: -cell[2])[:_MAX_CONFUSIONS]


def rejected(run: RunData) -> list[dict[str, str | int | list[str]]]:
    """A row per stage and reason, most frequent first within a stage."""
    rows = []
    for stage in run.stages:
        for what, table in (("images", stage.skipped), ("boxes", stage.skipped_boxes)):
            for reason, number in sorted(table.items(), key=lambda pair: -pair[1]):
                examples = stage.examples.get(reason, [])
                row = {"stage": stage.name, "reason": reason, "count": number}
                rows.append({**row, "what": what, "examples": examples})
    return rows


def plain_value(value: str | float | bool | list | dict | None) -> str:
    """A setting as text; containers as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
