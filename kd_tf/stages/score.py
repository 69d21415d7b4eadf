"""Scores detectors with one yardstick: validation while training, and stage evaluate."""

from collections.abc import Iterator, Sequence

from absl import logging

from kd_tf import config, manifests, progress
from kd_tf.data import labeled, leakage
from kd_tf.data.items import Source
from kd_tf.data.predict import Predicted, predict
from kd_tf.data.rejects import check_fraction, count_rejects
from kd_tf.data.sources import open_source
from kd_tf.detectors.network import Network, count_parameters
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.detectors.saving import load_network
from kd_tf.errors import UserError
from kd_tf.evaluation.coco import evaluate as coco_evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.evaluation.measure import Timed, measure, write_measured, write_metrics
from kd_tf.geometry.detections import Detector
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import job, labels
from kd_tf.stages.run import Run
from kd_tf.teachers.fit_thresholds import fit_f1
from kd_tf.teachers.label_job import PREFIX
from kd_tf.teachers.scored import match_to_labels

TRAINED = ("teacher", "baseline", "pretrain", "finetune")
_BATCH_SIZE = 25
# Of a model that brings no thresholds of its own.
_THRESHOLD = 0.5


class Validator:
    """Scores networks on the validation images, and finds their working thresholds there.

    A detector is compiled once for each network object: the weights in it are those of
    the moment.
    """

    def __init__(self, data: labels.LabeledData):
        self._source = data.validation()
        self._truth = ground_truth(self._source, class_names=data.class_names)
        self._detectors: dict[int, NetworkDetector] = {}

    def __call__(self, network: Network) -> float:
        """AP in [0, 1]; 0 where the validation images hold no object of any class."""
        found = ((one.item.image_id, one.detections) for one in self._predict(network))
        return coco_evaluate(self._truth, found)["AP"] or 0.0

    def thresholds(self, network: Network) -> list[float]:
        """Per class the score from which its detections have the best F1."""
        pairs = (
            (one.detections, self._source.read_labels(one.item)[0])
            for one in self._predict(network)
        )
        scored = match_to_labels(
            ((found, truth.boxes, truth.classes, truth.is_crowd) for found, truth in pairs),
            num_classes=len(network.class_names),
        )
        return fit_f1(scored, network.class_names, ignore_ratio=1.0).score.tolist()

    def _predict(self, network: Network) -> Iterator[Predicted]:
        detector = self._detectors.setdefault(
            id(network), NetworkDetector(network, batch_size=_BATCH_SIZE)
        )
        return predict(detector, self._source, batch_size=_BATCH_SIZE)


def evaluate(run: Run) -> bool:
    """Scores what the workdir holds on held-out images."""
    models = trained_models(run)
    if not models and not run.settings.dry_run:
        raise UserError(
            f"{run.settings.workdir} holds no trained model to evaluate. Train one first, "
            "or run --stage=all."
        )
    source = held_out(run)
    inputs = {name: run.input_hash(run.folder(name)) for name in models}
    stage = job.Stage(
        "evaluate", run.folder("evaluate"), inputs=inputs | {"eval_data": source.fingerprint}
    )

    def work() -> job.Result:
        return _evaluate(run, models, source)

    return job.ensure(stage, run, work=work)


def trained_models(run: Run) -> dict[str, str]:
    """Stage -> network file, of the training stages that have finished."""
    return {
        name: run.folder(name, "model.keras")
        for name in TRAINED
        if manifests.is_complete(run.folder(name))
    }


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


def _evaluate(run: Run, models: dict[str, str], source: Source) -> job.Result:
    _refuse_leakage(run, source)
    metrics, counts = {}, manifests.Counts()
    for name, path in models.items():
        network = load_network(path)
        thresholds = working_thresholds(network)
        detector = NetworkDetector(network, batch_size=_BATCH_SIZE)
        metrics[name], counts = score(
            detector, source, thresholds=thresholds, folder=run.folder("evaluate", name)
        )
        metrics[name]["num_parameters"] = count_parameters(network)
    write_metrics(metrics, folder=run.folder("evaluate"))
    check_fraction(
        counts, max_bad_fraction=run.settings.max_bad_fraction, where=f"eval_data {source.name}"
    )
    logging.info("Held-out images: %s (%d)\n%s", source.name, counts.written, table(metrics))
    return job.Result(("metrics.json",), counts)


def working_thresholds(network: Network) -> list[float]:
    """The scores, one per class, from which the network's detections are shown and counted."""
    return network.meta.get("score_thresholds") or [_THRESHOLD] * len(network.class_names)


def score(
    detector: Detector, source: Source, *, thresholds: Sequence[float], folder: str
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
    timed, found, unusable = Timed(detector), [], set()
    counts = manifests.Counts()
    count_rejects(counts, source.rejects)
    answers = predict(timed, source, batch_size=_BATCH_SIZE)
    name = folder.rsplit("/", 1)[-1]
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
    # Unusable boxes; images were counted as they came.
    count_rejects(counts, (one for one in truth.rejects if not one.whole_image))
    measured = measure(truth, found, score_thresholds=thresholds, speed=timed.speed())
    write_measured(truth, measured, folder=folder)
    return measured.metrics, counts


def _refuse_leakage(run: Run, source: Source) -> None:
    """Images that are scored must not have been learned from."""
    used = {}
    for stage, prefix in (("labeled", labels.TRAIN), ("pseudo", PREFIX)):
        if manifests.is_complete(run.folder(stage)):
            used |= labeled.open_labeled(run.folder(stage), prefix).digests
    leakage.refuse_leakage(
        leakage.read_digests(source),
        used,
        held_out_name=f"--eval_data={run.settings.eval_data}",
        used_name=f"what {run.settings.workdir} learned from",
        allow=source.name in config.names_list(run.settings.allow_leakage),
    )


def table(metrics: dict[str, dict]) -> str:
    """The comparison of models that a run ends with, as aligned text."""
    lines = [f"{'model':<12}{'AP':>8}{'AP50':>8}{'APs':>8}{'parameters':>13}{'images/s':>10}"]
    for name, found in metrics.items():
        speed = (found.get("speed") or {}).get("images_per_s")
        lines.append(
            f"{name:<12}"
            + "".join(f"{_text(found[key]):>8}" for key in ("AP", "AP50", "APs"))
            + f"{found['num_parameters']:>13,}"
            + (f"{speed:>10.1f}" if speed else f"{'-':>10}")
        )
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
