"""Everything that is said about one model on one data set, and where it is kept."""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Sequence

import numpy as np

from kd_tf import files
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.collected import Collected, collect, write_results
from kd_tf.evaluation.ground_truth import GroundTruth
from kd_tf.evaluation.operating_point import curves, operating_point
from kd_tf.evaluation.tide import tide
from kd_tf.geometry.detections import Detections, Detector, Needs

DETECTIONS = "detections.json"
CURVES = "curves.json"
METRICS = "metrics.json"
# Single calls that latency is taken from: enough for a 95th percentile, a few seconds at most.
_MIN_SINGLES, _MAX_SINGLES, _SINGLES_S = 5, 40, 1.5


@dataclasses.dataclass(frozen=True)
class Measured:
    """One model's numbers.

    Attributes:
        metrics: For `metrics.json`: what `coco.evaluate` gives, with "operating_point",
            "tide" and, where the caller timed the detector, "speed".
        curves: For `curves.json`: precision against recall, score histograms.
        found: The detections the numbers come from.
    """

    metrics: dict
    curves: dict
    found: Collected


def measure(
    truth: GroundTruth,
    predictions: Iterable[tuple[int, Detections]],
    *,
    score_thresholds: Sequence[float],
    speed: dict | None = None,
) -> Measured:
    """Scores a model in every way the report shows.

    Args:
        truth: What people marked.
        predictions: As for `collected.collect`; read once.
        score_thresholds: The model's working threshold of each class.
        speed: What `Timed.speed` gives.
    """
    found = collect(truth, predictions)
    metrics = {
        **evaluate(truth, found),
        "operating_point": operating_point(truth, found, score_thresholds=score_thresholds),
        "tide": tide(truth, found),
    }
    if speed is not None:
        metrics["speed"] = speed
    return Measured(metrics, curves(truth, found), found)


def write_measured(truth: GroundTruth, measured: Measured, *, folder: str) -> None:
    """Writes `detections.json` (COCO results) and `curves.json` into a model's own folder."""
    write_results(truth, measured.found, path=files.join(folder, DETECTIONS))
    files.write_json(files.join(folder, CURVES), measured.curves)


def write_metrics(models: dict[str, dict], *, folder: str, labels: dict | None = None) -> None:
    """Writes `metrics.json`: {"models": {name: metrics}}.

    Args:
        models: What was scored on the evaluation images.
        folder: Where to.
        labels: Numbers of the pseudo labels, on their own images: key "pseudo_labels".
    """
    content = {"models": models} | ({"pseudo_labels": labels} if labels else {})
    files.write_json(files.join(folder, METRICS), content)


class Timed:
    """A detector that measures how long `detect` takes."""

    def __init__(self, detector: Detector):
        self._detector = detector
        self._calls: list[tuple[int, float]] = []
        self._sample: np.ndarray | None = None

    def needs(self) -> Needs:
        """What the wrapped detector needs."""
        return self._detector.needs()

    def detect(self, images: np.ndarray) -> list[Detections]:
        """What the wrapped detector finds."""
        found, seconds = self._timed(images)
        self._calls.append((len(images), seconds))
        if self._sample is None:
            self._sample = images
        return found

    def speed(self) -> dict[str, float | int] | None:
        """Images per second and latency; None after fewer than two calls.

        The first call traces and compiles and is left out. Decoding and resizing are
        not part of it; moving boxes back to the original image is not either. Latency is
        that of one image alone: unless the calls had one image each, images of the first
        call are given again, one by one.

        Returns:
            "images_per_s" with "batch_size" images a call; "latency_p50_ms" and
            "latency_p95_ms" over "num_singles" calls with one image.
        """
        calls = self._calls[1:]
        if not calls:
            return None
        sizes, seconds = (np.array(column) for column in zip(*calls, strict=True))
        singles = seconds if sizes.max() == 1 else self._time_singles()
        median, slow = np.quantile(singles, [0.5, 0.95]) * 1000
        return {
            "images_per_s": float(sizes.sum() / seconds.sum()),
            "batch_size": int(sizes.max()),
            "latency_p50_ms": float(median),
            "latency_p95_ms": float(slow),
            "num_singles": len(singles),
        }

    def _timed(self, images: np.ndarray) -> tuple[list[Detections], float]:
        start = time.perf_counter()
        found = self._detector.detect(images)
        return found, time.perf_counter() - start

    def _time_singles(self) -> list[float]:
        """Seconds of calls with one image; the first, which may compile again, does not count."""
        images = itertools.cycle(range(len(self._sample)))
        self._timed(self._sample[:1])
        seconds = []
        while len(seconds) < _MAX_SINGLES and (
            sum(seconds) < _SINGLES_S or len(seconds) < _MIN_SINGLES
        ):
            row = next(images)
            seconds.append(self._timed(self._sample[row : row + 1])[1])
        return seconds
