"""What one teacher said about one image, as it is kept: no pixels, nothing left out.

Fusion, thresholds and calibration start from these files, so changing them, or
adding a teacher, never asks a teacher again.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from kd_tf.data.predict import Predicted
from kd_tf.data.shards import read_shard
from kd_tf.geometry.detections import Detections

PREFIX = "predictions"


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One stored prediction.

    Attributes:
        row: Index of the image in the listing.
        key: The image's identity, "<source>/<original id>".
        image_id: The source's integer id.
        height, width: Pixels of the upright image; 0 for a reject.
        sha256: Hex digest of the original file; empty for a reject.
        format: Format of the bytes that records keep.
        reencoded: Whether those bytes differ from the original file.
        detections: In the teacher's own classes, boxes in pixels of the original.
        num_outside: Boxes left out because nothing of them lay in the image.
        reason, detail: Why there are no detections; empty for a good image.
    """

    row: int
    key: str
    image_id: int
    height: int
    width: int
    sha256: str
    format: str
    reencoded: bool
    detections: Detections
    num_outside: int = 0
    reason: str = ""
    detail: str = ""


def to_prediction(
    predicted: Predicted, *, key: str, score_floor: float, max_detections: int
) -> Prediction:
    """What is kept of a detector's answer: the best `max_detections` from `score_floor` on."""
    found = predicted.detections
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= score_floor][:max_detections]
    return Prediction(
        row=predicted.row,
        key=key,
        image_id=predicted.item.image_id,
        height=predicted.height,
        width=predicted.width,
        sha256=predicted.sha256,
        format=predicted.format,
        reencoded=predicted.reencoded,
        detections=found[order],
        num_outside=predicted.num_outside,
        reason=predicted.reject.reason if predicted.reject else "",
        detail=predicted.reject.detail if predicted.reject else "",
    )


def to_bytes(prediction: Prediction) -> bytes:
    """A serialized tf.train.Example; equal predictions give equal bytes.

    Keys: image/source_id, image/height, image/width, image/format, image/key/sha256 as in
    records; kd/row, kd/image_id, kd/reencoded, kd/num_outside, kd/reject (reason, detail),
    kd/boxes (float32 xyxy pixels, little endian), kd/scores (float32), kd/classes (int32).
    """
    found = prediction.detections
    texts = {
        "image/source_id": [prediction.key],
        "image/format": [prediction.format],
        "image/key/sha256": [prediction.sha256],
        "kd/reject": [prediction.reason, prediction.detail],
    }
    arrays = {
        "kd/boxes": found.boxes.astype("<f4"),
        "kd/scores": found.scores.astype("<f4"),
        "kd/classes": found.classes.astype("<i4"),
    }
    numbers = {
        "image/height": prediction.height,
        "image/width": prediction.width,
        "kd/row": prediction.row,
        "kd/image_id": prediction.image_id,
        "kd/reencoded": int(prediction.reencoded),
        "kd/num_outside": prediction.num_outside,
    }
    feature = {
        **{key: _bytes([text.encode() for text in value]) for key, value in texts.items()},
        **{key: _bytes([value.tobytes()]) for key, value in arrays.items()},
        **{
            key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
            for key, value in numbers.items()
        },
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def from_bytes(serialized: bytes) -> Prediction:
    """The prediction that `to_bytes` wrote."""
    feature = tf.train.Example.FromString(serialized).features.feature

    def text(key: str, position: int = 0) -> str:
        return feature[key].bytes_list.value[position].decode()

    def number(key: str) -> int:
        return feature[key].int64_list.value[0]

    def array(key: str, dtype: str) -> np.ndarray:
        return np.frombuffer(feature[key].bytes_list.value[0], dtype)

    return Prediction(
        row=number("kd/row"),
        key=text("image/source_id"),
        image_id=number("kd/image_id"),
        height=number("image/height"),
        width=number("image/width"),
        sha256=text("image/key/sha256"),
        format=text("image/format"),
        reencoded=bool(number("kd/reencoded")),
        detections=Detections(
            array("kd/boxes", "<f4").reshape(-1, 4),
            array("kd/scores", "<f4"),
            array("kd/classes", "<i4"),
        ),
        num_outside=number("kd/num_outside"),
        reason=text("kd/reject", 0),
        detail=text("kd/reject", 1),
    )


def read_predictions(path: str) -> Iterator[Prediction]:
    """The predictions of one shard file, in order, one at a time in memory."""
    return map(from_bytes, read_shard(path))


def _bytes(values: list[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
