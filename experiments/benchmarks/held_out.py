"""Images and labels of a data set in memory, and what any network's AP on them is.

Not a benchmark: what several of them share.
"""

import dataclasses

import numpy as np

from kd_tf.data.batches import load
from kd_tf.data.items import Source
from kd_tf.data.scenes import CLASS_NAMES
from kd_tf.data.sources import open_source
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.geometry.letterbox import boxes_to_original, resize_image
from kd_tf.specs import DATA_KINDS, parse

SHOWN = ("AP", "AP50", "APs")


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Images as a network sees them, and the truth in pixels of the originals.

    Attributes:
        images: [N, H, W, 3] uint8, letterboxed.
        sizes: (height, width) of each original image, pixels.
        truth: Image n has the n-th of its ids.
    """

    images: np.ndarray
    sizes: list[tuple[int, int]]
    truth: GroundTruth

    def score(self, detector: NetworkDetector) -> dict[str, float]:
        """The numbers called `SHOWN`, 0 where there is nothing to measure."""
        found = []
        for image_id, size, one in zip(
            self.truth.image_ids, self.sizes, detector.detect(self.images), strict=True
        ):
            boxes = boxes_to_original(one.boxes, size, self.images.shape[1:3], resize="letterbox")
            found.append((int(image_id), dataclasses.replace(one, boxes=boxes)))
        metrics = evaluate(self.truth, found)
        return {name: metrics[name] or 0.0 for name in SHOWN}


def load_held_out(source: Source, *, size: int) -> HeldOut:
    """All images of a source, letterboxed to `size` pixels square."""
    rows = np.argsort([item.image_id for item in source.items])
    originals = [load(source, int(row))[0] for row in rows]
    images = [resize_image(image, (size, size), resize="letterbox").numpy() for image in originals]
    truth = ground_truth(source, class_names=source.class_names)
    return HeldOut(np.stack(images), [image.shape[:2] for image in originals], truth)


def load_scenes(split: str, *, num: int, size: int) -> HeldOut:
    """The first scenes of a split."""
    source = open_source(parse(f"scenes:{split}?num={num}&size={size}", DATA_KINDS))
    assert source.class_names == CLASS_NAMES
    return load_held_out(source, size=size)
