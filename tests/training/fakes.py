"""A tiny network and data with real behaviour: seconds to trace, values worth asserting."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

SIZE = 8


@dataclasses.dataclass
class TinyNetwork:
    """One number per image, learnt by weighted squares; the normaliser is the weights' sum."""

    model: keras.Model

    def loss(self, outputs, labels):
        """Unnormalised sums over the batch."""
        error = tf.square(outputs["value"][:, 0] - labels["target"])
        size = tf.abs(outputs["value"][:, 0])
        return {
            "square": tf.reduce_sum(error * labels["weights"]),
            "size": 0.01 * tf.reduce_sum(size * labels["weights"]),
            "normalizer": tf.reduce_sum(labels["weights"]),
        }


def build(*, batch_norm: bool = True, frozen: bool = False, seed: int = 3) -> TinyNetwork:
    """A convolution, BatchNorm if wanted, and a dense layer."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, strides=2)(x)
    if batch_norm:
        layer = keras.layers.BatchNormalization()
        layer.trainable = not frozen
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("relu")(x))
    return TinyNetwork(keras.Model(images, {"value": keras.layers.Dense(1)(x)}))


def batch(step: int, *, batch_size: int, bad_step: int | None = None) -> dict[str, np.ndarray]:
    """The global batch of a step: a pure function of its arguments."""
    random = np.random.default_rng([17, step])
    images = random.integers(0, 256, (batch_size, SIZE, SIZE, 3), dtype=np.uint8)
    target = images.mean((1, 2, 3), dtype=np.float64) / 64 + (random.random(batch_size) > 0.5)
    if step == bad_step:
        target[-1] = np.inf
    return {
        "images": images,
        "target": target.astype(np.float32),
        "weights": random.integers(0, 3, batch_size).astype(np.float32),
        "ids": np.array([f"fake/{step}-{i}" for i in range(batch_size)]),
    }


def batches(*, batch_size: int, bad_step: int | None = None, before=lambda step: None):
    """A `batches` function over `batch`; `before(step)` runs first, and may raise."""

    def make(start_step, worker_index, num_workers):
        rows = batch_size // num_workers
        part = slice(worker_index * rows, (worker_index + 1) * rows)

        def generate():
            step = start_step
            while True:
                before(step)
                whole = batch(step, batch_size=batch_size, bad_step=bad_step)
                yield {name: values[part] for name, values in whole.items()}
                step += 1

        signature = {
            "images": tf.TensorSpec((rows, SIZE, SIZE, 3), tf.uint8),
            "target": tf.TensorSpec((rows,), tf.float32),
            "weights": tf.TensorSpec((rows,), tf.float32),
            "ids": tf.TensorSpec((rows,), tf.string),
        }
        return tf.data.Dataset.from_generator(generate, output_signature=signature)

    return make


def weights(network: TinyNetwork) -> list[np.ndarray]:
    """All values of the model."""
    return [np.array(v.value) for v in network.model.variables]


def validate(network: TinyNetwork) -> float:
    """Minus the error on a batch of its own."""
    held_out = batch(10**6, batch_size=8)
    value = network.model(held_out["images"].astype(np.float32))["value"].numpy()[:, 0]
    return -float(np.mean(np.square(value - held_out["target"])))
