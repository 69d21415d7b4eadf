"""The four stages that train: teacher, pretrain, finetune, baseline."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import logging

from kd_tf import config, files, manifests
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.pipeline import training_batches
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet
from kd_tf.detectors import zoo
from kd_tf.detectors.network import Network, count_parameters
from kd_tf.detectors.saving import load_network, save_network
from kd_tf.names import default_learning_rate
from kd_tf.specs import names_list
from kd_tf.stages import job, labels, lesson_checks, pseudo, score
from kd_tf.stages.run import Run, need_labels
from kd_tf.teachers.label_job import PREFIX
from kd_tf.training import checkpoint, loop
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings

MODEL = "model.keras"
# Identities of the labelled images that a stage learned from, one a line.
_IDS = "label_ids.txt"
_POLICY = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What one training stage learns, and from what.

    Attributes:
        stage: Its name.
        network: Name of the network.
        steps: Updates.
        class_names: The run's classes.
        records: Where the labels are.
        rows: Which of the records; None means all.
        select: Which of their detections are learned.
        first_weights: File of a network to go on from, or None.
    """

    stage: str
    network: str
    steps: int
    class_names: tuple[str, ...]
    records: RecordSet
    rows: np.ndarray | None = None
    select: SelectSettings = dataclasses.field(default_factory=SelectSettings)
    first_weights: str | None = None


def teacher(run: Run, *, keep: bool = False) -> bool:
    """Trains a big detector on people's labels.

    Args:
        run: The run.
        keep: Whether --overwrite, meant for another stage, leaves a finished one alone.
    """
    need_labels(run, "teacher")
    settings, data = run.settings, labels.ensure_labeled(run)

    def work() -> job.Result:
        rows = data.rows(seed=settings.seed, fraction=settings.teacher_label_fraction)
        lesson = Lesson(
            "teacher", settings.teacher_model, settings.teacher_steps, data.class_names,
            data.train, rows,
        )  # fmt: skip
        return _train(run, lesson, validation=data)

    return _ensure(run, "teacher", {"labeled": run.input_hash(data.folder)}, work, keep=keep)


def pretrain(run: Run) -> bool:
    """Trains the student on pseudo labels (the first of the paper's two steps)."""
    settings, source = run.settings, run.need("pseudo")
    data = labels.ensure_labeled(run) if settings.labeled else None

    def work() -> job.Result:
        records = RecordSet.open(files.join(source, f"{PREFIX}-*.tfrecord"))
        if data:
            lesson_checks.check_class_names(source, records.class_names, data.class_names)
        lesson = Lesson(
            "pretrain", settings.student, settings.pretrain_steps, records.class_names,
            records, select=pseudo.selection(run, records.class_names),
        )  # fmt: skip
        return _train(run, lesson, validation=data)

    inputs = {"pseudo": run.input_hash(source)}
    path = files.join(source, pseudo.THRESHOLDS)
    if files.exists(path):
        # A person may edit the file; what was learned then no longer follows from it.
        inputs["thresholds"] = files.sha256(path)
    return _ensure(run, "pretrain", inputs | _labeled_input(run, data), work)


def finetune(run: Run) -> bool:
    """Goes on with people's labels (the second step)."""
    need_labels(run, "finetune")
    settings, data = run.settings, labels.ensure_labeled(run)
    first = run.need("pretrain")
    weights = files.join(first, MODEL)

    def work() -> job.Result:
        lesson_checks.check_first_weights(
            weights, network=settings.student, class_names=data.class_names
        )
        lesson = Lesson(
            "finetune", settings.student, settings.finetune_steps, data.class_names,
            data.train, _few(data, settings), first_weights=weights,
        )  # fmt: skip
        return _train(run, lesson, validation=data)

    inputs = {"pretrain": run.input_hash(first)}
    return _ensure(run, "finetune", inputs | _labeled_input(run, data), work)


def baseline(run: Run) -> bool:
    """Trains the student on the same labels alone, for as many steps as both stages have."""
    need_labels(run, "baseline")
    settings, data = run.settings, labels.ensure_labeled(run)

    def work() -> job.Result:
        steps = settings.pretrain_steps + settings.finetune_steps
        lesson = Lesson(
            "baseline", settings.student, steps, data.class_names, data.train, _few(data, settings)
        )
        return _train(run, lesson, validation=data)

    return _ensure(run, "baseline", _labeled_input(run, data), work)


def check_all(run: Run) -> None:
    """Raises UserError where a training stage of this run does not fit the devices."""
    for stage in config.TRAINING:
        if run.settings.stage not in (stage, "all", "pseudo"):
            continue
        settings = train_settings(run.settings, stage, steps=1)
        strategies.check(run.strategy, settings=settings)


def _few(data: labels.LabeledData, settings: config.Config) -> np.ndarray:
    """The part of the labels that finetune and baseline may use."""
    return data.rows(
        seed=settings.seed,
        fraction=settings.label_fraction,
        number=settings.num_labels,
        ids=settings.label_ids,
    )


def _labeled_input(run: Run, data: labels.LabeledData | None) -> dict[str, str]:
    return {"labeled": run.input_hash(data.folder)} if data else {}


def _ensure(run: Run, name: str, inputs: dict[str, str], work, *, keep: bool = False) -> bool:
    stage = job.Stage(
        name, run.folder(name), inputs=inputs,
        goes_on_from=lambda folder: checkpoint.updates_done(folder) > 0,
    )  # fmt: skip
    return job.ensure(stage, run, work=work, by_all=True, keep=keep)


def _train(run: Run, lesson: Lesson, *, validation: labels.LabeledData | None) -> job.Result:
    settings, folder = run.settings, run.folder(lesson.stage)
    if lesson.rows is not None and run.chief:
        ids = [lesson.records.source_ids[row] for row in lesson.rows]
        files.write_text(files.join(folder, _IDS), "".join(f"{one}\n" for one in ids))
    validate = score.build_validator(validation, strategy=run.strategy) if validation else None
    result = loop.train(
        build=lambda: _build(settings, lesson),
        batches=lambda *place: _batches(settings, lesson, *place),
        settings=train_settings(settings, lesson.stage, steps=lesson.steps),
        folder=folder,
        validate=validate,
        strategy=run.strategy,
    )
    if not run.chief:
        return job.Result()
    if result.best and result.best.step == 0:
        logging.info(
            "%s: no step scored better on the validation images than the weights it began with "
            "(AP %.3f), which are kept.", lesson.stage, result.best.ap,
        )  # fmt: skip
    meta = {
        "stage": lesson.stage,
        "step": result.best.step if result.best else result.step,
        "val_ap": result.best.ap if result.best else None,
        "num_images": len(lesson.records) if lesson.rows is None else len(lesson.rows),
        "commit": manifests.commit(),
    }
    if validate:
        meta["score_thresholds"] = validate.thresholds(result.network)
    save_network(result.network, files.join(folder, MODEL), meta=meta)
    info = {**meta, "parameters": count_parameters(result.network)}
    return job.Result(
        (MODEL,),
        manifests.Counts(),
        info | {"train_images_per_s": result.images_per_s, "boxes_cut": result.boxes_cut},
    )


def _build(settings: config.Config, lesson: Lesson) -> Network:
    weights = settings.of(lesson.stage, "backbone_weights")
    network = zoo.build(
        lesson.network,
        class_names=lesson.class_names,
        image_size=settings.size(),
        precision=_POLICY[settings.precision],
        seed=settings.seed,
        backbone_weights=None if lesson.first_weights else weights or None,
        allow_missing=names_list(settings.allow_missing),
    )
    if lesson.first_weights:
        first = load_network(lesson.first_weights)
        network.model.set_weights(first.model.get_weights())
    return network


def _batches(
    settings: config.Config, lesson: Lesson, start_step: int, worker_index: int, num_workers: int
) -> tf.data.Dataset:
    of = lambda name: settings.of(lesson.stage, name)  # noqa: E731
    low, high = (float(part) for part in of("scale_jitter").split(","))
    return training_batches(
        lesson.records,
        class_names=lesson.class_names,
        image_size=settings.size(),
        batch_size=of("batch_size"),
        seed=settings.seed,
        start_step=start_step,
        augment=AugmentSettings(
            flip=of("flip"),
            scale_jitter=(low, high),
            color=of("color_jitter"),
            mosaic=of("mosaic"),
            mixup=of("mixup"),
        ),
        select=lesson.select,
        max_boxes=settings.max_boxes,
        rows=lesson.rows,
        worker_index=worker_index,
        num_workers=num_workers,
    )


def train_settings(settings: config.Config, stage: str, *, steps: int) -> TrainSettings:
    """The training loop's settings of a stage."""
    of = lambda name: settings.of(stage, name)  # noqa: E731
    network = settings.teacher_model if stage == "teacher" else settings.student
    return TrainSettings(
        steps=steps,
        batch_size=of("batch_size"),
        learning_rate=of("learning_rate") or default_learning_rate(network),
        warmup_steps=round(steps * of("warmup_fraction")),
        decay_steps=max(1, round(steps * of("decay_fraction"))),
        optimizer=of("optimizer"),
        weight_decay=of("weight_decay"),
        clip_norm=settings.clip_norm,
        ema_decay=settings.ema_decay,
        accumulate=of("accumulate"),
        precision=settings.precision,
        jit_compile=settings.jit_compile,
        freeze_batch_norm=of("freeze_batch_norm"),
        steps_per_call=settings.steps_per_call,
        eval_every=of("eval_every"),
        checkpoint_every=settings.checkpoint_every,
        judge_start=stage == "finetune",
        seed=settings.seed,
    )
