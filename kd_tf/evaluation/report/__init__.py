"""One page about one run or several: `load_report` reads workdirs, `render_report` writes HTML."""

from kd_tf.evaluation.report.data import ReportData, RunData
from kd_tf.evaluation.report.load import load_report
from kd_tf.evaluation.report.render import render_report, to_html

__all__ = ["ReportData", "RunData", "load_report", "render_report", "to_html"]
