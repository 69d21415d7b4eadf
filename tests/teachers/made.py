"""A tiny source of real image files, and teachers that look at them."""

import io
import os

import numpy as np
from PIL import Image

from kd_tf.data.items import Item, Source
from kd_tf.errors import RejectedError
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import Labeller, LabelSettings, LabelWriter
from kd_tf.teachers.predict_job import label_predictions

CLASS_NAMES = ("bright", "dark")
SETTINGS = LabelSettings(CLASS_NAMES, FusionSettings(), np.array([0.5, 0.5]))


def png(pixels: np.ndarray) -> bytes:
    """PNG bytes of uint8 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def made_image(number: int) -> bytes:
    """A grey image of its own size with one rectangle, brighter or darker by turns."""
    rng = np.random.default_rng(number)
    height, width = 24 + number % 5, 32 + number % 7
    pixels = np.full((height, width, 3), 128, np.uint8)
    x, y = rng.integers(0, 12, 2)
    pixels[y : y + 10, x : x + 12] = 250 if number % 2 else 5
    pixels[0, 0] = 100 + number % 50  # So that no two images have the same bytes.
    pixels[0, 1] = 100 + number // 50 % 50
    pixels[0, 2] = 100 + number // 2500
    return png(pixels)


def made_source(num: int, *, bad: dict[int, bytes] | None = None, name: str = "made") -> Source:
    """`num` images made on the fly; `bad` replaces the bytes of some."""
    bad = bad or {}

    def read(item: Item) -> bytes:
        number = int(item.location)
        if bad.get(number) == b"missing":
            raise RejectedError("missing file", item.original_id)
        return bad.get(number, made_image(number))

    items = [Item(i + 1, f"{i:05d}.png", str(i)) for i in range(num)]
    return Source(name, (), items, read, None, (), "0" * 64)


class RectangleTeacher:
    """Finds the rectangle of `made_image` by its grey level, in a 32x32 letterboxed input.

    Args:
        class_names: What it calls bright and dark rectangles; one name: bright only.
        score: Of what it finds; a second, weaker detection of score / 4 lies beside it.
    """

    def __init__(self, class_names=CLASS_NAMES, *, score: float = 0.8):
        self.class_names = tuple(class_names)
        self.score = score
        self.num_images = 0

    def needs(self) -> Needs:
        return Needs(self.class_names, 32, 32, pad_value=128)

    def detect(self, images: np.ndarray) -> list[Detections]:
        self.num_images += len(images)
        return [self._detect(image[..., 0].astype(int)) for image in images]

    def _detect(self, grey: np.ndarray) -> Detections:
        boxes, classes = [], []
        for index, mask in enumerate((grey > 200, grey < 60)):
            rows, columns = np.nonzero(mask)
            if len(rows) > 20 and index < len(self.class_names):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                classes.append(index)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        boxes = np.concatenate([boxes, boxes + 3])
        scores = np.repeat([self.score, self.score / 4], len(classes)).astype(np.float32)
        return Detections(boxes, scores, np.array(classes * 2, np.int32))


def labeller(folder, *, name="one", class_map=(0, 1), weights=(1.0, 1.0)):
    """A teacher's part in the fusion."""
    return Labeller(name, str(folder), np.array(class_map), np.array(weights))


def contents(folder) -> dict[str, bytes]:
    """The finished files of a folder."""
    return {
        name: (folder / name).read_bytes()
        for name in sorted(os.listdir(folder))
        if ".part-" not in name
    }


def label(source, folder, *, work, teacher=None):
    """Both halves of the job for one teacher."""
    teacher = teacher or RectangleTeacher()
    predictions = folder / "predictions" / "one"
    label_predictions(teacher, source, name="one", folder=str(predictions), work=work)
    return LabelWriter(
        source, [labeller(predictions)], folder=str(folder / "pseudo"), work=work,
        settings=SETTINGS,
    ).finish()  # fmt: skip
