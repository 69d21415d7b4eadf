"""Stages report and compare: one page about a run, or about several."""

from absl import logging

from kd_tf import files
from kd_tf.data.sources import open_source
from kd_tf.evaluation.report.load import load_report
from kd_tf.evaluation.report.render import render_report
from kd_tf.specs import DATA_KINDS, names_list, parse
from kd_tf.stages.run import Run

_PAGE = "report.html"


def report(run: Run) -> bool:
    """Writes the page of this run from what lies in its workdir now."""
    return _write(run, [run.settings.workdir], run.folder("report", _PAGE))


def compare(run: Run) -> bool:
    """Writes one page over several runs."""
    workdirs = list(names_list(run.settings.workdirs))
    return _write(run, workdirs, run.folder("compare", _PAGE))


def _write(run: Run, workdirs: list[str], path: str) -> bool:
    if run.settings.dry_run:
        logging.info("would write %s", path)
        return False
    data = load_report(workdirs, open_source=lambda spec: open_source(parse(spec, DATA_KINDS)))
    render_report(data, path=path)
    logging.info("page: %s (%.1f MB); open it in a browser.", path, files.size_bytes(path) / 1e6)
    return True
