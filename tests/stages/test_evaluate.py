"""Stage evaluate through its settings: teachers by spec, results, the labels themselves."""

import dataclasses
import json

import pytest

from kd_tf import config, documents, files, manifests, stages
from kd_tf.data.scenes import CLASS_NAMES, scene_labels
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.specs import DATA_KINDS, TEACHER_KINDS, parse
from kd_tf.stages import evaluate, pseudo, train

NUM = 12
POOL = f"scenes:unlabeled?num={NUM}&size=64&labels=1"
OTHERS = "scenes:train?num=4&size=64"
ORACLE = "python:tests.stages.oracle:build?name=oracle"


@pytest.fixture
def settings(tmp_path):
    return config.Config(
        stage="evaluate",
        workdir=str(tmp_path / "run"),
        eval_data=POOL,
        teacher=(ORACLE,),
        image_size="64x64",
    )


def _metrics(settings) -> dict:
    stages.run(settings)
    return documents.read_json(files.join(settings.workdir, "evaluate", "metrics.json"))


def test_a_teacher_needs_no_trained_model_beside_it(settings):
    found = _metrics(settings)["models"]["oracle"]
    assert found["AP"] == pytest.approx(1.0)
    assert found["num_images"] == NUM


def test_a_teacher_of_some_classes_is_scored_on_all(settings):
    half = f"{ORACLE}&classes=" + "+".join(CLASS_NAMES[:4])
    found = _metrics(dataclasses.replace(settings, teacher=(half,)))["models"]["oracle"]
    per_class = [found["per_class"][name] for name in CLASS_NAMES]
    present = {int(c) for i in range(NUM) for c in _truth(i).classes}
    assert all(per_class[i] == pytest.approx(1.0) for i in present if i < 4)
    assert all(per_class[i] == 0.0 for i in present if i >= 4)


def test_a_file_that_keeps_its_thresholds_is_counted_at_them(tmp_path):
    folder = tmp_path / "saved_model"
    (folder / "assets").mkdir(parents=True)
    kept = dict.fromkeys(("network", "stage", "commit"), "") | {
        "class_names": ["a", "b"],
        "image_size": [64, 64],
        "score_thresholds": [0.25, 0.75],
        "score_floor": 0.01,
        "iou_threshold": 0.5,
        "max_detections": 100,
        "versions": {},
    }
    (folder / "assets" / "kd_tf_export.json").write_text(json.dumps(kept))
    spec = parse(f"saved_model:{folder}", TEACHER_KINDS)
    assert evaluate._own_thresholds(spec, 2).tolist() == [0.25, 0.75]
    # Other names were given by ?label_map=.
    assert evaluate._own_thresholds(spec, 3).tolist() == [0.5, 0.5, 0.5]
    assert evaluate._own_thresholds(parse(ORACLE, TEACHER_KINDS), 1).tolist() == [0.5]


def test_only_stage_teacher_itself_is_overwritten(settings, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "teacher", lambda run, keep=False: asked.append(keep))
    monkeypatch.setattr(pseudo, "pseudo", lambda run: None)
    for stage in ("teacher", "pseudo"):
        stages.run(dataclasses.replace(settings, stage=stage, teacher=(), overwrite=True))
    assert asked == [False, True]


def test_its_results_file_scores_the_same(settings, tmp_path):
    expected = _metrics(settings)["models"]["oracle"]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CLASS_NAMES))
    path = files.join(settings.workdir, "evaluate", "oracle", "detections.json")
    again = dataclasses.replace(
        settings,
        workdir=str(tmp_path / "again"),
        teacher=(f"results:{path}?categories={names}&name=results",),
    )
    found = _metrics(again)["models"]["results"]
    assert found["AP"] == expected["AP"]
    assert "speed" not in found


def test_pseudo_labels_are_scored_at_their_threshold(settings):
    wrong = dataclasses.replace(
        settings,
        stage="pseudo",
        teacher=(f"{ORACLE}&wrong=2",),
        unlabeled=(POOL,),
        labeled=(),
        score_threshold="0.3",
        classes=",".join(CLASS_NAMES),
        eval_data=OTHERS,
    )
    stages.run(wrong)
    # The flags of stage pseudo are not given again.
    found = _metrics(dataclasses.replace(settings, teacher=(), eval_data=OTHERS))
    assert found["models"] == {}
    labels = found["pseudo_labels"]
    num_objects = sum(len(_truth(index).boxes) for index in range(NUM))
    assert labels["num_images"] == NUM
    point = labels["operating_point"]
    assert (point["tp"], point["fp"], point["fn"]) == (num_objects, 2 * NUM, 0)
    assert labels["AP"] > 0.9


def test_labels_of_images_without_truth_are_not_scored(settings, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    source = _open(POOL)
    for item in source.items[:3]:
        (folder / f"{item.image_id}.png").write_bytes(source.read_bytes(item))
    pseudo = dataclasses.replace(
        settings,
        stage="pseudo",
        unlabeled=(f"images:{folder}",),
        classes=",".join(CLASS_NAMES),
        eval_data=OTHERS,
    )
    stages.run(pseudo)
    assert "pseudo_labels" not in _metrics(dataclasses.replace(settings, eval_data=OTHERS))


def test_second_evaluation_does_nothing_and_another_teacher_is_refused(settings):
    _metrics(settings)
    path = files.join(settings.workdir, "evaluate")
    before = manifests.read(path).info
    stages.run(settings)
    assert manifests.read(path).info == before
    with pytest.raises(UserError, match="teacher"):
        stages.run(dataclasses.replace(settings, teacher=(f"{ORACLE}&score=0.8",)))


def test_nothing_to_evaluate_says_what_to_do(settings):
    with pytest.raises(UserError, match="give --teacher"):
        stages.run(dataclasses.replace(settings, teacher=()))


def _truth(index: int):
    return scene_labels(seed=0, index=index, size=64, split="unlabeled")


def _open(text: str):
    return open_source(parse(text, DATA_KINDS))
