"""Stage pseudo: teachers label images, their labels are fused and written to records."""

import functools
from collections.abc import Callable

from absl import logging

from kd_tf import config, files, manifests
from kd_tf.data import views
from kd_tf.data.items import Source
from kd_tf.data.rejects import LIST_NAME
from kd_tf.data.select import SelectSettings
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detector
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import job, labels, teachers
from kd_tf.stages.fusing import THRESHOLDS, Fusing, coverage
from kd_tf.stages.run import Run
from kd_tf.stages.teachers import Question
from kd_tf.teachers import predict_job, thresholds
from kd_tf.teachers.beside import Beside
from kd_tf.teachers.label_job import remove_orphans


def pseudo(run: Run) -> bool:
    """Labels the unlabelled images with every teacher and writes what they agree on."""
    source = images(run)
    refuse_empty_shards(run, num_images=len(source.items))
    specs = teachers.specs(run)
    data = teachers.validation(run)
    asked = [teachers.question(run, s, source, parts=("predictions", s.name)) for s in specs]
    tried = []
    if data and needs_validation(run.settings, num_teachers=len(specs)):
        tried = [teachers.question(run, s, data[1], parts=("validation", s.name)) for s in specs]
    questions = {f"predictions {one.spec.name}": one for one in asked}
    questions |= {f"validation {one.spec.name}": one for one in tried}
    inputs = {
        f"question: {name}": manifests.content_hash(one.stage.identity(run.settings))
        for name, one in questions.items()
    }
    if data:
        inputs["labeled"] = run.input_hash(data[0].folder)
    stage = job.Stage(
        "pseudo",
        run.folder("pseudo"),
        inputs=inputs,
        late_inputs=lambda: {name: one.answers.hash() for name, one in questions.items()},
    )
    if run.settings.dry_run:
        for one in (*tried, *asked):
            teachers.ask(run, one)

    def work() -> job.Result | None:
        try:
            return _label(run, asked, tried, data=data)
        except UserError:
            # Labels of images that are going to be removed must not hold up the next run either.
            for one in questions.values():
                path = files.join(one.answers.folder, LIST_NAME)
                if files.exists(path):
                    files.write_bytes(files.join(stage.folder, LIST_NAME), files.read_bytes(path))
            raise

    return job.ensure(stage, run, work=work, shared=True)


def images(run: Run) -> Source:
    """The listing to label: --unlabeled, else the labelled images with their labels unseen."""
    if run.settings.unlabeled:
        return views.combine(
            [open_source(parse(text, DATA_KINDS)) for text in run.settings.unlabeled]
        )
    if not run.settings.labeled:
        raise UserError("Nothing to label: give --unlabeled=images:FOLDER, or --labeled.")
    return labels.ensure_labeled(run).training_source()


def refuse_empty_shards(run: Run, *, num_images: int) -> None:
    """Refuses more files than images: each costs a lock, a file and its check, also when empty.

    The default number is always right, and a finished stage stays as it is.

    Raises:
        UserError: `--num_shards` is above the number of images.
    """
    number, default = run.settings.num_shards, config.Config().num_shards
    if number > max(num_images, default) and not manifests.is_complete(run.folder("pseudo")):
        raise UserError(
            f"--num_shards={number:,}, and there are {num_images:,} images to label. Give at most "
            f"{max(num_images, default):,}; {default} is enough below some 100,000 images."
        )


def needs_validation(settings: config.Config, *, num_teachers: int) -> bool:
    """Whether the teachers' answers on labelled images are of use."""
    calibrated = num_teachers > 1 and settings.calibration != "none"
    return calibrated or settings.score_threshold == "auto" or settings.min_teacher_ap > 0


def selection(run: Run, class_names: tuple[str, ...]) -> SelectSettings:
    """What training takes from the pseudo labels: the thresholds as they lie there now."""
    path = run.folder("pseudo", THRESHOLDS)
    found = thresholds.read(path, class_names, ignore=run.settings.ignore_threshold)
    return SelectSettings(
        score_threshold=tuple(found.score.tolist()),
        ignore_threshold=tuple(found.ignore.tolist()),
        score_weighting=run.settings.score_weighting,
    )


def _label(
    run: Run,
    asked: list[Question],
    tried: list[Question],
    *,
    data: tuple[labels.LabeledData, Source] | None,
) -> job.Result | None:
    """Asks the teachers, one after the other; beside the last one, labels are written."""
    *first, last = asked
    answers, trials = [one.answers for one in asked], [one.answers for one in tried]
    num_shards = run.settings.num_shards
    for one in answers:
        predict_job.forget_repaired(last.source, folder=one.folder, num_shards=num_shards)
    told = [one.folder for one in (*answers, *trials)]
    remove_orphans(run.folder("pseudo"), answers=told, num_shards=num_shards)
    on_load = _refuse_unfit(run, asked, tried, data=data)
    for one in (*tried, *first):
        teachers.ask(run, one, on_load=on_load)

    @functools.cache
    def fusing(class_names: tuple[str, ...]) -> Fusing:
        known = {one.name: one.class_names() for one in answers[:-1]}
        known[last.spec.name] = class_names
        return Fusing(run, last.source, answers, known, trials, data)

    with Beside() as beside:

        def begin(class_names: tuple[str, ...]) -> Callable[[int], None] | None:
            ready = all(one.is_complete() for one in (*answers[:-1], *trials))
            if not ready or not fusing(class_names).can_begin():
                return None
            write = fusing(class_names).write
            return lambda shard: beside.call(functools.partial(write, shard))

        teachers.ask(run, last, on_load=on_load, beside=begin)
    waiting = [one.folder for one in (*answers, *trials) if not one.is_complete()]
    if waiting:
        logging.info(
            "Left to the worker that is done last: fusing. Not complete yet: %s.",
            ", ".join(waiting),
        )
        return None
    return fusing(answers[-1].class_names()).finish()


def _refuse_unfit(
    run: Run,
    asked: list[Question],
    tried: list[Question],
    *,
    data: tuple[labels.LabeledData, Source] | None,
) -> Callable[[str, Detector], None]:
    """What is called with each teacher when it is loaded, before it has cost anything."""
    known = {one.spec.name: one.answers.class_names() for one in asked if one.answers.is_complete()}
    listings = [asked[0].source, *(one.source for one in tried[:1])]
    others = (data[0].listing, data[1]) if data else ()

    def check(name: str, teacher: Detector) -> None:
        known[name] = teacher.needs().class_names
        if len(known) == len(asked):
            coverage(run, known, data)
        if hasattr(teacher, "check_images"):
            teacher.check_images(listings, others=others)

    return check
