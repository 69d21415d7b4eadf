"""Networks and compiled losses that several files share: building and tracing are what costs."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import retinanet, yolo, zoo
from tests.detectors import cases

FAMILIES = {"yolo": "yolov8_tiny", "retinanet": "retinanet_tiny"}


@pytest.fixture(scope="session", params=FAMILIES, ids=str)
def network(request):
    """The smallest network of each family, 64 x 64 pixels, three classes."""
    return zoo.build(
        FAMILIES[request.param], class_names=("a", "b", "c"), image_size=cases.SIZE, seed=3
    )


def compiled(head):
    @tf.function
    def run(outputs, labels):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            sums = head.loss(outputs, labels)
            total = sums["class"] + sums["box"] + sums.get("dfl", 0.0)
        return sums, tape.gradient(total, outputs)

    return run


@pytest.fixture(scope="session")
def yolo_loss():
    """(outputs, labels) -> (sums, gradients of their total)."""
    return compiled(yolo.YoloHead(cases.SIZE))


@pytest.fixture(scope="session")
def retinanet_loss():
    """(outputs, labels) -> (sums, gradients of their total)."""
    return compiled(retinanet.RetinaNetHead(cases.SIZE))


@pytest.fixture(scope="session")
def yolo_outputs():
    """Random raw outputs [2, 84, .] float32: boxes of 2 to 8 strides, scores around 0.2."""
    rng = np.random.default_rng(11)
    distances = rng.normal(0, 1, (2, 84, 64)) + yolo.distance_bias()
    classes = rng.normal(-1.5, 1, (2, 84, 3))
    return {"boxes": distances.astype(np.float32), "classes": classes.astype(np.float32)}


@pytest.fixture(scope="session")
def retinanet_outputs():
    """Random raw outputs [2, 774, .] float32."""
    rng = np.random.default_rng(12)
    num = len(retinanet.anchors(cases.SIZE))
    return {
        "boxes": rng.normal(0, 0.4, (2, num, 4)).astype(np.float32),
        "classes": rng.normal(-2, 1, (2, num, 3)).astype(np.float32),
    }
