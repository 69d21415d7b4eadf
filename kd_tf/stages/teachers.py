"""The run's teachers: loaded, run over images, and compared with labels where there are some."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
from absl import logging

from kd_tf import checks, config, files, manifests
from kd_tf.data.items import Source
from kd_tf.errors import UserError
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.export import formats
from kd_tf.geometry.detections import Detector
from kd_tf.specs import TEACHER_KINDS, Spec, parse
from kd_tf.stages import job, labels
from kd_tf.stages.run import Run
from kd_tf.teachers import load, predict_job, tta
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.labeller import Labeller, judged_classes
from kd_tf.teachers.predictions import Prediction, read_predictions

_SCORE_FLOOR = 0.01
_NAMES = "class_names"


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one teacher said about a listing.

    Attributes:
        name: The teacher's name.
        folder: Where its raw predictions lie.
    """

    name: str
    folder: str

    def is_complete(self) -> bool:
        """Whether all workers have finished."""
        return manifests.is_complete(self.folder)

    def hash(self) -> str:
        """Content hash of what was said."""
        return manifests.identity_hash(self.folder) if self.is_complete() else "not there"

    def class_names(self) -> tuple[str, ...]:
        """The teacher's own classes."""
        return tuple(manifests.read(self.folder).info[_NAMES])

    def read(self) -> Iterator[Prediction]:
        """Every image's prediction, in the order of the listing."""
        for name in shards(self.folder):
            yield from read_predictions(files.join(self.folder, name))


@dataclasses.dataclass(frozen=True)
class Question:
    """A teacher, the listing it is to look at, and the stage of work that this is."""

    spec: Spec
    source: Source
    stage: job.Stage

    @property
    def answers(self) -> Answers:
        """What the teacher said, or will have said."""
        return Answers(self.spec.name, self.stage.folder)


def specs(run: Run) -> list[Spec]:
    """The teachers given, else the one that stage teacher trained."""
    if run.settings.teacher:
        return [parse(text, TEACHER_KINDS) for text in run.settings.teacher]
    return [parse(f"keras:{run.folder('teacher', 'model.keras')}?name=teacher", TEACHER_KINDS)]


def load_teacher(run: Run, spec: Spec, *, most_images: int | None = None) -> Detector:
    """A teacher, wrapped to see mirrored, scaled or tiled images where the settings say so.

    Args:
        run: The run.
        spec: The teacher.
        most_images: Most that it will be given at once, where that is known; to a larger batch
            it would only fill them up.
    """
    settings = run.settings
    batch_size = min(settings.pseudo_batch_size, most_images or settings.pseudo_batch_size)
    if spec.kind == "tflite" and formats.is_exported_tflite(spec.location):
        # A student as a teacher, or to be scored: its boxes are decoded by our runner.
        one = formats.load_detector(spec.location)
    else:
        limits = load.LoadSettings(
            batch_size=batch_size,
            score_floor=_SCORE_FLOOR,
            max_detections=settings.max_detections,
            strategy=run.strategy,
        )
        one = load.load_teacher(spec, settings=limits)
    if hasattr(one, "recall"):
        if settings.tta_scales or settings.tta_flip or settings.tta_tiles:
            logging.warning("%s: results are what they are; --tta_* does not apply.", spec.name)
        return one
    fusion = FusionSettings(method="wbf", max_detections=settings.max_detections)
    scales = checks.tta_scales(settings)
    if scales:
        one = tta.Scaled(one, scales=scales, fusion=fusion)
    if settings.tta_flip:
        one = tta.FlippedToo(one, fusion=fusion)
    if settings.tta_tiles:
        one = tta.Tiled(one, fusion=dataclasses.replace(fusion, method="nms"))
    return one


def question(run: Run, spec: Spec, source: Source, *, parts: tuple[str, ...]) -> Question:
    """What a teacher sees in a listing, to be kept in a folder below the workdir."""
    stage = job.Stage(
        "predictions",
        run.folder(*parts),
        inputs={"listing": source.fingerprint, "teacher": _teacher_hash(run, spec)},
        # The run's own teacher is known by its content, wherever the workdir lies.
        more_identity={"teacher": spec.text if run.settings.teacher else "of stage teacher"},
    )
    return Question(spec, source, stage)


def ask(
    run: Run,
    asked: Question,
    *,
    on_load: Callable[[str, Detector], None] | None = None,
    beside: Callable[[tuple[str, ...]], Callable[[int], None] | None] | None = None,
) -> None:
    """A teacher's raw predictions for a listing, made now if they are not there.

    Predictions for the same question are kept, with --overwrite too. To have a teacher asked
    again, because a file changed under its name, say, its folder is to be removed.

    Args:
        run: The run.
        asked: The teacher, the listing and where the predictions go.
        on_load: Called with the teacher's name and the teacher before it sees an image.
        beside: Given the teacher's classes, what to call with each shard that is finished.
    """
    name, folder = asked.spec.name, asked.stage.folder

    def work() -> job.Result | None:
        teacher = load_teacher(run, asked.spec)
        if on_load:
            on_load(name, teacher)
        class_names = teacher.needs().class_names
        counts = predict_job.label_predictions(
            teacher,
            asked.source,
            name=name,
            folder=folder,
            work=workers(run.settings),
            score_floor=_SCORE_FLOOR,
            on_shard=beside(class_names) if beside else None,
        )
        if counts is None:
            return None
        return job.Result(shards(folder), counts, {_NAMES: list(class_names)})

    job.ensure(asked.stage, run, work=work, keep=True, shared=True)


def workers(settings: config.Config) -> predict_job.Work:
    """How the labelling is cut and which part is this worker's."""
    return predict_job.Work(
        num_shards=settings.num_shards,
        worker_index=settings.worker_index,
        num_workers=settings.num_workers,
        batch_size=settings.pseudo_batch_size,
        max_bad_fraction=settings.max_bad_fraction,
        max_detections=settings.max_detections,
    )


def shards(folder: str) -> tuple[str, ...]:
    """Names of the record files in a folder, in order."""
    return tuple(name for name in files.list_folder(folder) if name.endswith(".tfrecord"))


def validation_ap(run: Run, answers: Answers, source: Source, *, who: Labeller) -> list[float]:
    """A teacher's AP [C] on the validation images; NaN for a class without an object there.

    Raises:
        UserError: Its mean over the classes it knows, as it labels no others, is below
            --min_teacher_ap.
    """
    truth = ground_truth(source, class_names=source.class_names)
    found = ((one.image_id, who.in_run_classes(one.detections)) for one in answers.read())
    per_class = evaluate(truth, found)["per_class"]
    ap_by_class = [
        math.nan if (ap := per_class[name]) is None else ap for name in truth.class_names
    ]
    known = np.array(ap_by_class)[judged_classes([who])]
    known = known[np.isfinite(known)]
    ap = float(known.mean()) if len(known) else None
    said = "none (no class it knows is there)" if ap is None else f"{ap:.3f}"
    logging.info("teacher %s: AP %s on the validation images.", answers.name, said)
    if ap is not None and ap < run.settings.min_teacher_ap:
        raise UserError(
            f"Teacher {answers.name} has AP {ap:.3f} on the validation images, in the classes it "
            f"knows, below --min_teacher_ap={run.settings.min_teacher_ap}. Look at it with "
            "--stage=probe."
        )
    return ap_by_class


def _teacher_hash(run: Run, spec: Spec) -> str:
    if run.settings.dry_run and not run.settings.teacher and not files.exists(spec.location):
        return "not there yet"
    return load.content_hash(spec)


def validation(run: Run) -> tuple[labels.LabeledData, Source] | None:
    """The labelled data and its validation images; None where nothing is labelled."""
    if not run.settings.labeled:
        return None
    data = labels.ensure_labeled(run)
    return data, data.validation()
