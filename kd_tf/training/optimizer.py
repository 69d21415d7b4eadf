"""AdamW and SGD as plain update rules.

Keras' optimizers sum gradients over the replicas when they are applied and clip before
that; here the gradient that arrives is already summed, averaged and clipped, and each
replica applies the same update to its own copy of the variables.
"""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from kd_tf.training import flat
from kd_tf.training.settings import TrainSettings

# The values of Kingma and Ba 2015, section 2, with Keras' epsilon.
_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = 1e-7


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An update rule and its state.

    Attributes:
        name: One of `settings.OPTIMIZERS`.
        variables: What it updates.
        slots: Name -> one float32 variable [N], N the entries of all `variables` (see `flat`).
        momentum: Of SGD.
        weight_decay: Applied to variables of two and more dimensions.
    """

    name: str
    variables: list[tf.Variable]
    slots: dict[str, tf.Variable]
    momentum: float
    weight_decay: float


def build(variables: Sequence[tf.Variable], *, settings: TrainSettings) -> Optimizer:
    """An optimizer with slots at zero; call it in the strategy's scope."""
    names = {"adamw": ("mean", "square"), "sgd": ("velocity",)}[settings.optimizer]
    size = sum(variable.shape.num_elements() for variable in variables)
    return Optimizer(
        name=settings.optimizer,
        variables=list(variables),
        slots={name: tf.Variable(tf.zeros([size]), trainable=False) for name in names},
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def apply(
    optimizer: Optimizer, gradient: tf.Tensor, *, learning_rate: tf.Tensor, step: tf.Tensor
) -> None:
    """Updates every variable once.

    Args:
        optimizer: Its variables and slots are changed.
        gradient: [N], `flat.join` of one array per variable: of the mean loss of the global batch.
        learning_rate: Scalar float32.
        step: Scalar integer, 0 for the first update (Adam's bias correction).

    Source: AdamW and SGDW of Loshchilov and Hutter 2019, with the decay times the
    learning rate as in Keras and PyTorch.
    """
    if optimizer.name == "adamw":
        change = _adam_change(optimizer, gradient, learning_rate=learning_rate, step=step)
    else:
        velocity = optimizer.slots["velocity"]
        change = velocity.assign(optimizer.momentum * velocity - learning_rate * gradient)
    parts = flat.cut(change, optimizer.variables)
    for variable, part in zip(optimizer.variables, parts, strict=True):
        if optimizer.weight_decay and is_decayed(variable):
            part -= learning_rate * optimizer.weight_decay * variable
        variable.assign_add(part)


def is_decayed(variable: tf.Variable) -> bool:
    """Whether weight decay applies: kernels have two dimensions or more.

    Biases and BatchNorm's scale and offset have one.
    """
    return variable.shape.rank >= 2


def _adam_change(
    optimizer: Optimizer, gradient: tf.Tensor, *, learning_rate: tf.Tensor, step: tf.Tensor
) -> tf.Tensor:
    count = tf.cast(step, tf.float32) + 1.0
    # 1 - beta^t through expm1: the difference itself loses four digits in float32 at t = 1.
    corrected = (
        learning_rate
        * tf.sqrt(-tf.math.expm1(count * math.log(_BETA_2)))
        / -tf.math.expm1(count * math.log(_BETA_1))
    )
    mean, square = optimizer.slots["mean"], optimizer.slots["square"]
    mean = mean.assign_add((1.0 - _BETA_1) * (gradient - mean))
    square = square.assign_add((1.0 - _BETA_2) * (tf.square(gradient) - square))
    return -corrected * mean / (tf.sqrt(square) + _EPSILON)
