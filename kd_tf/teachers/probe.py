"""A look at a teacher before it labels anything: classes, input, speed, what it sees."""

import dataclasses
import time
from collections.abc import Iterator

import numpy as np

from kd_tf import files
from kd_tf.data.contact_sheet import NUM_PICTURES, Picture, draw_sheet
from kd_tf.data.images import check_image, encode_png
from kd_tf.data.items import Labels, Source
from kd_tf.data.predict import Predicted, Recaller, predict
from kd_tf.geometry.detections import Detections, Detector

# What a picture shows; below it pictures of an unsure teacher are all boxes.
SHOWN_SCORE = 0.3


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a teacher is and does.

    Attributes:
        name: The teacher's name.
        class_names: Its own classes.
        input_text: Size and form of its input, for a person.
        num_images: Images it was shown.
        num_rejects: How many of them could not be used.
        images_per_s: Reading, decoding and detecting together, the first batch (which
            compiles) left out; None where all fitted into that batch.
        boxes_per_image: Mean number of detections from `SHOWN_SCORE` on.
        class_counts: How many of those per class, the most frequent first.
        predicted: What it said, in the order of the rows, as (image_id, detections).
    """

    name: str
    class_names: tuple[str, ...]
    input_text: str
    num_images: int
    num_rejects: int
    images_per_s: float | None
    boxes_per_image: float
    class_counts: dict[str, int]
    predicted: list[tuple[int, Detections]]

    def to_text(self) -> str:
        """A few lines for a terminal."""
        speed = f"{self.images_per_s:.1f} images/s" if self.images_per_s else "too few images"
        names = ", ".join(f"{name} {count}" for name, count in list(self.class_counts.items())[:12])
        return (
            f"teacher {self.name}\n"
            f"  classes  {len(self.class_names)}: {', '.join(self.class_names)}\n"
            f"  input    {self.input_text}\n"
            f"  speed    {speed}, decoding included\n"
            f"  sees     {self.boxes_per_image:.2f} boxes an image from score {SHOWN_SCORE} on, in "
            f"{self.num_images} images ({self.num_rejects} unusable): {names or 'nothing'}"
        )

    def to_json(self) -> dict:
        """The same as plain values, without the detections."""
        values = dataclasses.asdict(dataclasses.replace(self, predicted=[]))
        del values["predicted"]
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def probe(
    teacher: Detector | Recaller,
    source: Source,
    *,
    name: str,
    picture_path: str,
    batch_size: int,
    max_images: int = 64,
) -> Probe:
    """Shows a teacher some images, spread evenly over a source, and draws nine of them.

    Args:
        teacher: What looks.
        source: The images.
        name: The teacher's name.
        picture_path: The PNG to write: up to nine images with what it sees.
        batch_size: Images it sees at once.
        max_images: Most images it is shown.

    Raises:
        UserError: As `predict`.
    """
    needs = teacher.needs()
    rows = np.unique(np.linspace(0, len(source.items) - 1, max_images).round().astype(int))
    rows = rows[rows >= 0].tolist()
    times, found, num_rejects = [], [], 0
    sheet = _Sheet(source, needs.class_names)
    for image in predict(teacher, source, batch_size=batch_size, rows=rows, name=name):
        times.append(time.perf_counter())
        num_rejects += image.reject is not None
        if image.reject is None:
            found.append((image.item.image_id, image.detections))
            sheet.add(image)
    files.write_bytes(picture_path, encode_png(sheet.drawn()))
    shown = [one.classes[one.scores >= SHOWN_SCORE] for _, one in found]
    counts = np.bincount(np.concatenate([*shown, []]).astype(int), minlength=len(needs.class_names))
    order = np.argsort(-counts, kind="stable")
    return Probe(
        name=name,
        class_names=needs.class_names,
        input_text=_input_text(teacher),
        num_images=len(rows),
        num_rejects=num_rejects,
        images_per_s=_speed(times, batch_size),
        boxes_per_image=float(counts.sum() / max(len(found), 1)),
        class_counts={needs.class_names[i]: int(counts[i]) for i in order if counts[i]},
        predicted=found,
    )


class _Sheet:
    """Keeps the first nine pictures, reduced."""

    def __init__(self, source: Source, class_names: tuple[str, ...]):
        self._source = source
        self._class_names = class_names
        self._pictures: list[Picture] = []

    def add(self, image: Predicted) -> None:
        if len(self._pictures) >= NUM_PICTURES:
            return
        kept = image.detections[image.detections.scores >= SHOWN_SCORE]
        num = len(kept)
        labels = Labels(kept.boxes, kept.classes, np.zeros(num, bool), np.zeros(num, np.float32))
        picture = Picture.reduced(
            self._source.key(image.item),
            check_image(self._source.read_bytes(image.item)).pixels,
            labels=labels,
            class_names=self._class_names,
        )
        texts = [f"{t} {s:.2f}" for t, s in zip(picture.texts, kept.scores, strict=True)]
        self._pictures.append(dataclasses.replace(picture, texts=texts))

    def drawn(self) -> np.ndarray:
        return draw_sheet(self._pictures) if self._pictures else np.zeros((1, 1, 3), np.uint8)


def _speed(times: list[float], batch_size: int) -> float | None:
    """Images per second after the first two batches, one of which is decoded while one runs."""
    rest = times[2 * batch_size :]
    seconds = times[-1] - times[2 * batch_size - 1] if rest else 0.0
    return len(rest) / seconds if seconds > 0 else None


def _input_text(teacher: Detector | Recaller) -> str:
    if hasattr(teacher, "recall"):
        return "none: its results are in a file"
    needs = teacher.needs()
    if needs.height is None:
        return f"images as they are, {needs.channels}"
    return f"{needs.height}x{needs.width} (height x width), {needs.resize}, {needs.channels}"


def side_by_side(probes: list[Probe]) -> Iterator[str]:
    """One line per teacher, for a table of several."""
    wide = max(len(one.name) for one in probes)
    for one in probes:
        speed = f"{one.images_per_s:8.1f}" if one.images_per_s else "       -"
        yield (
            f"{one.name:<{wide}}  {len(one.class_names):4d} classes  {speed} images/s  "
            f"{one.boxes_per_image:6.2f} boxes/image  {one.input_text}"
        )
