"""Stage pseudo: teachers label images, their labels are fused and written to records."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from absl import logging

from kd_tf import config, files
from kd_tf.data import labeled, leakage, views
from kd_tf.data.items import Source
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.evaluation.agreement import agreement
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import job, labels, teachers
from kd_tf.stages.run import Run
from kd_tf.stages.teachers import Answers
from kd_tf.teachers import calibrate, categories, fit_thresholds, thresholds
from kd_tf.teachers.also_write import also_write
from kd_tf.teachers.fusion import FusionSettings, fuse
from kd_tf.teachers.label_job import Labeller, LabelSettings, write_labels
from kd_tf.teachers.scored import Scored, match_to_labels

THRESHOLDS = "thresholds.json"
_COVERAGE = "coverage.json"
_AGREEMENT = "agreement.json"


def pseudo(run: Run) -> bool:
    """Labels the unlabelled images with every teacher and writes what they agree on."""
    source = images(run)
    specs = teachers.specs(run)
    answers = [teachers.ask(run, spec, source, parts=("predictions", spec.name)) for spec in specs]
    data = teachers.validation(run)
    trials = []
    if data and needs_validation(run.settings, num_teachers=len(specs)):
        trials = [
            teachers.ask(run, spec, data[1], parts=("validation", spec.name)) for spec in specs
        ]
    waiting = [one.folder for one in [*answers, *trials] if not one.is_complete()]
    if waiting and not run.settings.dry_run:
        logging.info("Fusing waits for other workers: %s.", ", ".join(waiting))
        return True
    inputs = {f"predictions {one.name}": run.input_hash(one.folder) for one in answers}
    inputs |= {f"validation {one.name}": run.input_hash(one.folder) for one in trials}
    stage = job.Stage("pseudo", run.folder("pseudo"), inputs=inputs)

    def work() -> job.Result | None:
        return _Fusing(run, answers, trials, data).write(source)

    return job.ensure(stage, run, work=work)


def images(run: Run) -> Source:
    """The listing to label: --unlabeled, else the labelled images with their labels unseen."""
    if run.settings.unlabeled:
        return views.combine(
            [open_source(parse(text, DATA_KINDS)) for text in run.settings.unlabeled]
        )
    if not run.settings.labeled:
        raise UserError("Nothing to label: give --unlabeled=images:FOLDER, or --labeled.")
    return labels.ensure_labeled(run).training_source()


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


@dataclasses.dataclass(frozen=True)
class _Fusing:
    """Turns the teachers' answers into labels."""

    run: Run
    answers: list[Answers]
    trials: list[Answers]
    data: tuple[labels.LabeledData, Source] | None

    def write(self, source: Source) -> job.Result | None:
        settings, folder = self.run.settings, self.run.folder("pseudo")
        self._refuse_leakage()
        coverage = self._coverage()
        logging.info("Who knows what:\n%s", coverage.table())
        labellers = self._labellers(coverage)
        chosen = self._thresholds(coverage, labellers)
        fusion = FusionSettings(method=settings.fusion, iou_threshold=settings.fusion_iou)
        counts = write_labels(
            source,
            labellers,
            folder=folder,
            work=teachers.workers(settings),
            settings=LabelSettings(coverage.class_names, fusion, chosen.score.astype(np.float32)),
        )
        if counts is None:
            return None
        thresholds.write(chosen, files.join(folder, THRESHOLDS))
        files.write_json(files.join(folder, _COVERAGE), coverage.to_json())
        if len(labellers) > 1:
            files.write_json(files.join(folder, _AGREEMENT), self._agreement(labellers, chosen))
        formats = config.names_list(settings.also_write)
        if formats:
            also_write(RecordSet.open(folder), folder=folder, formats=formats)
        info = {"class_names": list(coverage.class_names), "coverage": coverage.hash()}
        return job.Result(teachers.shards(folder), counts, info)

    def _refuse_leakage(self) -> None:
        """The student must not learn from images that choose its checkpoint."""
        settings = self.run.settings
        if not self.data:
            return
        names = {parse(text, DATA_KINDS).name for text in settings.unlabeled}
        seen = (one for one in self.answers[0].read() if one.sha256)
        leakage.refuse_leakage(
            labeled.open_labeled(self.data[0].folder, labels.VAL).digests,
            {one.sha256: one.key for one in seen},
            held_out_name="the validation data",
            used_name=" ".join(f"--unlabeled={text}" for text in settings.unlabeled),
            allow=bool(names & set(config.names_list(settings.allow_leakage))),
        )

    def _coverage(self) -> categories.Coverage:
        settings = self.run.settings
        known = {one.name: one.class_names() for one in self.answers}
        rules = categories.read_rules(
            settings.class_map, drop_unknown=settings.drop_unknown_classes
        )
        if self.data:
            names = self.data[0].class_names
        elif settings.classes:
            names = labels.class_list(settings, [])
        else:
            names = categories.joint_class_names(known, rules=rules)
        return categories.cover(known, names, rules=rules)

    def _labellers(self, coverage: categories.Coverage) -> list[Labeller]:
        weights = categories.weights(
            coverage, teacher_weights=_teacher_weights(self.run.settings.teacher_weights)
        )
        plain = [
            Labeller(one.name, one.folder, class_map, row)
            for one, class_map, row in zip(self.answers, coverage.class_maps, weights, strict=True)
        ]
        for trial, who in zip(self.trials, plain, strict=False):
            teachers.refuse_bad(self.run, trial, self.data[1], who=who)
        method = self.run.settings.calibration
        if len(plain) < 2 or method == "none":
            return plain
        if not self.trials:
            logging.warning("No labelled data: the teachers' scores are fused as they are.")
            return plain
        return [
            dataclasses.replace(who, calibrate=calibrate.fit(self._scored([who]), method=method))
            for who in plain
        ]

    def _thresholds(
        self, coverage: categories.Coverage, labellers: list[Labeller]
    ) -> thresholds.Thresholds:
        settings, names = self.run.settings, coverage.class_names
        wanted = settings.score_threshold
        if wanted != "auto":
            try:
                score = float(wanted)
            except ValueError:
                return thresholds.read(wanted, names, ignore=settings.ignore_threshold)
            return thresholds.fixed(names, score=score, ignore=settings.ignore_threshold)
        # The band keeps the proportion it has at the default threshold of one half.
        ratio = settings.ignore_threshold / 0.5
        if not self.trials:
            return fit_thresholds.fit_prior(
                self._fused(self.answers, labellers),
                names,
                boxes_per_image=settings.boxes_per_image,
                ignore_ratio=ratio,
            )
        scored = self._scored(labellers)
        if settings.thresholds_for == "f1":
            return fit_thresholds.fit_f1(scored, names, ignore_ratio=ratio)
        precision = float(settings.thresholds_for)
        return fit_thresholds.fit_precision(scored, names, precision=precision, ignore_ratio=ratio)

    def _scored(self, labellers: list[Labeller]) -> Scored:
        """Fused detections of the validation images, each right or wrong."""
        data, source = self.data
        trials = [one for one in self.trials if one.name in {who.name for who in labellers}]
        truths = (source.read_labels(item)[0] for item in source.items)
        pairs = zip(self._fused(trials, labellers), truths, strict=True)
        return match_to_labels(
            ((found, truth.boxes, truth.classes, truth.is_crowd) for found, truth in pairs),
            num_classes=len(data.class_names),
        )

    def _agreement(self, labellers: list[Labeller], chosen: thresholds.Thresholds) -> dict:
        """How far the teachers agree on the images they label."""
        names = [who.name for who in labellers]
        rows = zip(*(one.read() for one in self.answers), strict=True)
        found = (
            {
                who.name: who.in_run_classes(one.detections)
                for one, who in zip(row, labellers, strict=True)
            }
            for row in rows
        )
        return agreement(found, names=names, score_thresholds=dict.fromkeys(names, chosen.score))

    def _fused(self, answers: list[Answers], labellers: list[Labeller]) -> Iterator:
        settings = self.run.settings
        fusion = FusionSettings(method=settings.fusion, iou_threshold=settings.fusion_iou)
        weights = np.stack([who.weights for who in labellers])
        for row in zip(*(one.read() for one in answers), strict=True):
            found = [
                who.in_run_classes(one.detections) for one, who in zip(row, labellers, strict=True)
            ]
            if len(found) == 1:
                yield found[0]
            else:
                yield fuse([found], weights=weights, settings=fusion)[0].detections


def _teacher_weights(text: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in config.names_list(text)]
    try:
        return {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        raise UserError(f"--teacher_weights={text!r} must look like big=2,small=1.") from None
