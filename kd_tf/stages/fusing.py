"""What the teachers said becomes labels: calibrated, fused, with thresholds, written."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from absl import logging

from kd_tf import checks, files
from kd_tf.data import labeled, leakage, taught
from kd_tf.data.items import Source
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.evaluation.agreement import agreement
from kd_tf.specs import DATA_KINDS, names_list, parse
from kd_tf.stages import job, labels, teachers
from kd_tf.stages.run import Run
from kd_tf.stages.teachers import Answers
from kd_tf.teachers import calibrate, categories, fit_thresholds, thresholds
from kd_tf.teachers.also_write import also_write
from kd_tf.teachers.fusion import FusionSettings, fuse
from kd_tf.teachers.label_job import LabelWriter
from kd_tf.teachers.labeller import Labeller, LabelSettings, judged_classes
from kd_tf.teachers.predict_job import shard_path
from kd_tf.teachers.predictions import Prediction, read_predictions
from kd_tf.teachers.scored import Scored, match_to_labels

THRESHOLDS = "thresholds.json"
_COVERAGE = "coverage.json"
_AGREEMENT = "agreement.json"


def coverage(
    run: Run,
    known: dict[str, tuple[str, ...]],
    data: tuple[labels.LabeledData, Source] | None,
) -> categories.Coverage:
    """Who knows which of the run's classes.

    Args:
        run: The run.
        known: The classes of all its teachers, by name.
        data: As in `Fusing`.

    Raises:
        UserError: A class of a teacher maps to none of the run's.
    """
    settings = run.settings
    rules = categories.read_rules(settings.class_map, drop_unknown=settings.drop_unknown_classes)
    if data:
        names = data[0].class_names
    elif settings.classes:
        names = labels.class_list(settings, [])
    else:
        names = categories.joint_class_names(known, rules=rules)
    return categories.cover(known, names, rules=rules)


@dataclasses.dataclass(frozen=True)
class Fusing:
    """Turns the teachers' answers into labels.

    Attributes:
        run: The run.
        source: The listing.
        answers: Of every teacher about the listing; the last may still be at work.
        known: The teachers' classes, by name.
        trials: Of every teacher about the validation images; empty where they are not needed.
        data: The labelled data and its validation images; None where nothing is labelled.
    """

    run: Run
    source: Source
    answers: list[Answers]
    known: dict[str, tuple[str, ...]]
    trials: list[Answers]
    data: tuple[labels.LabeledData, Source] | None

    @functools.cached_property
    def writer(self) -> LabelWriter:
        """Writes the shards, each when every teacher has come so far."""
        if self.answers[0].is_complete():
            self._refuse_leakage(self.answers[0].read())
        logging.info("Who knows what:\n%s", self._coverage.table())
        settings = self.run.settings
        chosen = self._chosen.score.astype(np.float32)
        return LabelWriter(
            self.source,
            self._labellers,
            folder=self.run.folder("pseudo"),
            work=teachers.workers(settings),
            settings=LabelSettings(self._coverage.class_names, self._fusion, chosen),
        )

    def write(self, shard: int) -> None:
        """Writes a shard's labels beside the last teacher, unless the images are held out."""
        folder, num = self.answers[0].folder, self.run.settings.num_shards
        if not self.answers[0].is_complete():
            self._refuse_leakage(read_predictions(shard_path(folder, shard, num_shards=num)))
        self.writer.write(shard)

    def can_begin(self) -> bool:
        """Whether labels can be written before the last teacher has finished.

        Thresholds for a number of boxes per image are known from all its answers only.
        """
        return bool(self.trials) or self.run.settings.score_threshold != "auto"

    def finish(self) -> job.Result:
        """Writes what is missing, once every teacher has finished."""
        self._refuse_leakage(self.answers[0].read())
        counts = self.writer.finish()
        folder, coverage = self.run.folder("pseudo"), self._coverage
        thresholds.write(self._chosen, files.join(folder, THRESHOLDS))
        files.write_json(files.join(folder, _COVERAGE), coverage.to_json())
        if len(self.answers) > 1:
            files.write_json(files.join(folder, _AGREEMENT), self._agreement())
        formats = names_list(self.run.settings.also_write)
        if formats:
            also_write(RecordSet.open(folder), folder=folder, formats=formats)
        info = {"class_names": list(coverage.class_names), "coverage": coverage.hash()}
        return job.Result(teachers.shards(folder), counts, info)

    def _refuse_leakage(self, seen: Iterable[Prediction]) -> None:
        """The student must not learn from images that choose its checkpoint, or that score it."""
        settings = self.run.settings
        if not (self.data or settings.eval_data):
            return
        allowed = set(names_list(settings.allow_leakage))
        used = {one.sha256: one.key for one in seen if one.sha256}
        flags = " ".join(f"--unlabeled={text}" for text in settings.unlabeled) or "--labeled"
        used_name = f"the {len(used)} images looked at of {flags}"
        if self.data:
            names = {parse(text, DATA_KINDS).name for text in settings.unlabeled}
            names = names or {self.source.name}
            leakage.refuse_leakage(
                labeled.open_labeled(self.data[0].folder, labels.VAL).digests,
                used,
                held_out_name="the validation data",
                used_name=used_name,
                data_set=",".join(sorted(names)),
                allow=bool(names & allowed),
            )
        if settings.eval_data:
            leakage.refuse_leakage(
                self._eval_digests,
                used,
                held_out_name=f"--eval_data={settings.eval_data}",
                used_name=used_name,
                data_set=parse(settings.eval_data, DATA_KINDS).name,
                allow=parse(settings.eval_data, DATA_KINDS).name in allowed,
            )

    @functools.cached_property
    def _eval_digests(self) -> dict[str, str]:
        return leakage.read_digests(open_source(parse(self.run.settings.eval_data, DATA_KINDS)))

    @property
    def _fusion(self) -> FusionSettings:
        settings = self.run.settings
        return FusionSettings(
            method=settings.fusion,
            iou_threshold=settings.fusion_iou,
            max_detections=settings.max_detections,
        )

    @functools.cached_property
    def _coverage(self) -> categories.Coverage:
        return coverage(self.run, self.known, self.data)

    @functools.cached_property
    def _labellers(self) -> list[Labeller]:
        coverage = self._coverage
        plain = [
            Labeller(one.name, one.folder, class_map, known.astype(np.float64))
            for one, class_map, known in zip(
                self.answers, coverage.class_maps, coverage.known, strict=True
            )
        ]
        ap_by_class = [
            teachers.validation_ap(self.run, trial, self.data[1], who=who)
            for trial, who in zip(self.trials, plain, strict=False)
        ]
        weights = categories.weights(coverage, teacher_weights=self._weights(ap_by_class))
        plain = [
            dataclasses.replace(who, weights=row) for who, row in zip(plain, weights, strict=True)
        ]
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

    def _weights(self, ap_by_class: list[list[float]]) -> dict[str, float]:
        """What each teacher counts: as the user says, else by its AP, else all the same."""
        given = checks.teacher_weights(self.run.settings)
        if given or len(self.answers) < 2:
            return given
        if not ap_by_class:
            logging.warning(
                "Nobody knows which of the teachers is better, so they count the same. A weak one "
                "then costs labels of a strong one: give --labeled, or --teacher_weights."
            )
            return {}
        found = categories.weights_by_ap(self._coverage, ap_by_class)
        logging.info(
            "Teachers' weights, by AP on the validation images: %s.",
            ", ".join(f"{name}={value:.3g}" for name, value in found.items()),
        )
        return found

    @functools.cached_property
    def _chosen(self) -> thresholds.Thresholds:
        settings, names = self.run.settings, self._coverage.class_names
        wanted, ignore = settings.score_threshold, settings.ignore_threshold
        if checks.threshold_file(settings):
            return thresholds.read(wanted, names, ignore=ignore)
        if wanted != "auto":
            return thresholds.fixed(names, score=float(wanted), ignore=ignore)
        # The band keeps the proportion it has at the default threshold of one half.
        ratio = settings.ignore_threshold / 0.5
        if not self.trials:
            return fit_thresholds.fit_prior(
                self._fused(self.answers, self._labellers),
                names,
                boxes_per_image=settings.boxes_per_image,
                ignore_ratio=ratio,
            )
        scored = self._scored(self._labellers)
        if settings.thresholds_for == "f1":
            return fit_thresholds.fit_f1(scored, names, ignore_ratio=ratio)
        precision = float(settings.thresholds_for)
        return fit_thresholds.fit_precision(scored, names, precision=precision, ignore_ratio=ratio)

    def _scored(self, labellers: list[Labeller]) -> Scored:
        """Fused detections of the validation images, each right or wrong."""
        data, source = self.data
        trials = [one for one in self.trials if one.name in {who.name for who in labellers}]
        learned = taught.learned_from(
            list(self.run.settings.teacher), workdir=self.run.settings.workdir
        )
        fresh = [one.sha256 not in learned for one in trials[0].read()]
        if not any(fresh):
            raise UserError(
                f"A teacher learned from all {len(fresh)} validation images, so its scores there "
                "say nothing. Give --val_data with other images, or --score_threshold=NUMBER and "
                "--calibration=none."
            )
        truths = (source.read_labels(item)[0] for item in source.items)
        pairs = zip(self._fused(trials, labellers), truths, strict=True)
        return match_to_labels(
            itertools.compress(pairs, fresh),
            num_classes=len(data.class_names),
            known=judged_classes(labellers),
        )

    def _agreement(self) -> dict:
        """How far the teachers agree on the images they label."""
        names = [who.name for who in self._labellers]
        rows = zip(*(one.read() for one in self.answers), strict=True)
        found = (
            {
                who.name: who.in_run_classes(one.detections)
                for one, who in zip(row, self._labellers, strict=True)
            }
            for row in rows
        )
        wanted = dict.fromkeys(names, self._chosen.score)
        return agreement(found, names=names, score_thresholds=wanted)

    def _fused(self, answers: list[Answers], labellers: list[Labeller]) -> Iterator:
        weights = np.stack([who.weights for who in labellers])
        for row in zip(*(one.read() for one in answers), strict=True):
            found = [
                who.in_run_classes(one.detections) for one, who in zip(row, labellers, strict=True)
            ]
            if len(found) == 1:
                yield found[0]
            else:
                yield fuse([found], weights=weights, settings=self._fusion)[0].detections
