"""Gradients summed over micro-batches, with a real network."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import zoo
from kd_tf.training import call, strategy, train_step
from kd_tf.training.settings import TrainSettings

BATCH_SIZE, MAX_BOXES, NAMES = 4, 3, ("a", "b")


def _batches(steps: int) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (BATCH_SIZE, MAX_BOXES, 2))
    batch = {
        "images": rng.integers(0, 256, (BATCH_SIZE, 64, 64, 3)).astype(np.uint8),
        "boxes": np.concatenate([corners, corners + 16], axis=-1).astype(np.float32),
        "classes": rng.integers(0, 2, (BATCH_SIZE, MAX_BOXES)).astype(np.int32),
        "weights": np.ones((BATCH_SIZE, MAX_BOXES), np.float32),
        "ignore": np.zeros((BATCH_SIZE, MAX_BOXES), bool),
        "judged": np.ones((BATCH_SIZE, len(NAMES)), bool),
    }
    return tf.data.Dataset.from_tensors(batch).repeat(steps)


def _losses(*, accumulate: int) -> list[float]:
    settings = TrainSettings(
        steps=2,
        batch_size=BATCH_SIZE,
        learning_rate=1e-3,
        accumulate=accumulate,
        freeze_batch_norm=True,
    )
    where = strategy.build_strategy("one", tpu="")
    with where.scope():
        # Its heads are shared by five levels: gradients are long sums, which Grappler rewrites.
        network = zoo.build("retinanet_tiny", class_names=NAMES, image_size=(64, 64), seed=1)
        state = train_step.build_state(network, settings=settings)
    run = call.build_call(state, settings=settings, strategy=where)
    rows = run(iter(_batches(2)), first_step=0, count=2)
    return [row["loss"] for row in rows]


@pytest.mark.slow
def test_micro_batches_of_a_retinanet_equal_the_whole_batch():
    np.testing.assert_allclose(_losses(accumulate=2), _losses(accumulate=1), rtol=1e-4)
