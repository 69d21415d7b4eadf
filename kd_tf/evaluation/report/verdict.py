"""The two judgements on the page: is the student good, and are the labels fit to train on."""

import dataclasses
from collections.abc import Sequence

from kd_tf.evaluation.report.data import LabelFacts, RunData

# Where the labels stop being fit. Ours: rules of thumb, shown beside each reason, not tuned.
LOW_F1 = 0.4
HIGH_EMPTY_SHARE = 0.5
HIGH_BAD_SHARE = 0.05
LOW_TEACHER_AP50 = 0.3
HIGH_MIX_DISTANCE = 0.25


@dataclasses.dataclass(frozen=True)
class Reason:
    """One check: "good", "bad" or "unknown", and what was seen."""

    outcome: str
    text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judgement.

    Attributes:
        outcome: "good", "bad" or "unknown".
        text: One sentence.
        detail: The numbers behind it; may be empty.
        reasons: What it rests on.
    """

    outcome: str
    text: str
    detail: str = ""
    reasons: tuple[Reason, ...] = ()


def judge_student(run: RunData) -> Verdict:
    """Whether the student is worth having: against the labels alone, and against its teacher."""
    name = run.student
    ap = _ap(run, name)
    if ap is None:
        missing = "No student was evaluated yet" if name is None else "There was nothing to score"
        return Verdict("unknown", f"{missing}, so the question is open.")
    teacher, baseline = _ap(run, "teacher"), _ap(run, "baseline")
    share = f"{ap / teacher:.0%} of its teacher's AP ({teacher:.3f})." if teacher else ""
    if baseline is None:
        text = f"The student reaches AP {ap:.3f}; there is no baseline to compare it with."
        return Verdict("unknown", text, share)
    gain, interval = ap - baseline, _interval(run, name)
    against = "the same network trained on the labels alone"
    side = f"{abs(gain):.3f} {'above' if gain >= 0 else 'below'}"
    text = f"The student reaches AP {ap:.3f}, {side} {against}."
    detail = f"Labels alone: AP {baseline:.3f}. {_spread(interval, _num_images(run))}{share}"
    outcome = difference(interval) if interval else UNTESTED
    return Verdict(_OUTCOMES[outcome], f"{outcome[0].upper()}{outcome[1:]}. {text}", detail)


BETTER, WORSE, NOT_SHOWN = "better", "worse", "no difference shown"
UNTESTED = "difference not tested"
_OUTCOMES = {BETTER: "good", WORSE: "bad", NOT_SHOWN: "unknown", UNTESTED: "unknown"}


def difference(interval: Sequence[float]) -> str:
    """What the interval of a difference shows: better, worse, or no difference where it holds 0."""
    if interval[0] > 0:
        return BETTER
    return WORSE if interval[1] < 0 else NOT_SHOWN


def _num_images(run: RunData) -> int:
    return (run.comparison or {}).get("num_images", 0)


def _spread(interval: list[float] | None, num_images: int) -> str:
    if interval is None:
        return ""
    ends = f"{interval[0]:+.3f} and {interval[1]:+.3f}"
    return f"On {num_images:,} images the difference lies between {ends} (95% of resamples). "


def judge_labels(run: RunData) -> Verdict | None:
    """Go or no-go for the pseudo labels, with reasons; None where there are none."""
    labels = run.labels
    if labels is None:
        return None
    reasons = [
        _amount(labels),
        _accuracy(labels),
        _empty(labels),
        _classes(labels),
        _mix(labels),
        _rejected(run),
        _teacher(run),
    ]
    outcomes = {reason.outcome for reason in reasons}
    if "bad" in outcomes:
        return Verdict("bad", "No-go: look at the points below first.", reasons=tuple(reasons))
    return Verdict("good", "Go: nothing speaks against training on them.", reasons=tuple(reasons))


def _amount(labels: LabelFacts) -> Reason:
    per_image = labels.num_boxes / labels.num_images if labels.num_images else 0.0
    text = f"{labels.num_boxes:,} labels on {labels.num_images:,} images, {per_image:.1f} each."
    return Reason("good" if labels.num_boxes else "bad", text)


def _accuracy(labels: LabelFacts) -> Reason:
    if labels.precision is None and labels.num_learned:
        return Reason(
            "unknown",
            f"Whether the labels are right is not measured: a teacher learned from the "
            f"{labels.num_learned:,} images that people labelled too.",
        )
    if labels.precision is None:
        return Reason("unknown", "Nobody labelled these images, so right and wrong is not known.")
    precision, recall = labels.precision, labels.recall or 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    text = (
        f"{precision:.0%} of the labels are right and {recall:.0%} of people's boxes have one, "
        f"on {labels.num_truth_images:,} images that people labelled too (IoU 0.5): "
        f"F1 {f1:.2f} (at least {LOW_F1} wanted)."
    )
    return Reason("good" if f1 >= LOW_F1 else "bad", text)


def _empty(labels: LabelFacts) -> Reason:
    share = labels.num_empty / labels.num_images if labels.num_images else 1.0
    text = f"{share:.0%} of the images have no label (at most {HIGH_EMPTY_SHARE:.0%} wanted)."
    return Reason("good" if share <= HIGH_EMPTY_SHARE else "bad", text)


def _classes(labels: LabelFacts) -> Reason:
    without = [name for name, count in labels.class_counts.items() if not count]
    if not without:
        return Reason("good", f"All {len(labels.class_counts)} classes have labels.")
    expected = [name for name in without if labels.truth_class_counts.get(name)]
    named = ", ".join(without[:5]) + (" ..." if len(without) > 5 else "")
    text = f"{len(without)} of {len(labels.class_counts)} classes have no label: {named}."
    return Reason("bad" if expected or not labels.num_truth_images else "unknown", text)


def _mix(labels: LabelFacts) -> Reason:
    ours, truth = sum(labels.class_counts.values()), sum(labels.truth_class_counts.values())
    if not ours or not truth:
        return Reason("unknown", "The class mix has nothing to be compared with.")
    distance = 0.5 * sum(
        abs(count / ours - labels.truth_class_counts.get(name, 0) / truth)
        for name, count in labels.class_counts.items()
    )
    text = (
        f"The class mix differs from people's by {distance:.0%} of the boxes "
        f"(total variation; at most {HIGH_MIX_DISTANCE:.0%} wanted)."
    )
    return Reason("good" if distance <= HIGH_MIX_DISTANCE else "bad", text)


def _rejected(run: RunData) -> Reason:
    stage = run.stage("pseudo")
    if stage is None or not stage.seen:
        return Reason("unknown", "The manifest does not say how many images were rejected.")
    share = sum(stage.skipped.values()) / stage.seen
    text = f"{share:.1%} of the images were rejected (at most {HIGH_BAD_SHARE:.0%} wanted)."
    return Reason("good" if share <= HIGH_BAD_SHARE else "bad", text)


def _teacher(run: RunData) -> Reason:
    ap50 = run.models.get("teacher", {}).get("AP50")
    if ap50 is None:
        return Reason("unknown", "The teacher was not evaluated on held-out images.")
    text = (
        f"The teacher's AP50 on held-out images is {ap50:.3f} (at least {LOW_TEACHER_AP50} wanted)."
    )
    return Reason("good" if ap50 >= LOW_TEACHER_AP50 else "bad", text)


def _ap(run: RunData, name: str | None) -> float | None:
    return run.models.get(name, {}).get("AP") if name else None


def _interval(run: RunData, student: str) -> list[float] | None:
    """Of student - baseline; None where it was not computed."""
    for one in (run.comparison or {}).get("differences", ()):
        interval = one["AP"]["interval"]
        if interval and (one["a"], one["b"]) == (student, "baseline"):
            return interval
        if interval and (one["a"], one["b"]) == ("baseline", student):
            return [-interval[1], -interval[0]]
    return None
