"""Chooses images worth looking at and makes them small enough to travel in the page."""

import base64
import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.data.shards import RecordSet
from kd_tf.errors import RejectedError
from kd_tf.evaluation.agreement import disagreement
from kd_tf.evaluation.collected import Collected
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.evaluation.matching import match
from kd_tf.evaluation.report.data import Box, Example, Gallery, Panel
from kd_tf.evaluation.report.people import People, records_at, working
from kd_tf.evaluation.tide import KINDS, classify
from kd_tf.geometry.detections import Detections

# 480 px at quality 80 is 20 to 40 KB a photo: five galleries of 12 take about 2 MB.
_LONGEST_SIDE_PX = 480
_JPEG_QUALITY = 80
_FAINT_BOXES = 10
_KIND_TEXTS = {
    "Cls": "wrong class",
    "Loc": "badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "found twice",
    "Bkg": "nothing there",
}


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The evaluation images and what was found in them.

    Attributes:
        source: Where the pixels are.
        truth: What people marked.
        models: Name -> all its detections.
        thresholds: Name -> [C] working thresholds.
    """

    source: Source
    truth: GroundTruth
    models: Mapping[str, Collected]
    thresholds: Mapping[str, np.ndarray]

    def kept(self, name: str) -> Collected:
        """A model's detections at its working thresholds."""
        found = self.models[name]
        return found.take(found.scores >= self.thresholds[name][found.classes])


def side_by_side(evaluated: Evaluated, *, names: Sequence[str], size: int) -> Gallery:
    """Images spread evenly over the data set, with every model's boxes beside people's."""
    rows = np.unique(np.linspace(0, evaluated.truth.num_images - 1, size).round().astype(int))
    return Gallery(
        "side_by_side",
        "Side by side",
        "Evaluation images at equal distances in the listing, not picked by result. "
        "Boxes at each model's working threshold.",
        _examples(evaluated, [(int(row), "") for row in rows], names=names),
    )


def largest_disagreement(evaluated: Evaluated, *, names: Sequence[str], size: int) -> Gallery:
    """Images in which the first and the last of `names` differ in most boxes."""
    a, b = (evaluated.kept(name) for name in (names[0], names[-1]))
    differing = [
        disagreement(_detections(a, a.rows(row)), _detections(b, b.rows(row)))
        for row in range(evaluated.truth.num_images)
    ]
    order = np.argsort(-np.array(differing), kind="stable")[:size]
    chosen = [
        (int(row), f"{differing[row]} boxes that only one of the two has")
        for row in order
        if differing[row]
    ]
    return Gallery(
        "disagreement",
        "Largest disagreement",
        f"Images in which {names[0]} and {names[-1]} differ in most boxes.",
        _examples(evaluated, chosen, names=names),
        absent="" if chosen else "The two agree on every image.",
    )


def confident_mistakes(evaluated: Evaluated, *, name: str, size: int) -> Gallery:
    """The wrong detections with the highest scores, at most one an image."""
    truth, found = evaluated.truth, evaluated.models[name]
    errors = classify(truth, found, match(truth, found, iou_thresholds=np.array([0.5])))
    wrong = np.flatnonzero((errors.kinds >= 0) & ~errors.ignored)
    wrong = wrong[np.argsort(-found.scores[wrong], kind="stable")]
    _, first = np.unique(found.image_index[wrong], return_index=True)
    chosen = wrong[np.sort(first)][:size]
    examples = []
    for row in chosen.tolist():
        image, text = int(found.image_index[row]), _KIND_TEXTS[KINDS[errors.kinds[row]]]
        note = f"{truth.class_names[found.classes[row]]} at {found.scores[row]:.2f}: {text}"
        box = _box(found.boxes[row], int(found.classes[row]), note, wrong=True)
        panels = (_truth_panel(truth, image), Panel(name, (box,)))
        examples += _example(evaluated, image, panels=panels, note=note)
    return Gallery(
        "mistakes",
        "Most confident mistakes",
        f"Wrong detections of {name} with the highest scores, one an image. Some are "
        "mistakes of the people who labelled.",
        tuple(examples),
        absent="" if examples else f"{name} makes no mistake.",
    )


def without_labels(pseudo: RecordSet, *, size: int) -> Gallery:
    """Pseudo-labelled images with no working label; what was found below it is drawn faintly."""
    class_names, examples = pseudo.class_names, []
    for number in range(len(pseudo)):
        record = records_at(pseudo, number, class_names)
        if record.objects.working.any():
            continue
        best = np.argsort(-record.objects.scores, kind="stable")[:_FAINT_BOXES]
        boxes = tuple(
            _box(
                record.objects.boxes[row],
                int(record.objects.classes[row]),
                f"{class_names[record.objects.classes[row]]} {record.objects.scores[row]:.2f}",
                faint=True,
            )
            for row in best
        )
        examples += _from_bytes(
            record.encoded, name=record.source_id, panels=(Panel("below threshold", boxes),)
        )
        if len(examples) == size:
            break
    return Gallery(
        "without_labels",
        "Images without any label",
        "The student sees these as background only. What the teachers were unsure about is faint.",
        tuple(examples),
        absent="" if examples else "Every image has at least one label.",
    )


def labelled(pseudo: RecordSet, people: People, *, size: int) -> Gallery:
    """Pseudo-labelled images at equal distances, beside people's labels where there are any."""
    numbers = np.unique(np.linspace(0, len(pseudo) - 1, size).round().astype(int))
    examples = []
    for number in numbers.tolist() if len(pseudo) else ():
        record = records_at(pseudo, number, pseudo.class_names)
        found = _boxes(working(record), pseudo.class_names, scores=True)
        panels = [Panel("pseudo labels", found)]
        marked = people(record.source_id)
        if marked is not None:
            panels.insert(0, Panel("ground truth", _boxes(marked, pseudo.class_names)))
        examples += _from_bytes(record.encoded, name=record.source_id, panels=tuple(panels))
    return Gallery(
        "labelled",
        "Pseudo labels",
        "Training images at equal distances in the listing, not picked by result.",
        tuple(examples),
        absent="" if examples else "There are no pseudo-labelled images.",
    )


def _boxes(
    found: Detections, class_names: Sequence[str], *, scores: bool = False
) -> tuple[Box, ...]:
    texts = [class_names[index] for index in found.classes]
    if scores:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, found.scores, strict=True)]
    rows = zip(found.boxes, found.classes, texts, strict=True)
    return tuple(_box(box, int(index), text) for box, index, text in rows)


def _examples(
    evaluated: Evaluated, chosen: Iterable[tuple[int, str]], *, names: Sequence[str]
) -> tuple[Example, ...]:
    kept = {name: evaluated.kept(name) for name in names}
    examples = []
    for row, note in chosen:
        panels = [_truth_panel(evaluated.truth, row)]
        panels += [_model_panel(evaluated.truth, kept[name], row, name=name) for name in names]
        examples += _example(evaluated, row, panels=tuple(panels), note=note)
    return tuple(examples)


def _example(
    evaluated: Evaluated, row: int, *, panels: tuple[Panel, ...], note: str
) -> list[Example]:
    """One example, or none where the image cannot be read any more."""
    image_id = int(evaluated.truth.image_ids[row])
    item = next(item for item in evaluated.source.items if item.image_id == image_id)
    return _from_bytes(
        lambda: evaluated.source.read_bytes(item), name=item.original_id, panels=panels, note=note
    )


def _from_bytes(
    encoded: bytes | Callable[[], bytes], *, name: str, panels: tuple[Panel, ...], note: str = ""
) -> list[Example]:
    try:
        image = check_image(encoded() if callable(encoded) else encoded)
    except RejectedError:
        return []
    uri = to_data_uri(image.pixels)
    return [Example(name, image.width, image.height, uri, panels, note)]


def to_data_uri(pixels: np.ndarray) -> str:
    """An image [H, W, 3] uint8 as a JPEG data URI, at most 480 pixels long."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _truth_panel(truth: GroundTruth, image: int) -> Panel:
    rows = truth.rows(image)
    return Panel(
        "ground truth",
        tuple(
            _box(
                truth.boxes[row],
                int(truth.classes[row]),
                truth.class_names[truth.classes[row]] + (" (crowd)" * bool(truth.is_crowd[row])),
                faint=bool(truth.is_crowd[row]),
            )
            for row in range(rows.start, rows.stop)
        ),
    )


def _model_panel(truth: GroundTruth, kept: Collected, image: int, *, name: str) -> Panel:
    rows = kept.rows(image)
    return Panel(
        name,
        tuple(
            _box(
                kept.boxes[row],
                int(kept.classes[row]),
                f"{truth.class_names[kept.classes[row]]} {kept.scores[row]:.2f}",
            )
            for row in range(rows.start, rows.stop)
        ),
    )


def _box(
    xyxy: np.ndarray, class_index: int, text: str, *, faint: bool = False, wrong: bool = False
) -> Box:
    corners = tuple(round(float(value), 1) for value in xyxy)
    return Box(corners, class_index, text, faint=faint, wrong=wrong)


def _detections(found: Collected, rows: slice) -> Detections:
    return Detections(found.boxes[rows], found.scores[rows], found.classes[rows])
