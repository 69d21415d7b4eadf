"""Stage probe: a look at the data and at each teacher before anything is labelled."""

import numpy as np
from absl import logging

from kd_tf import config, files
from kd_tf.data import survey, views
from kd_tf.data.items import Source
from kd_tf.data.sources import open_source
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import labels, teachers
from kd_tf.stages.run import Run
from kd_tf.teachers import categories
from kd_tf.teachers.label_job import Labeller
from kd_tf.teachers.probe import Probe, side_by_side
from kd_tf.teachers.probe import probe as probe_teacher

# Enough for an AP that tells a good teacher from a wrong class list.
_MAX_IMAGES = 200


def probe(run: Run) -> bool:
    """Reports on the data sets given, and on the teachers given."""
    settings = run.settings
    if settings.dry_run:
        logging.info("would look at the data and teachers given, and write %s", run.folder("probe"))
        return False
    texts = [*settings.labeled, settings.val_data, *settings.unlabeled, settings.eval_data]
    sources = [open_source(parse(text, DATA_KINDS)) for text in filter(None, texts)]
    if settings.teacher:
        _probe_teachers(run, sources)
    else:
        surveys = [survey.survey(source) for source in sources]
        logging.info("%s", survey.write_survey(run.folder("probe"), surveys))
    logging.info("Pictures and numbers: %s", run.folder("probe"))
    return True


def _probe_teachers(run: Run, sources: list[Source]) -> None:
    """Each teacher looks at labelled images where there are some, so that it has an AP."""
    settings = run.settings
    labelled = [source for source in sources if source.read_labels is not None]
    source = views.subset((labelled or sources)[0], _spread((labelled or sources)[0]))
    probes = []
    for spec in teachers.specs(run):
        found = probe_teacher(
            teachers.load_teacher(run, spec),
            source,
            name=spec.name,
            picture_path=run.folder("probe", f"{spec.name}.png"),
            batch_size=settings.pseudo_batch_size,
            max_images=len(source.items),
        )
        logging.info("%s", found.to_text())
        probes.append(found)
    rules = categories.read_rules(settings.class_map, drop_unknown=settings.drop_unknown_classes)
    known = {one.name: one.class_names for one in probes}
    names = _class_names(settings, labelled, known, rules)
    coverage = categories.cover(known, names, rules=rules)
    logging.info("Who knows what:\n%s\n%s", coverage.table(), "\n".join(side_by_side(probes)))
    report = {"coverage": coverage.to_json(), "teachers": [one.to_json() for one in probes]}
    if labelled:
        report["AP"] = {
            one.name: _ap(one, source, coverage.class_maps[i], names)
            for i, one in enumerate(probes)
        }
        logging.info("AP on %d labelled images: %s", len(source.items), report["AP"])
    files.write_json(run.folder("probe", "probe.json"), report)


def _spread(source: Source) -> list[int]:
    """Rows of at most `_MAX_IMAGES` images, evenly over the source."""
    rows = np.linspace(0, len(source.items) - 1, min(_MAX_IMAGES, len(source.items)))
    return np.unique(rows.round().astype(int)).tolist()


def _class_names(
    settings: config.Config, labelled: list[Source], known: dict, rules: categories.Rules
) -> tuple[str, ...]:
    if labelled or settings.classes:
        return labels.class_list(settings, labelled)
    return categories.joint_class_names(known, rules=rules)


def _ap(one: Probe, source: Source, class_map: np.ndarray, names: tuple[str, ...]) -> float | None:
    who = Labeller(one.name, "", class_map, np.ones(len(names)))
    seen = {image_id for image_id, _ in one.predicted}
    skip = {item.image_id for item in source.items} - seen
    truth = ground_truth(source, class_names=names, skip=skip)
    return evaluate(truth, ((i, who.in_run_classes(found)) for i, found in one.predicted))["AP"]
