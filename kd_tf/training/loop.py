"""The training loop: one for every strategy, resumable to the step."""

import dataclasses
import math
import time
from collections.abc import Callable

import tensorflow as tf
from absl import logging

from kd_tf import progress as progress_bars
from kd_tf.training import call as calls
from kd_tf.training import checkpoint, ema, resume, stopping, summaries, train_step
from kd_tf.training import settings as all_settings
from kd_tf.training import strategy as strategies
from kd_tf.training.checkpoint import Evaluation, Progress
from kd_tf.training.settings import TrainSettings
from kd_tf.training.train_step import Network

Validate = Callable[[Network], float]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What came out of a run.

    Attributes:
        network: With the best weights in it, or the last ones without validation;
            averaged ones if EMA is on.
        step: Updates done.
        best: Step and AP of the weights; None without validation.
        evaluations: All validations.
        images_per_s: Of the updates of this process, the first call (tracing) left
            out; 0.0 if there were no others.
        boxes_cut: Objects of all updates of this process that did not fit into a batch.
    """

    network: Network
    step: int
    best: Evaluation | None
    evaluations: tuple[Evaluation, ...]
    images_per_s: float
    boxes_cut: int = 0


@dataclasses.dataclass
class _Timer:
    """Images and seconds of all calls but the first, which traces; boxes that did not fit."""

    boxes_cut: int = 0
    calls: int = 0
    images: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same from the first update to the last, and two running records."""

    state: train_step.State
    batches: strategies.Batches
    settings: TrainSettings
    folder: str
    validate: Validate | None
    strategy: tf.distribute.Strategy
    log: summaries.Log
    timer: _Timer


def train(
    *,
    build: Callable[[], Network],
    batches: strategies.Batches,
    settings: TrainSettings,
    folder: str,
    validate: Validate | None,
    strategy: tf.distribute.Strategy,
) -> TrainResult:
    """Trains a network, or goes on where an earlier run in `folder` was cut off.

    Args:
        build: Makes the network, with its first weights; called in the strategy's scope.
        batches: (start_step, worker_index, num_workers) -> endless data set of which
            element k is the worker's part of the batch of update start_step + k: a dict
            of "images" uint8 [B, H, W, 3], what the loss needs, and "ids" string [B],
            which only error messages use. Static shapes. It must be a pure function of
            its arguments, or resuming does not repeat the same run.
        settings: Of the run.
        folder: Of the stage; gets checkpoint.json, checkpoints/, metrics.jsonl,
            tensorboard/. Several workers share it.
        validate: Scores a network whose model holds the weights to be judged; higher is
            better, finite, 0 for one that finds nothing. Called by the first worker only.
            Of equal scores the earlier weights win, of zeros the later ones. None: the
            last weights win.
        strategy: From `strategy.build_strategy`.

    Raises:
        UserError: Settings, strategy and data do not fit, or the folder holds a run with
            other settings.
        TrainingDivergedError: A loss or gradient was not finite.
        WorkerLostError: Another worker is gone.
        PreemptedError: SIGTERM or Ctrl-C came; the state is saved.
    """
    all_settings.check(settings)
    strategies.check(strategy, settings=settings)
    with strategy.scope():
        state = train_step.build_state(build(), settings=settings)
    train_step.warn_of_few_images(
        state.network.model, settings=settings, num_replicas=strategy.num_replicas_in_sync
    )
    done = resume.resume(state, settings=settings, folder=folder, strategy=strategy)
    log = summaries.open_log(
        folder if strategies.is_chief(strategy) else None,
        step=done.step,
        validated=[one.step for one in done.evaluations],
    )
    run = _Run(state, batches, settings, folder, validate, strategy, log, _Timer())
    with stopping.naming_lost_workers(num_workers=strategies.num_workers(strategy)):
        try:
            if settings.judge_start and validate is not None and not done.saved:
                done = _save(run, done)
            done = _validate_if_due(run, done)
            if done.step < settings.steps:
                done = _train_from(run, done)
        finally:
            summaries.flush(log)
        return _finish(run, done)


def _train_from(run: _Run, done: Progress) -> Progress:
    """All updates that are left, with their checkpoints and validations."""
    steps = run.settings.steps
    updates = calls.build_call(run.state, settings=run.settings, strategy=run.strategy)
    any_worker = strategies.build_agreement(run.strategy)
    data = iter(strategies.distribute(run.batches, start_step=done.step, strategy=run.strategy))
    bar = progress_bars.bar(total=steps, unit="steps", description="train", initial=done.step)
    with stopping.watching_signals() as asked, bar:
        while done.step < steps:
            count = calls.steps_until_host(done.step, settings=run.settings)
            start = time.perf_counter()
            rows = updates(data, first_step=done.step, count=count)
            speed = _clock(run, seconds=time.perf_counter() - start, count=count)
            _record(run, rows, done=done, speed=speed)
            done = dataclasses.replace(done, step=done.step + count)
            bar.set_postfix_str(_summary(rows[-1], speed=speed), refresh=False)
            bar.update(count)
            stop = any_worker(asked.is_set())
            if stop or _saving_is_due(run, done.step):
                done = _save(run, done)
            if stop:
                raise stopping.PreemptedError(done.step, folder=run.folder, signum=asked.signum)
            done = _validate_if_due(run, done)
    return done


def _clock(run: _Run, *, seconds: float, count: int) -> float | None:
    """Images per second of one call; None for the first, which traces."""
    run.timer.calls += 1
    if run.timer.calls == 1:
        return None
    images = count * run.settings.batch_size
    run.timer.images += images
    run.timer.seconds += seconds
    return images / seconds


def _record(run: _Run, rows: list[calls.Row], *, done: Progress, speed: float | None) -> None:
    """Notes the metrics of the updates after `done`; stops at the first that is not finite."""
    for step, row in enumerate(rows, start=done.step + 1):
        cut = row.pop(train_step.CUT, 0.0)
        if cut:
            _note_cut(run, cut, step=step)
            row[train_step.CUT] = cut
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        timing = {"images_per_s": speed} if speed is not None else {}
        run.log.pending.append({"step": step, **finite, **timing})
        # A finite loss with an infinite gradient has spoilt the weights all the same.
        if len(finite) < len(row):
            raise stopping.diverged(
                step=step, ids=_batch_ids(run, step - 1), metrics=row, saved=done.saved
            )


def _note_cut(run: _Run, cut: float, *, step: int) -> None:
    if not run.timer.boxes_cut:
        logging.warning(
            "Update %d: %d objects of its images are beyond --max_boxes. The largest of the best "
            "are learned; where the others lie counts as neither object nor background. Raise "
            "--max_boxes to learn them.", step, int(cut),
        )  # fmt: skip
    run.timer.boxes_cut += int(cut)


def _batch_ids(run: _Run, step: int) -> list[str]:
    """Ids of the global batch of an update, made again: batches are a function of the step."""
    ids: list[str] = []
    workers = strategies.num_workers(run.strategy)
    for worker in range(workers):
        batch = next(iter(run.batches(step, worker, workers).take(1)))
        ids += (
            [i.decode() for i in batch[strategies.IDS].numpy()] if strategies.IDS in batch else []
        )
    return ids


def _saving_is_due(run: _Run, step: int) -> bool:
    periods = (run.settings.checkpoint_every, run.settings.eval_every)
    return any(calls.is_due(step, every=e, steps=run.settings.steps) for e in periods)


def _save(run: _Run, done: Progress) -> Progress:
    """A checkpoint of `done.step`; all workers take part in averaging BatchNorm statistics."""
    train_step.average_batch_norm(run.state, strategy=run.strategy)
    if not strategies.is_chief(run.strategy):
        return done
    summaries.flush(run.log)
    return checkpoint.save(
        run.folder,
        variables=run.state.named_variables(),
        progress=done,
        settings=run.settings,
    )


def _validate_if_due(run: _Run, done: Progress) -> Progress:
    """Scores the averaged weights and keeps the best, if this step asks for it and has no score.

    The checkpoint of the step is written already, so a crash in here costs no update.
    """
    start = run.settings.judge_start and done.step == 0
    due = start or calls.is_due(done.step, every=run.settings.eval_every, steps=run.settings.steps)
    scored = any(evaluation.step == done.step for evaluation in done.evaluations)
    if run.validate is None or not due or scored or not strategies.is_chief(run.strategy):
        return done
    with ema.swapped(run.state.averaged, run.state.average):
        new = Evaluation(step=done.step, ap=_finite(run.validate(run.state.network)))
        better = done.best is None or checkpoint.is_better(new, than=done.best)
        if better:
            checkpoint.save_best(run.folder, variables=run.state.model_variables(), step=done.step)
    run.log.pending.append({"step": done.step, "val_ap": new.ap})
    summaries.flush(run.log)
    done = dataclasses.replace(
        done, evaluations=(*done.evaluations, new), best=new if better else done.best
    )
    checkpoint.write_pointer(run.folder, progress=done, settings=run.settings)
    return done


def _finite(ap: float) -> float:
    if not math.isfinite(ap):
        raise ValueError(f"validate must return a finite number, got {ap}.")
    return float(ap)


def _finish(run: _Run, done: Progress) -> TrainResult:
    """Puts the chosen weights into the network, on every worker."""
    strategies.build_agreement(run.strategy)(False)  # Waits for the first worker's files.
    if not strategies.is_chief(run.strategy):
        done = checkpoint.read_progress(run.folder)
    if done.best is not None:
        _warn_if_nothing_scored(done)
        checkpoint.restore_best(
            run.folder, variables=run.state.model_variables(), step=done.best.step
        )
    elif run.state.average is not None:
        ema.put(run.state.averaged, run.state.average)
    seconds = run.timer.seconds
    return TrainResult(
        network=run.state.network,
        step=done.step,
        best=done.best,
        evaluations=done.evaluations,
        images_per_s=run.timer.images / seconds if seconds else 0.0,
        boxes_cut=run.timer.boxes_cut,
    )


def _warn_if_nothing_scored(done: Progress) -> None:
    if not any(evaluation.ap for evaluation in done.evaluations):
        logging.warning(
            "All %d validations scored 0, so they chose nothing: the weights of step %d, the last "
            "that were validated, are kept. Has the network had enough steps, and are the labels "
            "and their class names right?", len(done.evaluations), done.best.step,
        )  # fmt: skip


def _summary(row: calls.Row, *, speed: float | None) -> str:
    shown = f"loss {row['loss']:.4g}, lr {row['learning_rate']:.2e}"
    return f"{speed:.1f} images/s, {shown}" if speed is not None else shown
