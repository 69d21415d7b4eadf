"""Stage evaluate: scores what the workdir holds, teachers that are given, and pseudo labels."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from kd_tf import files, manifests
from kd_tf.data.items import Source
from kd_tf.data.predict import Recaller
from kd_tf.data.rejects import check_fraction, log_boxes
from kd_tf.detectors import replicas
from kd_tf.detectors.network import count_parameters
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.detectors.saving import load_network, read_spec
from kd_tf.errors import UserError
from kd_tf.evaluation.measure import write_metrics
from kd_tf.export import formats
from kd_tf.geometry.detections import DEFAULT_THRESHOLD, Detector
from kd_tf.specs import Spec
from kd_tf.stages import job, label_quality, labels, score, teachers
from kd_tf.stages.run import Run
from kd_tf.teachers import categories, load
from kd_tf.teachers.labeller import InRunClasses, Labeller

TRAINED = ("teacher", "baseline", "pretrain", "finetune")
EXPORT = "export"
# Of a teacher with the name of one of the workdir's own models.
_GIVEN = "-given"


@dataclasses.dataclass(frozen=True)
class _Model:
    """Something to score.

    Attributes:
        digest: Hash of its content.
        load: Gives the detector, its working thresholds, and its number of parameters, if known.
    """

    digest: str
    load: Callable[[], tuple[Detector | Recaller, Sequence[float], int | None]]


def evaluate(run: Run) -> bool:
    """Scores every model at hand on held-out images, and the pseudo labels on their own."""
    own_labels = run.folder("pseudo") if manifests.is_complete(run.folder("pseudo")) else None
    trained = _trained(run)
    if not (trained or run.settings.teacher or own_labels or run.settings.dry_run):
        raise UserError(
            f"{run.settings.workdir} holds nothing to evaluate. Train a model first, run "
            "--stage=all, or give --teacher=KIND:LOCATION."
        )
    source = score.held_out(run)
    models = trained | _given(run, source, trained=trained)
    inputs = {name: one.digest for name, one in models.items()}
    if own_labels:
        inputs["pseudo"] = run.input_hash(own_labels)
    stage = job.Stage(
        "evaluate",
        run.folder("evaluate"),
        inputs=inputs | {"eval_data": source.fingerprint},
        goes_on_from=job.begins_anew,
    )

    def work() -> job.Result:
        return _evaluate(run, models, source)

    return job.ensure(stage, run, work=work)


def _trained(run: Run) -> dict[str, _Model]:
    """The networks of the training stages that have finished, and what was exported."""
    models = {
        name: _Model(run.input_hash(run.folder(name)), _network_loader(run, name))
        for name in TRAINED
        if manifests.is_complete(run.folder(name))
    }
    folder = run.folder(EXPORT)
    if manifests.is_complete(folder):
        path = next(filter(files.exists, formats.paths(folder)), None)
        if path:
            models[EXPORT] = _Model(run.input_hash(folder), lambda: _load_export(run, path))
    return models


def _network_loader(run: Run, stage: str) -> Callable[[], tuple]:
    def read() -> tuple[Detector, Sequence[float], int]:
        with replicas.scope(run.strategy):
            network = load_network(run.folder(stage, "model.keras"))
        detector = NetworkDetector(network, batch_size=score.BATCH_SIZE, strategy=run.strategy)
        return detector, score.working_thresholds(network), count_parameters(network)

    return read


def _load_export(run: Run, path: str) -> tuple[Detector, Sequence[float], int]:
    detector = formats.load_detector(path)
    made_of = manifests.read(run.folder(detector.meta.stage))
    return detector, detector.meta.score_thresholds, made_of.info["parameters"]


def _given(run: Run, source: Source, *, trained: dict[str, _Model]) -> dict[str, _Model]:
    """The teachers of --teacher, in the classes of the workdir's models, else of the data."""
    settings = run.settings
    specs = teachers.specs(run) if settings.teacher else []
    if settings.stage == "all":
        # A file of results knows the images that are labelled, not those of --eval_data.
        specs = [spec for spec in specs if spec.kind != "results"]
    names = _class_names(run, source)
    return {
        f"{spec.name}{_GIVEN * (spec.name in trained)}": _teacher(run, spec, source, names)
        for spec in specs
    }


def _class_names(run: Run, source: Source) -> tuple[str, ...]:
    for stage in TRAINED:
        if manifests.is_complete(run.folder(stage)):
            return tuple(read_spec(run.folder(stage, "model.keras"))["class_names"])
    return labels.class_list(run.settings, [source])


def _teacher(run: Run, spec: Spec, source: Source, names: tuple[str, ...]) -> _Model:
    def read() -> tuple[Detector | Recaller, Sequence[float], None]:
        one = teachers.load_teacher(run, spec, most_images=score.BATCH_SIZE)
        if hasattr(one, "check_images"):
            one.check_images([source])
        rules = categories.read_rules(
            run.settings.class_map, drop_unknown=run.settings.drop_unknown_classes
        )
        known = one.needs().class_names
        rules = categories.rules_for(rules, spec.name, known)
        coverage = categories.cover({spec.name: known}, names, rules=rules)
        who = Labeller(spec.name, "", coverage.class_maps[0], np.ones(len(names)))
        own = _own_thresholds(spec, len(known))
        thresholds = np.full(len(names), np.inf)
        np.minimum.at(thresholds, who.class_map[who.class_map >= 0], own[who.class_map >= 0])
        thresholds[np.isinf(thresholds)] = DEFAULT_THRESHOLD
        return InRunClasses(one, who, class_names=names), thresholds.tolist(), None

    return _Model(load.content_hash(spec), read)


def _own_thresholds(spec: Spec, num_classes: int) -> np.ndarray:
    """The scores from which a teacher's own classes count: those its file keeps, else one."""
    found = None
    if spec.kind == "keras":
        found = read_spec(spec.location)["meta"].get("score_thresholds")
    elif spec.kind in ("saved_model", "tflite"):
        found = formats.stored_thresholds(spec.location)
    if not found or len(found) != num_classes:
        return np.full(num_classes, DEFAULT_THRESHOLD)
    return np.array(found)


def _evaluate(run: Run, models: dict[str, _Model], source: Source) -> job.Result:
    score.refuse_leakage(run, source)
    metrics, counts_of = {}, {}
    for name, one in models.items():
        detector, thresholds, num_parameters = one.load()
        metrics[name], counts_of[name] = score.score(
            detector, source, thresholds=thresholds, folder=run.folder("evaluate", name)
        )
        metrics[name]["counts"] = counts_of[name].to_json()
        if num_parameters:
            metrics[name]["num_parameters"] = num_parameters
    found = label_quality.measure_labels(run, folder=run.folder("evaluate", "pseudo_labels"))
    write_metrics(metrics, folder=run.folder("evaluate"), labels=found)
    for name, counts in counts_of.items():
        where = f"eval_data {source.name}, scoring {name}"
        check_fraction(counts, max_bad_fraction=run.settings.max_bad_fraction, where=where)
    # Models see the same images; where one could use fewer of them, that is what counts.
    counts = min(counts_of.values(), key=lambda one: one.written, default=manifests.Counts())
    log_boxes(counts, where=f"eval_data {source.name}")
    if metrics:
        logging.info("Held-out images: %s (%d)\n%s", source.name, counts.written, table(metrics))
    return job.Result(("metrics.json",), counts)


def table(metrics: dict[str, dict]) -> str:
    """The comparison of models that a run ends with, as aligned text."""
    width = max(12, *(len(name) + 2 for name in metrics))
    lines = [f"{'model':<{width}}{'AP':>8}{'AP50':>8}{'APs':>8}{'parameters':>13}{'images/s':>10}"]
    for name, found in metrics.items():
        speed = (found.get("speed") or {}).get("images_per_s")
        parameters = found.get("num_parameters")
        lines.append(
            f"{name:<{width}}"
            + "".join(f"{_text(found[key]):>8}" for key in ("AP", "AP50", "APs"))
            + (f"{parameters:>13,}" if parameters else f"{'-':>13}")
            + (f"{speed:>10.1f}" if speed else f"{'-':>10}")
        )
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
