"""Losses and gradients of a network's first steps: `python -m tests.training.real_network NAME`.

Prints those of one device and those of two replicas with micro-batches, as JSON.
"""

import json
import sys

import numpy as np
import tensorflow as tf

from kd_tf.detectors import zoo
from kd_tf.training import call, train_step
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings

BATCH_SIZE, MAX_BOXES, NAMES = 4, 3, ("a", "b")
STEPS = 2


def measure(name: str, *, accumulate: int = 1, strategy: str = "one") -> list[list[float]]:
    """[loss, norm of the gradient] of each step, over the whole batch."""
    settings = TrainSettings(
        steps=STEPS,
        batch_size=BATCH_SIZE,
        learning_rate=1e-3,
        accumulate=accumulate,
        freeze_batch_norm=True,
    )
    where = strategies.build_strategy(strategy)
    with where.scope():
        network = zoo.build(name, class_names=NAMES, image_size=(64, 64), seed=1)
        state = train_step.build_state(network, settings=settings)
    run = call.build_call(state, settings=settings, strategy=where)
    data = strategies.distribute(_batches, start_step=0, strategy=where)
    rows = run(iter(data), first_step=0, count=STEPS)
    return [[row["loss"], row["gradient_norm"]] for row in rows]


def _batches(*_) -> tf.data.Dataset:
    """Images that differ in their number of boxes, so a mean of means is another loss."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (BATCH_SIZE, MAX_BOXES, 2))
    weights = np.ones((BATCH_SIZE, MAX_BOXES), np.float32)
    weights[0, 1:] = 0
    batch = {
        "images": rng.integers(0, 256, (BATCH_SIZE, 64, 64, 3)).astype(np.uint8),
        "boxes": np.concatenate([corners, corners + 16], axis=-1).astype(np.float32),
        "classes": rng.integers(0, 2, (BATCH_SIZE, MAX_BOXES)).astype(np.int32),
        "weights": weights,
        "ignore": np.zeros((BATCH_SIZE, MAX_BOXES), bool),
        "judged": np.ones((BATCH_SIZE, len(NAMES)), bool),
    }
    return tf.data.Dataset.from_tensors(batch).repeat()


if __name__ == "__main__":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    found = {
        "one": measure(sys.argv[1]),
        "mirrored": measure(sys.argv[1], strategy="mirrored", accumulate=2),
        "replicas": strategies.build_strategy("mirrored").num_replicas_in_sync,
    }
    print(json.dumps(found))
