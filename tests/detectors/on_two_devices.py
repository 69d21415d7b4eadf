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


def find(strategy: tf.distribute.Strategy | None) -> dict:
    """Detections of all images, before and after the weights change, and the batches seen."""
    with replicas.scope(strategy):
        network = FakeNetwork()
    detector = NetworkDetector(network, batch_size=BATCH_SIZE, score_floor=0.3, strategy=strategy)
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 64, 96, 3)).astype(np.uint8)
    # As `data.predict` does it: scopes and contexts of a strategy belong to a thread.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as other:
        before = other.submit(detector.detect, images).result()
        for weight in network.model.trainable_weights:
            weight.assign(weight * 1.5)
        after = other.submit(detector.detect, images).result()
        alone = other.submit(detector.detect, images[4:5]).result()
    return {
        name: _plain(found)
        for name, found in {"before": before, "after": after, "alone": alone}.items()
    }


def _plain(found: list) -> list:
    return [[one.boxes.tolist(), one.scores.tolist(), one.classes.tolist()] for one in found]


if __name__ == "__main__":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")]
    )
    print(
        json.dumps(
            {
                "one": find(None),
                "two": find(two),
                "replicas": two.num_replicas_in_sync,
                "rounded": replicas.round_up(BATCH_SIZE, strategy=two),
            }
        )
    )
