"""Runs a network like any other detector: uint8 images in, detections out."""

import numpy as np
import tensorflow as tf

from kd_tf.detectors import replicas
from kd_tf.detectors.network import IOU_THRESHOLD, Network
from kd_tf.geometry.detections import Detections, Needs


class NetworkDetector:
    """A network as `geometry.detections.Detector`, traced once.

    Each replica sees one image alone or its part of a whole batch, so that a device that
    compiles for each shape does so twice at most. Weights are those of the network at the
    time of each call.
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
        self._sizes = [replicas.round_up(num, strategy=strategy) for num in (1, batch_size)]
        self._shape = (*network.image_size, 3)

        def infer(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return network.decode(
                network.model(tf.cast(images, tf.float32), training=False),
                score_floor=score_floor,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
            )

        if replicas.spreading(strategy):
            self._run = replicas.on_replicas(infer, strategy=strategy)
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
        step = self._sizes[-1]
        for start in range(0, len(images), step):
            found += self._detect_batch(images[start : start + step])
        return found

    def _detect_batch(self, images: np.ndarray) -> list[Detections]:
        num = next(size for size in self._sizes if len(images) <= size)
        padded = np.zeros((num, *self._shape), np.uint8)
        padded[: len(images)] = images
        found = self._run(padded)
        counts = found["num_detections"]
        return [
            Detections(*(found[name][i, : counts[i]] for name in ("boxes", "scores", "classes")))
            for i in range(len(images))
        ]
