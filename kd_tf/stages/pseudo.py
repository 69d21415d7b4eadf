"""Stage pseudo: teachers label images, their labels are fused and written to records."""

import itertools

import numpy as np
from absl import logging

from kd_tf import config, files, manifests
from kd_tf.data import views
from kd_tf.data.items import Source
from kd_tf.data.select import SelectSettings
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.specs import DATA_KINDS, TEACHER_KINDS, Spec, parse
from kd_tf.stages import job, labels
from kd_tf.stages.run import Run
from kd_tf.teachers import load, predict_job
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import Labeller, LabelSettings, write_labels

_SCORE_FLOOR = 0.01


def pseudo(run: Run) -> bool:
    """Labels the unlabelled images with every teacher and writes what they agree on."""
    specs = teacher_specs(run)
    source = _images(run)
    work = _work(run.settings)
    folders = {spec.name: _ensure_predictions(run, spec, source, work) for spec in specs}
    missing = [name for name, folder in folders.items() if not manifests.is_complete(folder)]
    if missing and not run.settings.dry_run:
        logging.info("pseudo labels wait for other workers' predictions: %s.", ", ".join(missing))
        return True
    inputs = {f"predictions {name}": run.input_hash(folder) for name, folder in folders.items()}
    stage = job.Stage("pseudo", run.folder("pseudo"), inputs=inputs)

    def write() -> job.Result | None:
        return _write(run, folders, source=source, work=work)

    return job.ensure(stage, run.settings, work=write, redo=run.redo)


def teacher_specs(run: Run) -> list[Spec]:
    """The teachers of the run: those given, else the one that stage teacher trained."""
    if run.settings.teacher:
        return [parse(text, TEACHER_KINDS) for text in run.settings.teacher]
    return [parse(f"keras:{run.folder('teacher', 'model.keras')}?name=teacher", TEACHER_KINDS)]


def selection(settings: config.Config) -> SelectSettings:
    """What training takes from the pseudo labels."""
    return SelectSettings(
        score_threshold=float(settings.score_threshold),
        ignore_threshold=settings.ignore_threshold,
        score_weighting=settings.score_weighting,
    )


def _images(run: Run) -> Source:
    """The listing to label: --unlabeled, else the labelled images with their labels unseen."""
    if run.settings.unlabeled:
        return views.combine(
            [open_source(parse(text, DATA_KINDS)) for text in run.settings.unlabeled]
        )
    if not run.settings.labeled:
        raise UserError("Nothing to label: give --unlabeled=images:FOLDER, or --labeled.")
    return labels.ensure_labeled(run).training_source()


def _work(settings: config.Config) -> predict_job.Work:
    return predict_job.Work(
        num_shards=settings.num_shards,
        worker_index=settings.worker_index,
        num_workers=settings.num_workers,
        batch_size=settings.pseudo_batch_size,
        max_bad_fraction=settings.max_bad_fraction,
    )


def _ensure_predictions(run: Run, spec: Spec, source: Source, work: predict_job.Work) -> str:
    """The folder of one teacher's raw predictions, made now if they are not there."""
    folder = run.folder("predictions", spec.name)
    stage = job.Stage(
        "predictions",
        folder,
        inputs={"listing": source.fingerprint, "teacher": load.content_hash(spec)},
        more_identity={"teacher": spec.text, "num_shards": work.num_shards},
    )

    def predict() -> job.Result | None:
        settings = load.LoadSettings(batch_size=work.batch_size, score_floor=_SCORE_FLOOR)
        teacher = load.load_teacher(spec, settings=settings)
        counts = predict_job.label_predictions(
            teacher, source, name=spec.name, folder=folder, work=work, score_floor=_SCORE_FLOOR
        )
        if counts is None:
            return None
        return job.Result(
            _shards(folder), counts, {"class_names": list(teacher.needs().class_names)}
        )

    job.ensure(stage, run.settings, work=predict, redo=run.redo)
    return folder


def _shards(folder: str) -> tuple[str, ...]:
    return tuple(name for name in files.list_folder(folder) if name.endswith(".tfrecord"))


def _write(
    run: Run, folders: dict[str, str], *, source: Source, work: predict_job.Work
) -> job.Result | None:
    settings, folder = run.settings, run.folder("pseudo")
    known = {name: manifests.read(path).info["class_names"] for name, path in folders.items()}
    data = labels.ensure_labeled(run) if settings.labeled else None
    class_names = (
        data.class_names if data else tuple(dict.fromkeys(itertools.chain(*known.values())))
    )
    labellers = [
        _labeller(name, path, known=known[name], class_names=class_names)
        for name, path in folders.items()
    ]
    label_settings = LabelSettings(
        class_names=class_names,
        fusion=FusionSettings(method=settings.fusion, iou_threshold=settings.fusion_iou),
        score_thresholds=np.full(len(class_names), float(settings.score_threshold), np.float32),
    )
    counts = write_labels(source, labellers, folder=folder, work=work, settings=label_settings)
    if counts is None:
        return None
    return job.Result(_shards(folder), counts, {"class_names": list(class_names)})


def _labeller(
    name: str, folder: str, *, known: list[str], class_names: tuple[str, ...]
) -> Labeller:
    index = {one: number for number, one in enumerate(class_names)}
    class_map = np.array([index.get(one, -1) for one in known], np.int32)
    weights = np.zeros(len(class_names))
    weights[class_map[class_map >= 0]] = 1.0
    return Labeller(name, folder, class_map, weights)
