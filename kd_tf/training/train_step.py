"""One update of a network, for one replica or many, in one piece or several."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import keras
import tensorflow as tf
from absl import logging

from kd_tf.training import ema, flat, optimizer, schedule
from kd_tf.training.settings import TrainSettings

Batch = dict[str, tf.Tensor]
Sums = dict[str, tf.Tensor]

NORMALIZER = "normalizer"
# Objects of a batch beyond --max_boxes.
CUT = "boxes_cut"
# Wu and He 2018, figure 1, https://arxiv.org/abs/1803.08494: with batch normalisation errors rise
# from 8 images at a time downwards, and steeply from 4 to 2.
_FEWEST_IMAGES = 4


class Network(Protocol):
    """What training needs of a detector.

    `model` maps float32 images [B, H, W, 3] in 0..255 to a dict of float32 raw heads;
    `loss` gives sums over the batch, scalar float32, one per term, and under
    "normalizer" what the sum of the terms is to be divided by. No term is normalised.
    """

    model: keras.Model

    def loss(self, outputs: dict[str, tf.Tensor], labels: Batch) -> Sums:
        """The unnormalised loss terms of one batch."""


@dataclasses.dataclass(frozen=True)
class State:
    """All that an update changes.

    Attributes:
        network: Its model's variables.
        optimizer: Its slots.
        average: Of `averaged`, as one vector (see `flat`); None without EMA.
        averaged: The model's floating point variables, BatchNorm statistics included.
    """

    network: Network
    optimizer: optimizer.Optimizer
    average: tf.Variable | None
    averaged: list[tf.Variable]

    def named_variables(self) -> dict[str, tf.Variable]:
        """Every variable of the state under a name of its own, in a fixed order.

        The lists are walked, not the objects: tf.train.Checkpoint(model=...) leaves out
        layers that Keras holds in lists, RetinaNet's head convolutions among them.
        """
        named = self.model_variables()
        for slot, variables in self.optimizer.slots.items():
            named |= {f"optimizer/{slot}/{i:05d}": v for i, v in enumerate(variables)}
        return named if self.average is None else named | {"ema": self.average}

    def model_variables(self) -> dict[str, tf.Variable]:
        """The part of `named_variables` that a network is made of.

        Numbered: the names Keras gives to layers count on through the process.
        """
        model = self.network.model.variables
        return {f"model/{i:05d}/{v.name}": v.value for i, v in enumerate(model)}


def build_state(network: Network, *, settings: TrainSettings) -> State:
    """A network with a fresh optimizer and fresh averages; call it in the strategy's scope."""
    if settings.freeze_batch_norm:
        freeze_batch_norm(network.model)
    trainable = [variable.value for variable in network.model.trainable_variables]
    averaged = [v.value for v in network.model.variables if v.value.dtype.is_floating]
    return State(
        network=network,
        optimizer=optimizer.build(trainable, settings=settings),
        average=ema.create(averaged) if settings.ema_decay else None,
        averaged=averaged,
    )


def freeze_batch_norm(model: keras.Model) -> None:
    """Makes every BatchNorm use its moving statistics and leave all four arrays alone."""
    for layer in _batch_norms(model):
        layer.trainable = False


def warn_of_few_images(model: keras.Model, *, settings: TrainSettings, num_replicas: int) -> None:
    """Says so where BatchNorm takes its statistics from very few images."""
    images = settings.batch_size // (num_replicas * settings.accumulate)
    if images < _FEWEST_IMAGES and any(layer.trainable for layer in _batch_norms(model)):
        logging.warning(
            "BatchNorm takes its mean and variance from %d images at a time (batch_size %d, %d "
            "replicas, accumulate=%d); below %d they are noise. Give a larger --batch_size, a "
            "smaller --accumulate, or --freeze_batch_norm for a network that has learned before.",
            images, settings.batch_size, num_replicas, settings.accumulate, _FEWEST_IMAGES,
        )  # fmt: skip


def _batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def build_train_step(
    state: State, *, settings: TrainSettings
) -> Callable[[Batch, tf.Tensor], dict[str, tf.Tensor]]:
    """The function that each replica runs for one update.

    The normaliser is that of the global batch: sums of gradients and normalisers over
    micro-batches, then over replicas, one division, then clipping, then the optimizer. So
    N replicas or micro-batches give the update of one where BatchNorm is frozen; where it
    is not, its mean and variance are those of the images one replica sees at a time.
    Shapes are static; no host op.

    Returns:
        (batch of this replica, step as scalar int64) -> scalar float32 metrics that are
        the same on every replica: each loss term, "loss" (their sum), "normalizer"
        (before the floor of 1), "gradient_norm" (before clipping), "learning_rate"; "boxes_cut"
        where the batch says how many boxes did not fit.
    """

    def train_step(batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        gradients, sums = _accumulated(state, batch, parts=settings.accumulate)
        gradients, sums = _sum_over_replicas(gradients, sums, like=state.optimizer.variables)
        divisor = tf.maximum(sums[NORMALIZER], 1.0)
        gradients, norm = _clipped(gradients, divisor=divisor, clip_norm=settings.clip_norm)
        rate = schedule.learning_rate(step, settings=settings)
        optimizer.apply(state.optimizer, gradients, learning_rate=rate, step=step)
        if state.average is not None:
            ema.update(state.average, state.averaged, step=step, decay=settings.ema_decay)
        counts = {name: sums.pop(name) for name in (CUT,) if name in sums}
        terms = {name: sums[name] / divisor for name in sums if name != NORMALIZER}
        return (
            terms
            | counts
            | {
                "loss": tf.add_n(list(terms.values())),
                NORMALIZER: sums[NORMALIZER],
                "gradient_norm": norm,
                "learning_rate": rate,
            }
        )

    return tf.function(train_step, jit_compile=True) if settings.jit_compile else train_step


def average_batch_norm(state: State, *, strategy: tf.distribute.Strategy) -> None:
    """Gives every replica the mean of the replicas' moving statistics.

    During training each replica follows its own part of the batch; one copy alone would
    be validated and saved otherwise. Every worker must call it. The update of moving
    statistics is linear, so averaging early or late gives the same mean.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    model = state.network.model
    trained = {id(variable) for variable in model.trainable_variables}
    moving = [
        v.value for v in model.variables if id(v) not in trained and v.value.dtype.is_floating
    ]
    variables = moving if state.average is None else [*moving, state.average]
    if variables:
        _average(variables, strategy=strategy)


def _average(variables: list[tf.Variable], *, strategy: tf.distribute.Strategy) -> None:
    def average() -> None:
        replica = tf.distribute.get_replica_context()
        # The identity gives a value a device, which the all-reduce asks for.
        local = [tf.identity(variable) for variable in variables]
        means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, local)
        ema.assign_all(variables, means)

    @tf.function
    def run() -> None:
        strategy.run(average)

    run()


def _accumulated(state: State, batch: Batch, *, parts: int) -> tuple[list[tf.Tensor], Sums]:
    """Sums of gradients and losses over `parts` consecutive pieces of the batch."""
    if parts == 1:
        return _gradients(state, batch)
    pieces = {
        name: tf.reshape(rows, [parts, rows.shape[0] // parts, *rows.shape[1:]])
        for name, rows in batch.items()
    }
    # Traced once and called in the loop alone: with a copy of the gradient outside of it, the
    # temporary variables that Grappler makes of long sums meet under one name.
    piece_of = {n: tf.TensorSpec(rows.shape[1:], rows.dtype) for n, rows in pieces.items()}
    one = tf.function(lambda piece: _joined_gradients(state, piece), autograph=False)
    one = one.get_concrete_function(piece_of)

    def add(index: tf.Tensor, sums: tuple) -> tuple:
        piece = {name: rows[index] for name, rows in pieces.items()}
        return index + 1, tf.nest.map_structure(tf.add, sums, one(piece))

    zeros = tf.nest.map_structure(
        lambda spec: tf.zeros(spec.shape, spec.dtype), one.structured_outputs
    )
    _, (joined, sums) = tf.while_loop(
        lambda index, _: index < parts,
        add,
        (tf.constant(0), zeros),
        parallel_iterations=1,
        maximum_iterations=parts,
    )
    return flat.cut(joined, state.optimizer.variables), sums


def _joined_gradients(state: State, batch: Batch) -> tuple[tf.Tensor, Sums]:
    gradients, sums = _gradients(state, batch)
    return flat.join(gradients), sums


def _gradients(state: State, batch: Batch) -> tuple[list[tf.Tensor], Sums]:
    """The gradients of the summed loss and the loss sums of one micro-batch."""
    images = tf.cast(batch["images"], tf.float32)
    labels = {name: rows for name, rows in batch.items() if name != "images"}
    with tf.GradientTape() as tape:
        sums = state.network.loss(state.network.model(images, training=True), labels)
        total = tf.add_n([value for name, value in sums.items() if name != NORMALIZER])
    gradients = tape.gradient(
        total, state.optimizer.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    if "num_cut" in labels:
        sums = {**sums, CUT: tf.reduce_sum(tf.cast(labels["num_cut"], tf.float32))}
    return gradients, dict(sums)


def _sum_over_replicas(
    gradients: list[tf.Tensor], sums: Sums, *, like: list[tf.Variable]
) -> tuple[list[tf.Tensor], Sums]:
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return gradients, sums
    # As one vector: one all-reduce instead of one for each array.
    joined, sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, (flat.join(gradients), sums))
    return flat.cut(joined, like), sums


def _clipped(
    gradients: list[tf.Tensor], *, divisor: tf.Tensor, clip_norm: float
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The gradients divided and then clipped, and their global norm between the two."""
    norm = tf.linalg.global_norm(gradients) / divisor
    factor = 1.0 / divisor
    if clip_norm:
        # Exactly 1 below the limit, so small gradients keep every bit.
        factor *= tf.where(norm > clip_norm, clip_norm / norm, 1.0)
    return [gradient * factor for gradient in gradients], norm
