"""Reads one workdir for the report; a part that is not there is named, never guessed."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kd_tf import documents, files, manifests
from kd_tf.data import taught
from kd_tf.data.items import Source
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError
from kd_tf.evaluation import measure
from kd_tf.evaluation.coco import NAMES
from kd_tf.evaluation.collected import Collected, read_results
from kd_tf.evaluation.comparison import compare
from kd_tf.evaluation.ground_truth import GroundTruth, ground_truth
from kd_tf.evaluation.report import gallery, people
from kd_tf.evaluation.report.data import (
    Gallery,
    History,
    LabelFacts,
    RunData,
    StageFacts,
)
from kd_tf.evaluation.report.labels import read_labels
from kd_tf.schema import ANY, NUMBER, TEXT, WHOLE, Schema, check

STAGES = (
    *("labeled", "teacher", "pseudo", "pretrain", "finetune", "baseline"),
    *("evaluate", "export"),
)
STUDENTS = ("finetune", "pretrain", "baseline")
_OWN_MODELS = (*STUDENTS, "export", "pseudo")
TRAINING = ("teacher", "pretrain", "finetune", "baseline")
OpenSource = Callable[[str], Source]
# Enough for an interval to the third digit of AP, and a few seconds for 2,000 images.
NUM_RESAMPLES = 500
_CURVE_POINTS = 400


def load_run(
    workdir: str, *, name: str, open_source: OpenSource | None, gallery_size: int
) -> tuple[RunData, gallery.Evaluated | None]:
    """One run, and its evaluation images where they are at hand.

    Args:
        workdir: A run's folder.
        name: What the page calls it.
        open_source: As for `load_report`.
        gallery_size: Most images in one gallery.

    Raises:
        UserError: `workdir` does not exist.
    """
    if not files.is_folder(workdir):
        raise UserError(f"{workdir} is no folder. Give the --workdir of a run.")
    absent: list[str] = []
    stages = tuple(_stage(workdir, stage) for stage in STAGES if _complete(workdir, stage))
    missing = [stage for stage in STAGES if stage not in {one.name for one in stages}]
    if missing:
        absent.append(f"Stages that have not finished here: {', '.join(missing)}.")
    models = _models(workdir, absent)
    labels, galleries = _labels(workdir, absent, open_source=open_source, gallery_size=gallery_size)
    evaluated = _evaluated(workdir, models, open_source=open_source, absent=absent)
    if evaluated is not None and evaluated.truth.num_images and evaluated.models:
        galleries = _evaluation_galleries(evaluated, size=gallery_size) + galleries
    run = RunData(
        name=name,
        class_names=_class_names(models, labels),
        stages=stages,
        models=models,
        curves=_curves(workdir, models),
        histories=_histories(workdir, absent),
        labels=labels,
        agreement=_optional(workdir, "pseudo", "agreement.json", schema=_AGREEMENT),
        comparison=_compare_models(evaluated),
        galleries=galleries,
        absent=tuple(absent),
    )
    return run, evaluated


def _class_names(models: Mapping[str, dict], labels: LabelFacts | None) -> tuple[str, ...]:
    if models:
        return tuple(next(iter(models.values())).get("per_class", {}))
    return tuple(labels.class_counts) if labels else ()


def _compare_models(evaluated: gallery.Evaluated | None) -> dict | None:
    """Paired differences between the models of a run; None without images or a second model.

    Without the export, which is the student once more.
    """
    if evaluated is None:
        return None
    first = [name for name in STUDENTS if name in evaluated.models]
    names = first + [name for name in evaluated.models if name not in (*first, "export")]
    if len(names) < 2:
        return None
    models = {name: [evaluated.models[name]] for name in names}
    return compare(evaluated.truth, models, num_resamples=NUM_RESAMPLES)


def _complete(workdir: str, stage: str) -> bool:
    return manifests.is_complete(files.join(workdir, stage))


def _stage(workdir: str, name: str) -> StageFacts:
    folder = files.join(workdir, name)
    manifest = manifests.read(folder)
    flags = files.join(folder, "flags.txt")
    counts = manifest.counts
    info: Schema = {f"{name}?": (NUMBER, None) for name in ("seconds", "parameters", "val_ap")}
    path = files.join(folder, manifests.FILE_NAME)
    check(manifest.info, info, path=path, advice="Bring it back from a copy, or run that stage.")
    return StageFacts(
        name=name,
        seconds=manifest.info.get("seconds"),
        settings=manifest.identity,
        info=manifest.info,
        seen=counts.seen,
        written=counts.written,
        skipped=dict(counts.skipped),
        skipped_boxes=dict(counts.skipped_boxes),
        examples=counts.examples,
        flags=documents.read_text(flags) if files.exists(flags) else "",
    )


def _models(workdir: str, absent: list[str]) -> dict[str, dict]:
    content = _optional(workdir, "evaluate", measure.METRICS, schema=_METRICS)
    if content is None:
        absent.append("Nothing was evaluated: no metrics, no curves, no mistakes.")
        return {}
    return content["models"]


def _curves(workdir: str, models: Mapping[str, dict]) -> dict[str, dict]:
    read = {
        name: _optional(workdir, "evaluate", name, measure.CURVES, schema=_CURVES)
        for name in models
    }
    return {name: content for name, content in read.items() if content is not None}


# Of the numbers of a model: those that the page computes with.
_SHARE: Schema = (NUMBER, None)
_POINT: Schema = {
    "precision?": _SHARE,
    "recall?": _SHARE,
    "f1?": _SHARE,
    **dict.fromkeys(("tp?", "fp?", "fn?"), (WHOLE, None)),
    "score_thresholds?": {TEXT: NUMBER},
    "per_class?": {TEXT: {"precision?": _SHARE, "recall?": _SHARE, "f1?": _SHARE}},
    "confusion?": {"labels?": [TEXT], "counts?": [[WHOLE]]},
}
_MODEL: Schema = {
    **dict.fromkeys(("AP", "AP50"), _SHARE),
    **{f"{name}?": _SHARE for name in (*NAMES[2:], "num_parameters")},
    **{
        f"num_{name}?": (WHOLE, None)
        for name in ("images", "images_predicted", "objects", "detections", "unjudged_detections")
    },
    "per_class": {TEXT: _SHARE},
    "operating_point?": _POINT,
    "tide?": {TEXT: _SHARE},
    "speed?": ({TEXT: NUMBER}, None),
}
_METRICS: Schema = {"models": {TEXT: _MODEL}, "pseudo_labels?": _MODEL}
_CURVES: Schema = {
    "per_class": {TEXT: {"precisions": ([NUMBER], None), "right?": [NUMBER], "wrong?": [NUMBER]}}
}
_AGREEMENT: Schema = {"names": [TEXT], "matrix": [[_SHARE]], "num_boxes": {TEXT: WHOLE}}
_THRESHOLDS: Schema = {TEXT: ANY}


def _optional(*parts: str, schema: Schema) -> dict | None:
    path = files.join(*parts)
    if not files.exists(path):
        return None
    content = documents.read_json(path)
    stage = parts[1]
    check(content, schema, path=path, advice=f"Give --stage={stage} --overwrite to make it anew.")
    return content if isinstance(content, dict) else None


def _histories(workdir: str, absent: list[str]) -> dict[str, History]:
    histories = {}
    for stage in TRAINING:
        path = files.join(workdir, stage, "metrics.jsonl")
        if not files.exists(path):
            continue
        rows = documents.read_json_lines(path)
        check(
            rows,
            [{"step": WHOLE, TEXT: NUMBER}],
            path=path,
            advice="Remove it: curves go, no more.",
        )
        histories[stage] = _thin([row for row in rows if isinstance(row, dict)])
    if not histories:
        absent.append("No training stage left a history, so there are no curves.")
    return histories


def _thin(rows: History) -> History:
    """At most 400 updates, evenly; every validation stays."""
    step = max(len(rows) // _CURVE_POINTS, 1)
    return [row for number, row in enumerate(rows) if number % step == 0 or "val_ap" in row]


def _labels(
    workdir: str, absent: list[str], *, open_source: OpenSource | None, gallery_size: int
) -> tuple[LabelFacts | None, tuple[Gallery, ...]]:
    pseudo = _records(workdir, "pseudo", "*.tfrecord")
    if pseudo is None:
        absent.append("There are no pseudo labels.")
        return None, ()
    marked = _people(workdir, pseudo.class_names, absent, open_source=open_source)
    teachers = manifests.read(files.join(workdir, "pseudo")).identity.get("teacher") or []
    facts = read_labels(
        pseudo,
        marked,
        thresholds=_thresholds(workdir, pseudo.class_names),
        learned=taught.learned_from(teachers, workdir=workdir),
    )
    return facts, (
        gallery.labelled(pseudo, marked, size=gallery_size),
        gallery.without_labels(pseudo, size=gallery_size),
    )


def _people(
    workdir: str,
    class_names: tuple[str, ...],
    absent: list[str],
    *,
    open_source: OpenSource | None,
) -> people.People:
    """People's labels of the images that were pseudo-labelled, as far as there are any."""
    own = _records(workdir, "labeled", "train-*.tfrecord")
    specs = manifests.read(files.join(workdir, "pseudo")).identity.get("unlabeled")
    if not specs and own is not None:
        # Without other images the teachers labelled these records, under this name.
        specs = [f"records:{files.join(workdir, 'labeled', 'train-*.tfrecord')}?name=train"]
    if not specs or open_source is None:
        return people.from_records(own, class_names)
    try:
        return people.from_sources([open_source(spec) for spec in specs], class_names)
    except UserError as error:
        absent.append(f"The pseudo-labelled images are not at hand any more: {error}")
        return people.from_records(own, class_names)


def _records(workdir: str, stage: str, pattern: str) -> RecordSet | None:
    if not _complete(workdir, stage):
        return None
    pattern = files.join(workdir, stage, pattern)
    return RecordSet.open(pattern) if files.find(pattern) else None


def _thresholds(workdir: str, class_names: tuple[str, ...]) -> dict[str, float]:
    """What the stage wrote, a person's changes included: {class: {"score": ...}} or a number."""
    table = _optional(workdir, "pseudo", "thresholds.json", schema=_THRESHOLDS) or {}
    given = {name: table[name] for name in class_names if name in table}
    return {
        name: float(one["score"] if isinstance(one, dict) else one) for name, one in given.items()
    }


def _evaluated(
    workdir: str, models: dict[str, dict], *, open_source: OpenSource | None, absent: list[str]
) -> gallery.Evaluated | None:
    """The evaluation images with every model's detections; None where they are not at hand."""
    if not models or not _complete(workdir, "evaluate"):
        return None
    # Without --eval_data a run was scored on its validation images.
    own = f"records:{files.join(workdir, 'labeled', 'val-*.tfrecord')}?name=val"
    spec = manifests.read(files.join(workdir, "evaluate")).identity.get("eval_data") or own
    if open_source is None:
        absent.append("The evaluation images are not at hand, so none is shown.")
        return None
    try:
        source = open_source(spec)
        names = tuple(next(iter(models.values()))["per_class"])
        truth = ground_truth(source, class_names=names)
        found = _found(workdir, models, truth)
    except (UserError, KeyError) as error:
        absent.append(f"The evaluation images are not at hand, so none is shown: {error}")
        return None
    thresholds = {name: _working(models[name], names) for name in found}
    return gallery.Evaluated(source, truth, found, thresholds)


def _found(workdir: str, models: Mapping[str, dict], truth: GroundTruth) -> dict[str, Collected]:
    paths = {name: files.join(workdir, "evaluate", name, measure.DETECTIONS) for name in models}
    return {
        name: read_results(truth, path=path) for name, path in paths.items() if files.exists(path)
    }


def _working(metrics: dict, names: tuple[str, ...]) -> np.ndarray:
    table = metrics.get("operating_point", {}).get("score_thresholds", {})
    return np.array([table.get(name, 0.5) for name in names])


def _evaluation_galleries(evaluated: gallery.Evaluated, *, size: int) -> tuple[Gallery, ...]:
    shown = shown_models(tuple(evaluated.models))
    galleries = [gallery.side_by_side(evaluated, names=shown, size=size)]
    galleries.append(gallery.confident_mistakes(evaluated, name=shown[-1], size=size))
    if len(shown) == 2:
        galleries.append(gallery.largest_disagreement(evaluated, names=shown, size=size))
    return tuple(galleries)


def shown_models(names: Sequence[str]) -> list[str]:
    """A teacher and a student, as far as they are there; at least one model."""
    teachers = [name for name in names if name not in _OWN_MODELS]
    students = [name for name in STUDENTS if name in names]
    return (teachers[:1] + students[:1]) or list(names[:1])
