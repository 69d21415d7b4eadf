"""Fills the report from workdirs: each run alone, then the runs against each other."""

from collections.abc import Sequence

import numpy as np

from kd_tf import __version__, manifests
from kd_tf.evaluation.collected import Collected
from kd_tf.evaluation.comparison import compare
from kd_tf.evaluation.report import gallery
from kd_tf.evaluation.report.data import ReportData, RunData
from kd_tf.evaluation.report.workdir import NUM_RESAMPLES, STUDENTS, OpenSource, load_run

_GALLERY_SIZE = 12
_SMALL_GALLERY_SIZE = 6


def load_report(workdirs: Sequence[str], *, open_source: OpenSource | None = None) -> ReportData:
    """Reads what the page shows of one run or several.

    Reads WORKDIR/STAGE/manifest.json and flags.txt; TRAINING_STAGE/metrics.jsonl;
    evaluate/metrics.json and evaluate/NAME/{detections,curves}.json; the records in
    pseudo/ and labeled/; pseudo/thresholds.json ({class: score}) and
    pseudo/agreement.json (of `agreement.agreement`). Stages may be missing.

    Args:
        workdirs: Folders of runs.
        open_source: Opens data sets from their specs: the evaluation images (the validation
            records where the run had no --eval_data), and what was pseudo-labelled; without it
            there are no pictures of evaluation images and no intervals.

    Raises:
        UserError: One of `workdirs` does not exist.
    """
    size = _GALLERY_SIZE if len(workdirs) == 1 else _SMALL_GALLERY_SIZE
    names = _names(workdirs)
    loaded = [
        load_run(workdir, name=name, open_source=open_source, gallery_size=size)
        for workdir, name in zip(workdirs, names, strict=True)
    ]
    runs = tuple(run for run, _ in loaded)
    return ReportData(
        title=f"kd_tf: {', '.join(names)}",
        runs=runs,
        comparison=_compare_runs(loaded) if len(loaded) > 1 else None,
        made=f"Written by kd_tf {__version__}. No part of this page leaves this file.",
    )


def _names(workdirs: Sequence[str]) -> list[str]:
    """The last parts of the paths, or the whole paths where those are not unique."""
    last = [workdir.rstrip("/").rsplit("/", 1)[-1] for workdir in workdirs]
    return last if len(set(last)) == len(last) else list(workdirs)


def _compare_runs(loaded: Sequence[tuple[RunData, gallery.Evaluated | None]]) -> dict | None:
    """Paired differences across runs; runs that differ in nothing but the seed are one model.

    None unless all runs were evaluated on the same images with the same classes.
    """
    if any(evaluated is None or not evaluated.models for _, evaluated in loaded):
        return None
    truth = loaded[0][1].truth
    for _, evaluated in loaded:
        other = evaluated.truth
        if other.class_names != truth.class_names or not np.array_equal(
            other.image_ids, truth.image_ids
        ):
            return None
    groups: dict[tuple[str, str], tuple[str, list[Collected]]] = {}
    for run, evaluated in loaded:
        key = _settings_key(run)
        for name, found in evaluated.models.items():
            label = f"{run.name}: {name}"
            groups.setdefault((key, name), (label, []))[1].append(found)
    order = sorted(groups, key=lambda group: _rank(group[1]))
    models = dict(groups[group] for group in order)
    if len(models) < 2:
        return None
    result = compare(truth, models, num_resamples=NUM_RESAMPLES)
    told = [one for one in result["differences"] if _worth_telling(one["a"], one["b"])]
    return {**result, "differences": told}


def _rank(name: str) -> int:
    """Students first, so that a difference reads "student against ..."."""
    return STUDENTS.index(name) if name in STUDENTS else len(STUDENTS)


def _worth_telling(a: str, b: str) -> bool:
    """The same model of two runs, or a student against the baseline of its run."""
    (run_a, model_a), (run_b, model_b) = a.rsplit(": ", 1), b.rsplit(": ", 1)
    return model_a == model_b or (run_a == run_b and model_b == "baseline")


def _settings_key(run: RunData) -> str:
    """Hash of every stage's settings but the seed, and without what follows from it."""
    settings = {
        stage.name: {
            key: value
            for key, value in stage.settings.items()
            if key != "seed" and not key.startswith("input: ")
        }
        for stage in run.stages
    }
    return manifests.content_hash(settings)
