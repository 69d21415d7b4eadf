"""Where a run goes on, and which weights it keeps if the best are lost."""

import dataclasses

import tensorflow as tf
from absl import logging

from kd_tf.training import checkpoint, ema, train_step
from kd_tf.training import strategy as strategies
from kd_tf.training.checkpoint import Evaluation, Progress
from kd_tf.training.settings import TrainSettings


def resume(
    state: train_step.State,
    *,
    settings: TrainSettings,
    folder: str,
    strategy: tf.distribute.Strategy,
) -> Progress:
    """How far the run in a folder is; its newest checkpoint is in the variables then.

    Args:
        state: As built, with the weights the run began with.
        settings: Of the run.
        folder: Of the run.
        strategy: Its own; the first worker alone writes.

    Raises:
        UserError: As `checkpoint.restore`.
    """
    first = {name: tf.identity(value) for name, value in state.model_variables().items()}
    done = checkpoint.restore(folder, variables=state.named_variables(), settings=settings)
    if done is None:
        return Progress()
    if done.best or not done.evaluations or not strategies.is_chief(strategy):
        return done
    best = _best_left(done)
    if best and best.step == 0:
        checkpoint.save_best(folder, variables=first, step=0)
    elif best:
        with ema.swapped(state.averaged, state.average):
            checkpoint.save_best(folder, variables=state.model_variables(), step=best.step)
    logging.warning(
        "Best of the weights that are left: %s.",
        f"step {best.step} with AP {best.ap:.4f}" if best else "none before the next validation",
    )
    done = dataclasses.replace(done, best=best)
    checkpoint.write_pointer(folder, progress=done, settings=settings)
    return done


def _best_left(done: Progress) -> Evaluation | None:
    """Scores are known of more weights, but only the first and the checkpoint's are there."""
    best = None
    for one in done.evaluations:
        if one.step in (0, done.step) and (best is None or checkpoint.is_better(one, than=best)):
            best = one
    return best
