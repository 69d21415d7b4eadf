"""Scores detectors with one yardstick: while training, in stage evaluate, and after an export."""

from collections.abc import Iterator, Sequence

import tensorflow as tf
from absl import logging

from kd_tf import manifests, progress
from kd_tf.data import labeled, leakage
from kd_tf.data.items import Source
from kd_tf.data.predict import Predicted, Recaller, predict
from kd_tf.data.rejects import NOT_SCORED, count_rejects
from kd_tf.data.sources import open_source
from kd_tf.detectors.network import Network
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.errors import UserError
from kd_tf.evaluation.coco import evaluate as coco_evaluate
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.evaluation.measure import Timed, measure, write_measured
from kd_tf.geometry.detections import DEFAULT_THRESHOLD, Detector
from kd_tf.specs import DATA_KINDS, names_list, parse
from kd_tf.stages import labels
from kd_tf.stages.run import Run
from kd_tf.teachers.fit_thresholds import fit_f1
from kd_tf.teachers.label_job import PREFIX
from kd_tf.teachers.scored import match_to_labels

BATCH_SIZE = 25
_NAMED = 20
# Stage -> first part of the names of the records that students learn from.
_LEARNED = {"labeled": labels.TRAIN, "pseudo": PREFIX}


class Validator:
    """Scores networks on the validation images, and finds their working thresholds there.

    A detector is compiled once for each network object: the weights in it are those of
    the moment.
    """

    def __init__(
        self, source: Source, truth: GroundTruth, *, strategy: tf.distribute.Strategy | None
    ):
        self._source, self._truth, self._strategy = source, truth, strategy
        self._detectors: dict[int, NetworkDetector] = {}

    def __call__(self, network: Network) -> float:
        """AP in [0, 1]."""
        found = ((one.item.image_id, one.detections) for one in self._predict(network))
        return coco_evaluate(self._truth, found)["AP"]

    def thresholds(self, network: Network) -> list[float]:
        """Per class the score from which its detections have the best F1."""
        pairs = (
            (one.detections, self._source.read_labels(one.item)[0])
            for one in self._predict(network)
        )
        scored = match_to_labels(pairs, num_classes=len(network.class_names))
        return fit_f1(scored, network.class_names, ignore_ratio=1.0).score.tolist()

    def _predict(self, network: Network) -> Iterator[Predicted]:
        detector = self._detectors.setdefault(
            id(network),
            NetworkDetector(network, batch_size=BATCH_SIZE, strategy=self._strategy),
        )
        return predict(detector, self._source, batch_size=BATCH_SIZE)


def build_validator(
    data: labels.LabeledData, *, strategy: tf.distribute.Strategy | None = None
) -> Validator | None:
    """None, said aloud, where the validation images hold no object of the run's classes.

    Args:
        data: Whose validation images count.
        strategy: In whose scope the networks are that will be scored.
    """
    source = data.validation()
    truth = ground_truth(source, class_names=data.class_names)
    if not truth.is_crowd.all():
        return Validator(source, truth, strategy=strategy)
    logging.warning(
        "The %d validation images hold no object of the run's classes (%s), so they choose neither "
        "checkpoints nor thresholds: the last weights are kept. Give --val_data with such objects, "
        "or a larger --val_fraction.", truth.num_images, ", ".join(truth.class_names),
    )  # fmt: skip
    return None


def held_out(run: Run) -> Source:
    """The images of --eval_data; without it, said aloud, those of validation."""
    if run.settings.eval_data:
        return open_source(parse(run.settings.eval_data, DATA_KINDS))
    if not run.settings.labeled:
        raise UserError("Nothing to score on: give --eval_data=KIND:LOCATION with labels.")
    logging.warning(
        "No --eval_data: scored on the validation images, which also chose the checkpoints. "
        "These numbers flatter; give held-out data for honest ones."
    )
    return labels.ensure_labeled(run).validation()


def working_thresholds(network: Network) -> list[float]:
    """The scores, one per class, from which the network's detections are shown and counted."""
    return network.meta.get("score_thresholds") or [DEFAULT_THRESHOLD] * len(network.class_names)


def score(
    detector: Detector | Recaller, source: Source, *, thresholds: Sequence[float], folder: str
) -> tuple[dict, manifests.Counts]:
    """Scores any detector on a source.

    Args:
        detector: Student, teacher or export.
        source: Labelled images.
        thresholds: Working threshold of each of the detector's classes.
        folder: Gets detections.json and curves.json.

    Returns:
        The model's numbers for metrics.json, and what became of the images.
    """
    # What knows its answers already has no speed.
    timed = None if hasattr(detector, "recall") else Timed(detector)
    found, unusable = [], set()
    counts = manifests.Counts()
    count_rejects(counts, source.rejects)
    name = folder.rsplit("/", 1)[-1]
    answers = predict(timed or detector, source, batch_size=BATCH_SIZE, name=name)
    for one in progress.follow(
        answers, total=len(source.items), unit="images", description=f"score {name}"
    ):
        counts.seen += 1
        if one.reject:
            counts.skip(one.reject.reason, one.reject.what, detail=one.reject.detail)
            unusable.add(one.item.image_id)
        else:
            counts.written += 1
            found.append((one.item.image_id, one.detections))
    truth = ground_truth(source, class_names=detector.needs().class_names, skip=unusable)
    count_unscored(counts, truth)
    known = set(truth.image_ids.tolist())
    found = ((image_id, detections) for image_id, detections in found if image_id in known)
    measured = measure(truth, found, score_thresholds=thresholds, speed=timed and timed.speed())
    write_measured(truth, measured, folder=folder)
    return measured.metrics, counts


def count_unscored(counts: manifests.Counts, truth: GroundTruth) -> None:
    """Counts what people marked and nothing is scored against, and says so.

    Args:
        counts: Of the images, those that could be decoded counted as written.
        truth: Its rejects and its objects of unknown classes are counted.
    """
    count_rejects(counts, truth.rejects)
    counts.kept_boxes += len(truth.classes)
    unreadable = sum(reject.whole_image for reject in truth.rejects)
    counts.seen -= unreadable  # They were seen when they were decoded.
    counts.written -= unreadable
    if truth.unknown_classes:
        counts.skipped_boxes[NOT_SCORED] += sum(truth.unknown_classes.values())
        counts.examples[NOT_SCORED] = list(truth.unknown_classes)[:_NAMED]
        logging.warning(
            "Objects of classes that are not scored, as the class list lacks them: %s.",
            ", ".join(f"{name} ({num})" for name, num in truth.unknown_classes.items()),
        )


def refuse_leakage(run: Run, source: Source, *, stages: Sequence[str] = tuple(_LEARNED)) -> None:
    """Images that are scored must not have been learned from, nor be in what these stages made."""
    used = {}
    for stage, prefix in _LEARNED.items():
        if stage in stages and manifests.is_complete(run.folder(stage)):
            used |= labeled.open_labeled(run.folder(stage), prefix).digests
    if not used:
        return
    leakage.refuse_leakage(
        leakage.read_digests(source),
        used,
        held_out_name=f"--eval_data={run.settings.eval_data}",
        used_name=f"what {run.settings.workdir} learned from",
        data_set=source.name,
        allow=source.name in names_list(run.settings.allow_leakage),
    )
