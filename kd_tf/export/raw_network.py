"""The part of a network that small runtimes can hold: boxes and scores of every anchor."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

import keras
import tensorflow as tf
from absl import logging


class Head(Protocol):
    """What a network's raw outputs mean."""

    def boxes_and_logits(self, outputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, A, 4] float32 xyxy pixels of the input, logits [B, A, C] float32."""
        ...


class ExportableNetwork(Protocol):
    """What exporting needs of `kd_tf.detectors.network.Network`.

    Attributes:
        model: float32 images [B, height, width, 3] in 0..255, RGB, to a dict of float32 heads.
        head: What those mean.
        class_names: In the order of the class indices.
        image_size: (height, width) of the model's input in pixels.
    """

    model: keras.Model
    head: Head
    class_names: tuple[str, ...]
    image_size: tuple[int, int]

    def decode(
        self,
        outputs: Mapping[str, tf.Tensor],
        *,
        score_floor: float,
        iou_threshold: float,
        max_detections: int,
    ) -> dict[str, tf.Tensor]:
        """Boxes, scores, classes and num_detections of the model's outputs."""
        ...


class RawNetwork(tf.Module):
    """A network in two functions, without NMS: `network` to its heads, `decode` to boxes.

    Two, because whoever quantises must stop between them: a box in 8 bits would lie on a grid
    of image width / 256, which alone costs more AP than all of the layers.
    """

    def __init__(self, network: ExportableNetwork, *, batch_size: int | None):
        super().__init__()
        self.weights = [variable.value for variable in network.model.variables]
        self.network = tf.function(
            lambda images: network.model(images, training=False),
            input_signature=[
                tf.TensorSpec([batch_size, *network.image_size, 3], tf.float32, name="images")
            ],
        )
        heads = self.network.get_concrete_function().structured_outputs
        self._head_specs = {
            name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in heads.items()
        }
        self.decode = tf.function(lambda **outputs: _boxes_and_scores(network.head, outputs))

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """ "network": images float32 [B, H, W, 3] 0..255 RGB, letterboxed, to the heads;
        "decode": the heads to boxes_xyxy_px [B, A, 4] in pixels of the input, not clipped,
        and scores [B, A, C]."""
        return {
            "network": self.network.get_concrete_function(),
            "decode": self.decode.get_concrete_function(**self._head_specs),
        }


def _boxes_and_scores(head: Head, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    boxes, logits = head.boxes_and_logits(outputs)
    return {"boxes_xyxy_px": boxes, "scores": tf.sigmoid(logits)}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps TensorFlow's notes on saving out of the log: one of them lists every variable."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(level)
