import html.parser
import re

import numpy as np
import pytest

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.evaluation.report import load_report, render_report, to_html
from kd_tf.evaluation.report.data import LabelFacts, ReportData, RunData, StageFacts
from kd_tf.evaluation.report.gallery import to_data_uri
from kd_tf.evaluation.report.verdict import judge_labels, judge_student
from tests.evaluation.report.workdirs import HOSTILE, make_workdir, opened

MODELS = ("teacher", "baseline", "pretrain", "finetune")


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.cells: dict[tuple[str, str], str] = {}
        self._cell: tuple[str, str] | None = None
        self._raw = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._raw = tag in ("script", "style")
        if "data-metric" in attributes:
            self._cell = (attributes["data-model"], attributes["data-metric"])

    def handle_endtag(self, tag):
        self._raw, self._cell = False, None

    def handle_data(self, data):
        if self._cell:
            self.cells[self._cell] = data
        if not self._raw:
            self.texts.append(data)


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("runs") / "first")
    make_workdir(folder, num_train=12, num_eval=10)
    return folder


@pytest.fixture(scope="session")
def loaded(workdir) -> ReportData:
    return load_report([workdir], open_source=opened)


@pytest.fixture(scope="session")
def page(loaded) -> Page:
    return Page(to_html(loaded))


def test_page_shows_the_numbers_of_metrics_json(page, workdir):
    models = documents.read_json(files.join(workdir, "evaluate", "metrics.json"))["models"]
    for name in MODELS:
        for key in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"):
            value = models[name][key]
            shown = page.cells[name, key]
            assert shown == ("\N{EN DASH}" if value is None else f"{value:.3f}"), (name, key)
        point = models[name]["operating_point"]
        assert page.cells[name, "f1"] == f"{point['f1']:.3f}"
        assert page.cells[name, "images_per_s"] == f"{models[name]['speed']['images_per_s']:.0f}"
    assert page.cells["teacher", "num_parameters"] == "3.4 M"


def test_page_asks_nothing_of_the_network(page):
    """Addresses are data or fragments; the policy forbids the rest."""
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:", "#")), (tag, key, value)
        assert not any(key.startswith("on") for key in attributes), (tag, attributes)
        assert "style" not in attributes, tag
    policies = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policies[0]


def test_page_shows_hostile_names_as_text(page):
    text = "".join(page.texts)
    assert f"{HOSTILE}clear/000000.jpg" in text  # an image
    assert f"photos/{HOSTILE}.jpg: ends after 2,048 bytes" in text  # a rejected file
    assert sum(tag == "script" for tag, _ in page.tags) == 1  # our own
    assert page.cells["finetune", "AP"]  # and the table is whole


def test_page_every_figure_has_an_alternative_text(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) >= 10
    assert all(len(image["alt"]) > 20 for image in images)
    panels = [a for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert len(panels) > 50
    assert all(": " in panel["aria-label"] for panel in panels)


def test_load_report_fills_every_part(loaded):
    run = loaded.runs[0]
    assert run.student == "finetune"
    assert [gallery.key for gallery in run.galleries] == [
        *("side_by_side", "mistakes", "disagreement"),
        *("labelled", "without_labels"),
    ]
    assert len(run.galleries[0].examples) == 10
    assert all(gallery.examples for gallery in run.galleries)
    assert run.labels.num_images == 12
    assert run.labels.num_truth_images == 12
    assert run.labels.precision > 0.8
    assert run.labels.thresholds[HOSTILE] == 0.5
    assert run.comparison["models"]["finetune"]["AP"]["mean"] == pytest.approx(
        run.models["finetune"]["AP"], abs=1e-9
    )
    assert set(run.histories) == set(MODELS)
    assert run.absent == ("Stages that have not finished here: export.",)


def test_load_report_of_an_empty_workdir_says_what_is_missing(tmp_path):
    data = load_report([str(tmp_path)])
    text = "".join(Page(to_html(data)).texts)
    assert "No student was evaluated yet, so the question is open." in text
    assert "There are no pseudo labels." in text
    assert "Nothing was evaluated" in text


def test_load_report_without_images_keeps_the_numbers(workdir):
    data = load_report([workdir])
    assert data.runs[0].comparison is None
    assert [gallery.key for gallery in data.runs[0].galleries] == ["labelled", "without_labels"]
    assert "evaluation images are not at hand" in " ".join(data.runs[0].absent)
    assert data.runs[0].models["finetune"]["AP"] > 0.1


def test_load_report_of_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        load_report([str(tmp_path / "nowhere")])


def test_load_report_of_several_runs_compares_them(workdir, tmp_path):
    """The second differs by its share of labels, the third by its seed only."""
    second, third = str(tmp_path / "second"), str(tmp_path / "third")
    make_workdir(second, num_train=6, num_eval=10, label_fraction=0.3, seed=1)
    make_workdir(third, num_train=6, num_eval=10, seed=2)
    data = load_report([workdir, second, third], open_source=opened)
    models = data.comparison["models"]
    assert set(models) == {f"{run}: {name}" for run in ("first", "second") for name in MODELS}
    assert len(models["first: finetune"]["AP"]["seeds"]) == 2
    assert len(models["second: finetune"]["AP"]["seeds"]) == 1
    pairs = [(one["a"], one["b"]) for one in data.comparison["differences"]]
    assert pairs[0] == ("first: finetune", "second: finetune")
    assert ("first: finetune", "first: baseline") in pairs
    assert len(pairs) == len(MODELS) + 4  # each model across runs; two students in each run
    path = str(tmp_path / "compare.html")
    render_report(data, path=path)
    text = "".join(Page(documents.read_text(path)).texts)
    assert "3 runs compared." in text
    assert "AP against the share of labels" in text
    assert "One share of labels only" not in text


def _run(aps: dict, *, interval=None, labels=None, skipped=0) -> RunData:
    comparison = None
    if interval:
        one = {"a": "finetune", "b": "baseline", "AP": {"interval": interval}}
        comparison = {"differences": [one], "num_images": 80}
    stage = StageFacts("pseudo", seen=100, skipped={"no image": skipped})
    return RunData(
        "run",
        models={name: {"AP": ap, "AP50": ap} for name, ap in aps.items()},
        comparison=comparison,
        labels=labels,
        stages=(stage,),
    )


@pytest.mark.parametrize(
    ("run", "outcome", "text"),
    [
        pytest.param(_run({}), "unknown", "No student", id="nothing"),
        pytest.param(_run({"finetune": None}), "unknown", "nothing to score", id="no_truth"),
        pytest.param(_run({"finetune": 0.4}), "unknown", "no baseline", id="no_baseline"),
        pytest.param(
            _run({"finetune": 0.4, "baseline": 0.3}), "unknown", "not tested.*0.400, 0.100 above",
            id="no_interval",
        ),
        pytest.param(
            _run({"finetune": 0.4, "baseline": 0.3}, interval=[0.05, 0.2]), "good",
            "^Better.*0.100 above", id="better",
        ),
        pytest.param(
            _run({"finetune": 0.4, "baseline": 0.3}, interval=[-0.01, 0.2]), "unknown",
            "^No difference shown.*0.100 above", id="interval_includes_0",
        ),
        pytest.param(
            _run({"finetune": 0.399, "baseline": 0.4}, interval=[-0.049, 0.038]), "unknown",
            "^No difference shown.*0.001 below", id="a_little_lower",
        ),
        pytest.param(
            _run({"finetune": 0.3, "baseline": 0.4}, interval=[-0.15, -0.04]), "bad",
            "^Worse.*0.100 below", id="worse",
        ),
    ],
)  # fmt: skip
def test_judge_student(run, outcome, text):
    verdict = judge_student(run)
    assert verdict.outcome == outcome
    assert re.search(text, verdict.text)
    assert "interval" not in str(run.comparison) or "On 80 images" in verdict.detail


def test_labels_of_images_that_a_teacher_learned_from_are_not_measured():
    facts = {"num_truth_images": 0, "truth_class_counts": {}, "num_compared": 0, "num_common": 0}
    verdict = judge_labels(_run({"teacher": 0.5}, labels=_labels(**facts, num_learned=100)))
    (text,) = [reason.text for reason in verdict.reasons if "not measured" in reason.text]
    assert "a teacher learned from the 100 images" in text
    assert "%" not in text


def _labels(**changes) -> LabelFacts:
    facts = {
        "num_images": 100,
        "num_empty": 10,
        "num_boxes": 300,
        "boxes_per_image": {0: 10, 3: 90},
        "class_counts": {"a": 200, "b": 100},
        "scores": {},
        "thresholds": {},
        "num_truth_images": 100,
        "truth_class_counts": {"a": 240, "b": 120},
        "num_compared": 300,
        "num_common": 240,
    }
    return LabelFacts(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "skipped", "bad"),
    [
        pytest.param({}, 0, None, id="fine"),
        # F1 = 2 * common / (300 labels + 360 of people's).
        pytest.param({"num_common": 133}, 0, None, id="f1_above_the_limit"),
        pytest.param({"num_common": 131}, 0, "44% of the labels are right", id="f1_below"),
        pytest.param({"num_empty": 51}, 0, "51% of the images have no label", id="empty"),
        pytest.param({"class_counts": {"a": 300, "b": 0}}, 0, "have no label: b", id="class"),
        pytest.param({"class_counts": {"a": 90, "b": 210}}, 0, "class mix differs", id="mix"),
        pytest.param({}, 6, "6.0% of the images were rejected", id="rejected"),
    ],
)
def test_judge_labels(changes, skipped, bad):
    verdict = judge_labels(_run({"teacher": 0.5}, labels=_labels(**changes), skipped=skipped))
    found = [reason.text for reason in verdict.reasons if reason.outcome == "bad"]
    assert verdict.outcome == ("bad" if bad else "good")
    assert bool(found) == bool(bad)
    assert not bad or any(bad in text for text in found)


def test_to_data_uri_makes_large_images_small():
    pixels = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    uri = to_data_uri(pixels)
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 300_000
