"""Runs a network like any other detector: uint8 images in, detections out."""

import numpy as np
import tensorflow as tf

from kd_tf.detectors import replicas
from kd_tf.detectors.network import IOU_THRESHOLD, Network
from kd_tf.geometry.detections import Detections, Needs


class NetworkDetector:
    """A network as `geometry.detections.Detector`, traced once.

    It sees one image alone or a whole batch, so that a device that compiles for each shape
    does so twice at most; under a strategy of several replicas always a whole batch, cut
    evenly over them. Weights are those of the network at the time of each call.
    """

    def __init__(
        self,
        network: Network,
        *,
        batch_size: int,
        score_floor: float = 0.01,
        iou_threshold: float = IOU_THRESHOLD,
        max_detections: int = 100,
        needs: Needs | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Traces at the first call.

        Args:
            network: Under a strategy built or loaded in `replicas.scope`.
            batch_size: Images at a time, over all replicas; rounded up to a multiple of them.
            score_floor: Lowest score reported.
            iou_threshold: Overlap above which the worse box of a class falls.
            max_detections: Most detections of an image.
            needs: How images are laid out, where not as in training.
            strategy: Whose replicas share the images; None is one device.
        """
        self._needs = needs or Needs(network.class_names, *network.image_size)
        self._batch_size = replicas.round_up(batch_size, strategy=strategy)
        self._shape = (*network.image_size, 3)
        self._spread = replicas.spreading(strategy)

        def infer(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return network.decode(
                network.model(tf.cast(images, tf.float32), training=False),
                score_floor=score_floor,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
            )

        if self._spread:
            self._run = replicas.on_replicas(infer, strategy=self._spread)
        else:
            spec = tf.TensorSpec((None, *self._shape), tf.uint8)
            one = tf.function(infer, input_signature=[spec], autograph=False)
            self._run = lambda images: {n: v.numpy() for n, v in one(images).items()}

    def needs(self) -> Needs:
        """The network's classes and size; letterboxed as in training, unless told otherwise."""
        return self._needs

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in images [B, H, W, 3] uint8; any B, also 0.

        Returns:
            One `Detections` per image, scores descending, boxes in pixels of the input.

        Raises:
            ValueError: Another size or type than `needs` asks for.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(
                f"images must be uint8 [B, {self._shape[0]}, {self._shape[1]}, 3], "
                f"got {images.dtype} {list(images.shape)}."
            )
        found = []
        for start in range(0, len(images), self._batch_size):
            found += self._detect_batch(images[start : start + self._batch_size])
        return found

    def _detect_batch(self, images: np.ndarray) -> list[Detections]:
        num = 1 if len(images) == 1 and not self._spread else self._batch_size
        padded = np.zeros((num, *self._shape), np.uint8)
        padded[: len(images)] = images
        found = self._run(padded)
        counts = found["num_detections"]
        return [
            Detections(*(found[name][i, : counts[i]] for name in ("boxes", "scores", "classes")))
            for i in range(len(images))
        ]
