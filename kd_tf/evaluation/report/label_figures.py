"""Draws the figures about pseudo labels."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from kd_tf.evaluation.report.data import LabelFacts
from kd_tf.evaluation.report.figures import PALETTE, Picture, picture, plain, short

FOR_TEMPLATES = ("score_pictures", "boxes_picture", "mix_picture")
MAX_CLASS_FIGURES = 12
# Above it a few thousand low scores would flatten everything else.
_LINEAR_UP_TO = 50


def score_pictures(labels: LabelFacts) -> list[Picture]:
    """Score histograms of the classes with most detections, thresholds marked."""
    edges = np.linspace(0, 1, 21)
    by_size = sorted(labels.scores, key=lambda name: -sum(labels.scores[name]))
    pictures = []
    for name in [name for name in by_size if sum(labels.scores[name])][:MAX_CLASS_FIGURES]:
        counts = np.array(labels.scores[name])
        threshold = labels.thresholds.get(name)

        def draw(axes: Axes, counts=counts, threshold=threshold, name=name) -> None:
            axes.stairs(counts, edges, fill=True, color=PALETTE[0], alpha=0.75)
            if threshold is not None:
                axes.axvline(threshold, color=PALETTE[4], linestyle="--")
            axes.set(title=plain(short(name)), xlim=(0, 1), xlabel="score")
            if counts.max() > _LINEAR_UP_TO:
                axes.set_yscale("symlog", linthresh=1)
                axes.yaxis.set_major_formatter("{x:g}")
            axes.set_ylim(bottom=0)

        kept = counts[edges[:-1] >= (threshold or 0) - 1e-9].sum()
        alt = f"Scores of {counts.sum():,} detections of {name}"
        if threshold is not None:
            alt += f"; about {kept:,} lie above the threshold {threshold:.2f}"
        pictures.append(picture(draw, alt=alt + ".", caption="", width=200, height=150))
    return pictures


def boxes_picture(labels: LabelFacts) -> Picture:
    """Boxes per image, pseudo labels against people's, as shares of the images."""
    longest = max([0, *labels.boxes_per_image, *labels.truth_boxes_per_image])
    limit = min(longest, 40)

    def shares(table: Mapping[int, int]) -> np.ndarray:
        result = np.zeros(limit + 1)
        for boxes, images in table.items():
            result[min(boxes, limit)] += images
        return result / max(result.sum(), 1)

    def draw(axes: Axes) -> None:
        edges = np.arange(limit + 2) - 0.5
        if labels.num_truth_images:
            people = shares(labels.truth_boxes_per_image)
            axes.stairs(people, edges, fill=True, color=PALETTE[1], alpha=0.45, label="people")
        axes.stairs(
            shares(labels.boxes_per_image), edges, color=PALETTE[0], lw=2, label="pseudo labels"
        )
        axes.set(xlabel=f"boxes in an image{' (the last: or more)' * (longest > limit)}")
        axes.set_ylabel("share of images")
        axes.legend()

    caption = "Boxes per image"
    mean = labels.num_boxes / max(labels.num_images, 1)
    alt = f"{caption}: pseudo labels {mean:.1f} on average"
    if labels.num_truth_images:
        people = sum(labels.truth_class_counts.values()) / labels.num_truth_images
        alt += f", people {people:.1f}"
    return picture(draw, alt=alt + ".", caption=caption)


def mix_picture(labels: LabelFacts) -> Picture:
    """Share of each class among the boxes, pseudo labels against people's."""
    ours, truth = sum(labels.class_counts.values()), sum(labels.truth_class_counts.values())
    names = sorted(labels.class_counts, key=lambda name: labels.class_counts[name])[-20:]
    mine = [labels.class_counts[name] / max(ours, 1) for name in names]
    people = [labels.truth_class_counts.get(name, 0) / max(truth, 1) for name in names]

    def draw(axes: Axes) -> None:
        at = np.arange(len(names))
        if truth:
            axes.barh(at - 0.2, people, 0.4, color=PALETTE[1], alpha=0.6, label="people")
        axes.barh(at + 0.2 * bool(truth), mine, 0.4, color=PALETTE[0], label="pseudo labels")
        axes.set_yticks(at, [plain(short(name)) for name in names])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of boxes")
        axes.legend(loc="lower right")

    caption = "Class mix" + (" (the 20 most frequent)" if len(labels.class_counts) > 20 else "")
    alt = f"{caption}: " + ", ".join(
        f"{name} {share:.0%}" for name, share in zip(names, mine, strict=True)
    )
    return picture(draw, alt=alt + ".", caption=caption, height=max(200, 60 + 18 * len(names)))
