"""How good the pseudo labels are, where their images have people's labels too."""

import numpy as np
from absl import logging

from kd_tf import manifests
from kd_tf.data import taught, views
from kd_tf.data.items import Source
from kd_tf.data.records import from_example
from kd_tf.data.rejects import check_fraction, log_boxes
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.evaluation.measure import measure, write_measured
from kd_tf.geometry.detections import Detections
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import score
from kd_tf.stages.run import Run
from kd_tf.teachers import thresholds

# Scoring holds all detections in memory; more images do not change the third digit.
_MAX_IMAGES = 5000
_POINT = ("precision", "recall", "f1")


def measure_labels(run: Run, *, folder: str) -> dict | None:
    """Scores the pseudo labels of the workdir against people's labels of the same images.

    Every detection in the records is scored, those below the working threshold too;
    precision, recall and F1 are those at the threshold.

    Args:
        run: The run.
        folder: Gets detections.json and curves.json.

    Returns:
        Numbers as of a model, and "counts" of the images and of what people marked and is not
        scored against; None without pseudo labels, or where no person labelled the images, or a
        teacher learned from all of those.
    """
    source = labelled_pool(run)
    if source is None:
        return None
    records = RecordSet.open(run.folder("pseudo"))
    names = records.class_names
    number_of = {key: number for number, key in enumerate(records.source_ids)}
    learned = _learned(run, records)
    rows = [
        row
        for row, item in enumerate(source.items)
        if (key := source.key(item)) in number_of and key not in learned
    ]
    if learned:
        logging.info(
            "Pseudo labels of %d images are not scored: a teacher learned from their labels.",
            len(learned),
        )
    if not rows:
        return None
    if len(rows) > _MAX_IMAGES:
        chosen = np.linspace(0, len(rows) - 1, _MAX_IMAGES).round().astype(int)
        logging.info("Pseudo labels: %d of %d images are scored.", _MAX_IMAGES, len(rows))
        rows = [rows[place] for place in chosen]
    source = views.subset(source, rows)
    truth = ground_truth(source, class_names=names)
    counts = manifests.Counts(seen=len(rows), written=len(rows))
    score.count_unscored(counts, truth)
    where = f"people's labels of {source.name}"
    log_boxes(counts, where=where)
    check_fraction(counts, max_bad_fraction=run.settings.max_bad_fraction, where=where)
    known = set(truth.image_ids.tolist())
    found = (
        (item.image_id, _detections(records.read(number_of[source.key(item)]), names))
        for item in source.items
        if item.image_id in known
    )
    chosen = thresholds.read(run.folder("pseudo", "thresholds.json"), names, ignore=0.0)
    measured = measure(truth, found, score_thresholds=chosen.score.tolist())
    write_measured(truth, measured, folder=folder)
    point = measured.metrics["operating_point"]
    logging.info(
        "Pseudo labels against people's, %d images: AP %s, precision %s, recall %s, F1 %s.",
        counts.written,
        *(_text(one) for one in (measured.metrics["AP"], *(point[k] for k in _POINT))),
    )
    return measured.metrics | {"counts": counts.to_json()}


def _learned(run: Run, records: RecordSet) -> set[str]:
    """The pseudo-labelled images that a teacher is known to have learned from."""
    specs = manifests.read(run.folder("pseudo")).identity.get("teacher") or []
    learned = taught.learned_from(specs, workdir=run.settings.workdir)
    return {key for digest, key in records.digests.items() if digest in learned}


def labelled_pool(run: Run) -> Source | None:
    """The images that were pseudo-labelled, with people's labels; None where there are none.

    They are found by what the stage kept, so that no flag has to be given again.
    """
    if not manifests.is_complete(run.folder("pseudo")):
        return None
    specs = manifests.read(run.folder("pseudo")).identity["unlabeled"]
    specs = specs or [f"records:{run.folder('labeled', 'train-*.tfrecord')}?name=train"]
    try:
        sources = [open_source(parse(text, DATA_KINDS)) for text in specs]
    except UserError as error:
        logging.warning("Pseudo labels are not scored: %s", error)
        return None
    labelled = [one for one in sources if one.read_labels is not None]
    if not labelled:
        return None
    if len(labelled) < len(sources):
        without = ", ".join(one.name for one in sources if one.read_labels is None)
        logging.info("Pseudo labels of %s are not scored: nobody labelled those images.", without)
    names = views.union_of_classes(labelled)
    return views.combine([views.relabel(one, names) for one in labelled])


def _detections(serialized: bytes, names: tuple[str, ...]) -> Detections:
    objects = from_example(serialized, class_names=names).objects
    return Detections(objects.boxes, objects.scores, objects.classes)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
