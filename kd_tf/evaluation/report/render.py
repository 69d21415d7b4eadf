"""Turns report data into one HTML file that asks nothing of any network."""

import base64
import hashlib
import importlib.resources

import jinja2
import markupsafe

from kd_tf import files
from kd_tf.evaluation.coco import NAMES
from kd_tf.evaluation.report import figures, label_figures, texts, verdict
from kd_tf.evaluation.report.data import ReportData

_TEMPLATES = importlib.resources.files(__package__) / "templates"


def render_report(data: ReportData, *, path: str) -> None:
    """Writes the page, whole or not at all."""
    files.write_text(path, to_html(data))


def to_html(data: ReportData) -> str:
    """The page as text: style, script, figures and images are all inside.

    Its Content-Security-Policy allows the one style sheet and the one script by their
    hashes, and images from data URIs; nothing else may load or run. Every text of the
    run (file names, class names, errors) is escaped.
    """
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("report.html")
        .render(
            data=data,
            style=markupsafe.Markup(style),
            script=markupsafe.Markup(script),
            policy=policy,
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
    )
    environment.globals.update(
        coco_names=NAMES,
        color=figures.color,
        max_class_figures=label_figures.MAX_CLASS_FIGURES,
        **{name: getattr(texts, name) for name in texts.FOR_TEMPLATES},
        **{name: getattr(figures, name) for name in figures.FOR_TEMPLATES},
        **{name: getattr(label_figures, name) for name in label_figures.FOR_TEMPLATES},
        judge_student=verdict.judge_student,
        judge_labels=verdict.judge_labels,
        difference=verdict.difference,
    )
    return environment


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()
