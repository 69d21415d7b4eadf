"""Small files of a workdir, damaged: one sentence that names the file, and nothing is lost."""

import json

import numpy as np
import pytest

from kd_tf import config, documents, files, manifests, schema
from kd_tf.data.shards import RecordSet
from kd_tf.data.verify import verify
from kd_tf.errors import UserError
from kd_tf.evaluation.report.load import load_report
from kd_tf.evaluation.report.render import to_html
from kd_tf.stages import job
from kd_tf.stages.run import Run
from kd_tf.training import checkpoint, summaries
from tests.evaluation.report.workdirs import make_workdir, opened


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("run"))
    make_workdir(folder, num_train=4, num_eval=2, hostile=False)
    return folder


def _everything(folder):
    to_html(load_report([folder], open_source=opened))
    verify(f"{folder}/pseudo")


_ODD = [None, [], {}, "", "x", "\ud800", -1, 0.5, 10**400, True, [[1]], {"a": 1}, "²"]


def _changed(content, random):
    """The same JSON with one value, somewhere, replaced by another."""
    content = json.loads(json.dumps(content))
    part, depth = content, 0
    while isinstance(part, (dict, list)) and part:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = keys[int(random.integers(len(keys)))]
        inner = part[key]
        if not isinstance(inner, (dict, list)) or not inner or (depth and random.random() < 0.3):
            part[key] = _ODD[int(random.integers(len(_ODD)))]
            return content
        part, depth = inner, depth + 1
    return _ODD[int(random.integers(len(_ODD)))]


FILES = [
    "pseudo/manifest.json", "teacher/manifest.json", "evaluate/manifest.json",
    "evaluate/metrics.json", "evaluate/finetune/curves.json", "evaluate/finetune/detections.json",
    "teacher/metrics.jsonl", "pseudo/agreement.json", "pseudo/label_map.pbtxt",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_a_page_or_one_sentence(workdir, name):
    path = f"{workdir}/{name}"
    if not files.exists(path):
        pytest.fail(f"the made run has no {name}")
    good = files.read_bytes(path)
    random = np.random.default_rng(len(name))
    try:
        for number in range(7):
            if number % 3 == 0 or not name.endswith(".json"):
                bad = bytearray(good)
                for place in random.integers(0, len(bad), 3):
                    bad[place] = int(random.integers(256))
                content = bytes(bad[: len(bad) - int(random.integers(0, 40))])
            else:
                content = json.dumps(_changed(json.loads(good), random)).encode()
            files.write_bytes(path, content)
            try:
                _everything(workdir)
            except UserError as error:
                assert len(str(error)) < 3000
    finally:
        files.write_bytes(path, good)
    _everything(workdir)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"lengths": "x"}, "lengths must be whole numbers", id="lengths"),
        pytest.param({"lengths": [2**40]}, "1 records|takes? another number", id="huge_length"),
        pytest.param({"source_ids": [1]}, "source_ids must be texts", id="numbers"),
        pytest.param({"sha256": []}, "sha256 has 0 entries", id="too_few"),
        pytest.param({"file_bytes": 7}, "file_bytes is 7", id="bytes"),
    ],
)
def test_damaged_index_is_never_trusted(workdir, change, message):
    (path,) = files.find(f"{workdir}/pseudo/*.idx")
    good = files.read_bytes(path)
    try:
        files.write_json(path, json.loads(good) | change)
        with pytest.raises(UserError, match=message) as caught:
            RecordSet.open(f"{workdir}/pseudo").source_ids  # noqa: B018
        assert path in str(caught.value)
        files.remove(path)
        assert len(RecordSet.open(f"{workdir}/pseudo").source_ids) == 4
    finally:
        files.write_bytes(path, good)


def test_damaged_manifest_does_not_make_finished_work_anothers(tmp_path):
    folder = str(tmp_path / "run" / "pretrain")
    manifests.write(folder, manifests.Manifest("pretrain", {}))
    files.write_text(f"{folder}/weights", "precious")
    files.write_text(f"{folder}/manifest.json", '{"version": 1, "stage": []}')
    run = Run(config.Config(workdir=str(tmp_path / "run")), redo=True)
    with pytest.raises(UserError, match=r"manifest.json is damaged: it lacks 'identity'"):
        job.ensure(job.Stage("pretrain", folder, inputs={}), run, work=lambda: None)
    assert documents.read_text(f"{folder}/weights") == "precious"


@pytest.mark.parametrize("content", ["[]", "{", '{"seed": ' + "1" * 9000 + "}", "\x00"])
def test_damaged_note_of_a_beginning_is_named(tmp_path, content):
    folder = str(tmp_path / "run" / "pretrain")
    files.write_text(f"{folder}/started.json", content)
    files.write_text(f"{folder}/weights", "precious")
    run = Run(config.Config(workdir=str(tmp_path / "run")), redo=True)
    with pytest.raises(UserError, match=r"started\.json"):
        job.ensure(job.Stage("pretrain", folder, inputs={}), run, work=lambda: None)
    assert files.exists(f"{folder}/weights")


@pytest.mark.parametrize(
    "content",
    ["[]", '{"saved": "x"}', '{"settings": {}, "saved": [1], "evaluations": [], "best": 3}'],
)
def test_damaged_pointer_of_a_training_is_named(tmp_path, content):
    found = next(value for name, value in vars(checkpoint).items() if name == "_POINTER")
    files.write_text(f"{tmp_path}/{found}", content)
    with pytest.raises(UserError, match=f"{found} is damaged"):
        checkpoint.updates_done(str(tmp_path))


@pytest.mark.parametrize("content", ["1\n", '{"step": "x"}\n', '{"step": 1, "loss": []}\n', "{\n"])
def test_damaged_metrics_are_named(tmp_path, content):
    files.write_text(f"{tmp_path}/metrics.jsonl", content)
    with pytest.raises(UserError, match=r"metrics.jsonl"):
        summaries.read_metrics(str(tmp_path))


def test_line_that_a_crash_cut_off_is_left_out(tmp_path):
    files.write_text(f"{tmp_path}/metrics.jsonl", '{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert summaries.read_metrics(str(tmp_path)) == [{"step": 1, "loss": 2.5}]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        pytest.param({"a": 1, "b": ["x"]}, "", id="sound"),
        pytest.param({"a": 1, "b": [], "c": None, "d": {}}, "", id="others_beside"),
        pytest.param({"a": 1}, "lacks 'b'", id="missing"),
        pytest.param({"a": "1", "b": []}, "a holds '1', a whole number is needed", id="text"),
        pytest.param({"a": True, "b": []}, "a holds True", id="truth_value"),
        pytest.param({"a": 1, "b": ["x", 2]}, r"b\[1\] holds 2, a text", id="in_a_list"),
        pytest.param({"a": 1, "b": [], "c": "x"}, "c holds 'x', a number", id="optional"),
        pytest.param([], "it holds a list of 0, a table", id="list"),
    ],
)
def test_schema_says_where_and_what(value, fault):
    wanted: schema.Schema = {"a": schema.WHOLE, "b": [schema.TEXT], "c?": (schema.NUMBER, None)}
    if not fault:
        schema.check(value, wanted, path="f.json", advice="Go.")
        return
    with pytest.raises(UserError, match=rf"f.json is damaged: .*{fault}.*Go\."):
        schema.check(value, wanted, path="f.json", advice="Go.")
