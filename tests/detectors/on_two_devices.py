"""What a network finds alone and on two replicas: `python -m tests.detectors.on_two_devices`.

Prints both as JSON; a process of its own, since logical CPUs are made before TensorFlow starts.
"""

import concurrent.futures
import json

import numpy as np
import tensorflow as tf

from kd_tf.detectors import replicas
from kd_tf.detectors.network_detector import NetworkDetector
from tests.export.fake_network import FakeNetwork

NUM_IMAGES, BATCH_SIZE = 7, 3


class _Watched(FakeNetwork):
    """Notes which replica is traced with how many images."""

    def __init__(self):
        super().__init__()
        self.parts = []

    def decode(self, outputs, **rules):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        self.parts.append([int(tf.get_static_value(replica)), outputs["boxes"].shape[0]])
        return super().decode(outputs, **rules)


def find(strategy: tf.distribute.Strategy | None) -> dict:
    """Detections of all images, before and after the weights change, and who saw how many."""
    with replicas.scope(strategy):
        network = _Watched()
    detector = NetworkDetector(network, batch_size=BATCH_SIZE, score_floor=0.3, strategy=strategy)
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 64, 96, 3)).astype(np.uint8)
    # As `data.predict` does it: scopes and contexts of a strategy belong to a thread.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as other:
        before = other.submit(detector.detect, images).result()
        for weight in network.model.trainable_weights:
            weight.assign(weight * 1.5)
        after = other.submit(detector.detect, images).result()
        alone = other.submit(detector.detect, images[4:5]).result()
    found = {"before": before, "after": after, "alone": alone}
    return {name: _plain(one) for name, one in found.items()} | {"parts": network.parts}


def _plain(found: list) -> list:
    return [[one.boxes.tolist(), one.scores.tolist(), one.classes.tolist()] for one in found]


if __name__ == "__main__":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")]
    )
    print(json.dumps({"one": find(None), "two": find(two)}))
