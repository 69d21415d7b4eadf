"""What the chain refuses before its first stage."""

import dataclasses
import json

import pytest

from kd_tf import config, files
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import preflight, teachers
from kd_tf.stages.run import Run


@pytest.fixture
def settings(tmp_path):
    return config.Config(
        workdir=str(tmp_path / "run"),
        labeled=("scenes:train?num=20&size=64",),
        eval_data="scenes:eval?num=4&size=64",
        score_threshold="auto",
    )


def _check(settings, **changes) -> None:
    preflight.check(Run(dataclasses.replace(settings, **changes), redo=True))


def test_check_good_settings_pass_and_a_dry_run_writes_nothing(settings):
    _check(settings, dry_run=True, teacher_model="yolov8_s")
    assert not files.exists(settings.workdir)
    _check(settings, overrides=(("teacher_backbone_weights", "kerascv:resnet50_imagenet"),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"eval_data": "voc:/nope"}, "/nope.*Annotations/", id="eval_data"),
        pytest.param({"val_data": "voc:/nope"}, "/nope.*does not exist", id="val_data"),
        pytest.param({"unlabeled": ("images:/nope",)}, "/nope", id="unlabeled"),
        pytest.param({"label_ids": "/nope.txt"}, "--label_ids: .*'/nope.txt'", id="label_ids"),
        pytest.param({"score_threshold": "/t.json"}, "--score_threshold: ", id="thresholds"),
        pytest.param({"backbone_weights": "/w.npz"}, "weights of teacher: ", id="weights"),
        pytest.param({"class_map": "disc"}, "disc", id="class_map"),
        pytest.param(
            {"labeled": ("scenes:train?num=20&size=64&classes=disc",),
             "eval_data": "scenes:eval?num=4&size=64&classes=ring"},
            "none of the run's classes. It has: ring; the run: disc", id="classes",
        ),
        pytest.param(
            {"eval_data": "scenes:train?num=9&size=64"}, "of the 9 images of --eval_data",
            id="leakage",
        ),
    ],
)  # fmt: skip
def test_check_refuses(settings, changes, message):
    with pytest.raises(UserError, match=message):
        _check(settings, **changes)


def test_own_teacher_is_known_by_its_content_wherever_the_workdir_lies(settings, tmp_path):
    identities = []
    for name in ("here", "there"):
        run = Run(dataclasses.replace(settings, workdir=str(tmp_path / name)), redo=True)
        files.write_bytes(run.folder("teacher", "model.keras"), b"the same weights")
        source = open_source(parse(settings.eval_data, DATA_KINDS))
        (spec,) = teachers.specs(run)
        asked = teachers.question(run, spec, source, parts=("predictions", spec.name))
        identities.append(asked.stage.identity(run.settings))
    assert identities[0] == identities[1]


RESULT = [{"image_id": "x", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]


def _results(tmp_path, *names, file="r"):
    (tmp_path / f"{file}.json").write_text(json.dumps(RESULT))
    (tmp_path / f"{file}.txt").write_text("\n".join(names))
    return f"results:{tmp_path}/{file}.json?categories={tmp_path}/{file}.txt"


WRONG = [
    pytest.param(
        lambda p: {"teacher": ("scenes", _results(p, "disc"), "keras:/nope/big.keras")[1:]},
        "there is nothing at '/nope/big.keras'", id="second_teacher_is_missing",
    ),
    pytest.param(
        lambda p: {"teacher": (_results(p, "disc"),), "teacher_weights": "big=2"},
        "--teacher_weights names 'big', which no teacher is called. Known: r", id="weights",
    ),
    pytest.param(
        lambda p: {"teacher": (_results(p, "disc"), _results(p, "disc") + "&join=id")},
        "Two teachers are called r", id="two_of_one_name",
    ),
    pytest.param(lambda p: {"num_labels": 21}, "--labeled has 20 images", id="num_labels"),
    pytest.param(
        lambda p: {"teacher": (_results(p, "disc", "zebra"),)}, "r: zebra", id="unmapped_class"
    ),
    pytest.param(
        lambda p: {"teacher": (_results(p, "zebra"),), "drop_unknown_classes": True},
        "knows none of the run's classes", id="no_class_in_common",
    ),
    pytest.param(
        lambda p: {"classes": "disc,Disc"}, "'disc' and 'Disc' are two names", id="spellings"
    ),
    pytest.param(
        lambda p: {"classes": "aeroplane,airplane"}, "are two names of one class", id="synonyms"
    ),
    pytest.param(
        lambda p: {"label_ids": _text(p, "ids.txt", "nothing")}, "1 are not in", id="label_ids"
    ),
    pytest.param(
        lambda p: {"score_threshold": _text(p, "t.json", '{"zebra": 0.5}')}, "unknown classes",
        id="thresholds",
    ),
    pytest.param(lambda p: {"eval_data": "scenes:train?num=9&size=64"}, "9 images of --eval_data",
                 id="leakage"),
    pytest.param(lambda p: {"eval_data": "voc:/nope"}, "/nope", id="eval_data"),
    pytest.param(lambda p: {"unlabeled": ("images:/nope",)}, "/nope", id="unlabeled"),
    pytest.param(lambda p: {"class_map": "disc"}, "disc", id="class_map"),
    pytest.param(
        lambda p: {"unlabeled": ("scenes:unlabeled?num=20&size=64",), "num_shards": 100_000},
        "--num_shards=100,000, and there are 20 images to label. Give at most 20",
        id="num_shards",
    ),
    pytest.param(
        lambda p: {"backbone_weights": "/w.npz"}, "of teacher: there is no", id="weights_file"
    ),
]  # fmt: skip


def _text(folder, name, content):
    (folder / name).write_text(content)
    return str(folder / name)


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_dry_run_refuses_what_the_run_would_refuse(settings, tmp_path, changes, message):
    said = []
    for dry_run in (True, False):
        with pytest.raises(UserError, match=message) as caught:
            _check(settings, dry_run=dry_run, **changes(tmp_path))
        said.append(str(caught.value))
        if dry_run:
            assert not files.exists(settings.workdir)
    assert said[0] == said[1]
