"""Teachers for tests, which know the scenes: they are right but where they are told otherwise."""

import hashlib
import time

import numpy as np

from kd_tf.data.scenes import CLASS_NAMES, render_scene
from kd_tf.geometry.detections import Detections, Needs, no_detections

NUM, SIZE = 24, 64


class Oracle:
    """Finds every object of its classes with one score; false ones of half that score beside."""

    def __init__(self, *, classes: str = "", score: str = "0.9", wrong: str = "0"):
        names = classes.split("+") if classes else list(CLASS_NAMES)
        self._names = tuple(names)
        self._score, self._wrong = float(score), int(wrong)
        self._known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        for split in ("train", "unlabeled"):
            for index in range(NUM):
                image, labels = render_scene(seed=0, index=index, size=SIZE, split=split)
                self._known[_digest(image)] = labels.boxes, labels.classes

    def needs(self) -> Needs:
        """Scenes of 64 px as they are."""
        return Needs(self._names, SIZE, SIZE)

    def detect(self, images: np.ndarray) -> list[Detections]:
        """The objects of the scenes it knows; of other images nothing."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        if _digest(image) not in self._known:
            return no_detections()
        boxes, classes = self._known[_digest(image)]
        own = {CLASS_NAMES.index(name): number for number, name in enumerate(self._names)}
        rows = [row for row, index in enumerate(classes) if index in own]
        false = np.tile(np.array([[1, 1, 9, 9]], np.float32), (self._wrong, 1))
        return Detections(
            np.concatenate([boxes[rows], false]).astype(np.float32),
            np.array([self._score] * len(rows) + [self._score / 2] * self._wrong, np.float32),
            np.array([own[classes[row]] for row in rows] + [0] * self._wrong, np.int32),
        )


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def build(**options: str) -> Oracle:
    """The factory a spec names: `python:tests.stages.oracle:build?classes=disc+ring`."""
    return Oracle(**options)


class _Broken(Oracle):
    def detect(self, images: np.ndarray) -> list[Detections]:
        raise RuntimeError("broken")


def build_broken(**options: str) -> Oracle:
    """A teacher that fails on its first images."""
    return _Broken(**options)


class _Slow(Oracle):
    def detect(self, images: np.ndarray) -> list[Detections]:
        time.sleep(0.2)
        return super().detect(images)


def build_slow(**options: str) -> Oracle:
    """A teacher that leaves time for what is done beside it."""
    return _Slow(**options)
