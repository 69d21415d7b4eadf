"""What one training run is made of; imports nothing heavy, so flags can be built from it."""

import dataclasses

from kd_tf.errors import UserError

OPTIMIZERS: tuple[str, ...] = ("adamw", "sgd")
PRECISIONS: tuple[str, ...] = ("float32", "bfloat16")
STRATEGIES: tuple[str, ...] = ("one", "mirrored", "multi_worker", "tpu")

# A run may go on with another value of these: they change its speed, not its result.
SPEED_ONLY: tuple[str, ...] = (
    "steps_per_call",
    "jit_compile",
    "checkpoint_every",
)


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Settings of one training run.

    Attributes:
        steps: Optimizer updates.
        batch_size: Images per update, over all replicas and micro-batches.
        learning_rate: Peak, reached at the end of the warm-up.
        warmup_steps: Steps of linear rise from 0.
        decay_steps: Last steps, in which the cosine falls; before them the peak is held.
            0 = all steps after the warm-up.
        optimizer: One of `OPTIMIZERS`.
        momentum: Of SGD; unused by AdamW. No flag: 0 gives tests the bare gradient.
        weight_decay: Decoupled, times the learning rate; kernels only, never
            biases or BatchNorm's scale and offset.
        clip_norm: Largest global norm of the averaged gradient; 0 = no clipping.
        ema_decay: Of the averaged weights that are validated and kept; 0 = off.
        accumulate: Micro-batches that one update is summed from; divides
            batch_size / replicas. Saves memory, not time; BatchNorm's statistics are of
            one of them at a time.
        precision: One of `PRECISIONS`; the network is built with it.
        jit_compile: Compiles the whole step with XLA (TPU: always compiled).
        freeze_batch_norm: Keeps BatchNorm's statistics, scale and offset as built; for a
            network that has learned before.
        steps_per_call: Updates per call from Python; the device need not wait
            for the host in between.
        eval_every: Steps between validations; 0 = only at the end.
        checkpoint_every: Steps between checkpoints; 0 = at validations and the end.
        judge_start: Validates the first weights too, for a network that has learned before: it
            never leaves with weights that score worse than those it came with, and keeps those
            where others score the same, unless that is 0.
        seed: Of the run. The step draws random numbers in dropout layers alone (EfficientNet
            Lite), whose states are variables of the model.
    """

    steps: int
    batch_size: int
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    decay_steps: int = 0
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    accumulate: int = 1
    precision: str = "float32"
    jit_compile: bool = False
    freeze_batch_norm: bool = False
    steps_per_call: int = 1
    eval_every: int = 0
    checkpoint_every: int = 250
    judge_start: bool = False
    seed: int = 0


# Field -> (lowest, highest) allowed, both inclusive.
_RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 10**9),
    "batch_size": (1, 10**6),
    "learning_rate": (1e-12, 1e3),
    "warmup_steps": (0, 10**9),
    "decay_steps": (0, 10**9),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "clip_norm": (0.0, 1e12),
    "ema_decay": (0.0, 0.999999),
    "accumulate": (1, 10**6),
    "steps_per_call": (1, 10**5),
    "eval_every": (0, 10**9),
    "checkpoint_every": (0, 10**9),
}


def check(settings: TrainSettings) -> None:
    """Refuses settings that cannot train.

    Raises:
        UserError: Names the field, its value and what is allowed.
    """
    for name, (lowest, highest) in _RANGES.items():
        value = getattr(settings, name)
        if not lowest <= value <= highest:
            raise UserError(f"{name} must be in [{lowest}, {highest}], got {value}.")
    for name, allowed in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
        value = getattr(settings, name)
        if value not in allowed:
            raise UserError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    if settings.batch_size % settings.accumulate:
        raise UserError(
            f"batch_size {settings.batch_size} cannot be cut into accumulate="
            f"{settings.accumulate} equal micro-batches; choose a multiple."
        )
