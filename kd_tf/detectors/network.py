"""A detector as the rest of the project sees it: a Keras model, its loss and its decoding."""

import dataclasses
from typing import Protocol

import keras
import tensorflow as tf

from kd_tf.geometry import nms

IOU_THRESHOLD = 0.65


class Head(Protocol):
    """What a family's raw outputs mean."""

    def boxes_and_logits(self, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, A, 4] float32 xyxy pixels and class logits [B, A, C] float32."""
        ...

    def loss(
        self, outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Unnormalised sums of the loss terms, and "normalizer"."""
        ...


@dataclasses.dataclass(frozen=True)
class Network:
    """A detector that can be trained, run, saved and exported.

    Attributes:
        name: As in `kd_tf.names.NAMES`.
        class_names: In the order of the class indices.
        image_size: (height, width) of the input in pixels.
        precision: Keras' name of the policy the layers compute in.
        model: From images [B, H, W, 3] float32 RGB 0..255 to a dict of float32 outputs.
        head: Knows what those outputs mean.
        meta: What is to be remembered with the weights (thresholds, AP, commit); JSON.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    precision: str
    model: keras.Model
    head: Head
    meta: dict = dataclasses.field(default_factory=dict)

    def loss(
        self, outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Sums of the loss terms over a batch, gains included, NOT normalised.

        The caller divides the sum of the terms by max(normaliser of the global
        batch, 1). Static shapes, compiles with XLA.

        Args:
            outputs: What `model` gave.
            labels: "boxes" [B, M, 4] float32 xyxy pixels of the input, "classes" [B, M]
                int32 with -1 for padding, "weights" [B, M] float32, "ignore" [B, M] bool,
                "judged" [B, C] bool. M is at least 1.

        Returns:
            Float32 scalars: the family's terms ("class", "box", ...) and "normalizer".
        """
        return self.head.loss(outputs, labels)

    def decode(
        self,
        outputs: dict[str, tf.Tensor],
        *,
        score_floor: float = 0.01,
        iou_threshold: float = IOU_THRESHOLD,
        max_detections: int = 100,
    ) -> dict[str, tf.Tensor]:
        """Detections of a batch, after suppression within each class.

        Returns:
            "boxes" [B, K, 4] float32 xyxy pixels of the input, clipped to it; "scores"
            [B, K] descending; "classes" [B, K] int32; "num_detections" [B] int32.
            Rows past that count are 0, 0 and -1.
        """
        boxes, logits = self.head.boxes_and_logits(outputs)
        height, width = self.image_size
        limit = tf.constant([width, height, width, height], tf.float32)
        return nms.detections(
            tf.clip_by_value(boxes, 0.0, limit),
            tf.sigmoid(logits),
            score_floor=score_floor,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            num_candidates=max(nms.NUM_CANDIDATES, 4 * max_detections),
        )


def count_parameters(network: Network) -> int:
    """Numbers in the network's weights, moving statistics included."""
    return sum(weight.shape.num_elements() for weight in network.model.weights)
