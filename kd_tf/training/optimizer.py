"""AdamW and SGD as plain update rules.

Keras' optimizers sum gradients over the replicas when they are applied and clip before
that; here the gradients that arrive are already summed, averaged and clipped, and each
replica applies the same update to its own copy of the variables, by one fused kernel per
variable: written out, each operation of the rule passes over memory once more.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

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
        slots: Name -> one float32 variable for each of `variables`, of its shape.
        momentum: Of SGD.
        weight_decay: Applied to variables of two and more dimensions.
    """

    name: str
    variables: list[tf.Variable]
    slots: dict[str, list[tf.Variable]]
    momentum: float
    weight_decay: float


def build(variables: Sequence[tf.Variable], *, settings: TrainSettings) -> Optimizer:
    """An optimizer with slots at zero; call it in the strategy's scope."""
    names = {"adamw": ("mean", "square"), "sgd": ("velocity",)}[settings.optimizer]
    zeros = {
        name: [tf.Variable(tf.zeros(one.shape), trainable=False) for one in variables]
        for name in names
    }
    return Optimizer(
        name=settings.optimizer,
        variables=list(variables),
        slots=zeros,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def apply(
    optimizer: Optimizer,
    gradients: Sequence[tf.Tensor],
    *,
    learning_rate: tf.Tensor,
    step: tf.Tensor,
) -> None:
    """Updates every variable once.

    Args:
        optimizer: Its variables and slots are changed.
        gradients: One per variable, of its shape: of the mean loss of the global batch.
        learning_rate: Scalar float32.
        step: Scalar integer, 0 for the first update (Adam's bias correction).

    Source: AdamW and SGDW of Loshchilov and Hutter 2019, with the decay times the
    learning rate as in Keras and PyTorch.
    """
    decay = learning_rate * optimizer.weight_decay
    for variable in optimizer.variables:
        if optimizer.weight_decay and is_decayed(variable):
            variable.assign_sub(decay * variable)
    if optimizer.name == "adamw":
        _apply_adam(optimizer, gradients, learning_rate=learning_rate, step=step)
    else:
        _apply_momentum(optimizer, gradients, learning_rate=learning_rate)


def is_decayed(variable: tf.Variable) -> bool:
    """Whether weight decay applies: kernels have two dimensions or more.

    Biases and BatchNorm's scale and offset have one.
    """
    return variable.shape.rank >= 2


def _apply_adam(
    optimizer: Optimizer,
    gradients: Sequence[tf.Tensor],
    *,
    learning_rate: tf.Tensor,
    step: tf.Tensor,
) -> None:
    # Made once: a Python number would become an operation for every variable.
    beta_1, beta_2, epsilon = map(tf.constant, (_BETA_1, _BETA_2, _EPSILON))
    count = tf.cast(step, tf.float32) + 1.0
    power_1, power_2 = beta_1**count, beta_2**count
    means, squares = optimizer.slots["mean"], optimizer.slots["square"]
    for variable, mean, square, gradient in zip(
        optimizer.variables, means, squares, gradients, strict=True
    ):
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=learning_rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


def _apply_momentum(
    optimizer: Optimizer, gradients: Sequence[tf.Tensor], *, learning_rate: tf.Tensor
) -> None:
    momentum = tf.constant(optimizer.momentum)
    velocities = optimizer.slots["velocity"]
    for variable, velocity, gradient in zip(
        optimizer.variables, velocities, gradients, strict=True
    ):
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=velocity.handle,
            lr=learning_rate,
            grad=gradient,
            momentum=momentum,
        )
