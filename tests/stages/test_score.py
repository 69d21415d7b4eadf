"""What is not scored is counted: unreadable labels, classes the run lacks, pools without labels."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from kd_tf import config, documents, files, stages
from kd_tf.data.rejects import NOT_SCORED
from kd_tf.data.scenes import CLASS_NAMES
from kd_tf.data.sources import open_source
from kd_tf.errors import RejectedError
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.stages import labels, score
from kd_tf.stages.run import Run
from tests.stages import oracle

NUM = 6
POOL = f"scenes:unlabeled?num={NUM}&size=64&labels=1"


def _score(source, folder, *, classes=CLASS_NAMES):
    detector = oracle.build(classes="+".join(classes))
    return score.score(detector, source, thresholds=[0.5] * len(classes), folder=str(folder))


def test_an_image_with_unreadable_labels_is_counted_and_left_out(tmp_path):
    source = open_source(parse(POOL, DATA_KINDS))
    bad = source.items[2]

    def read_labels(item):
        if item == bad:
            raise RejectedError("field of the wrong type", "boxes hold text")
        return source.read_labels(item)

    metrics, counts = _score(dataclasses.replace(source, read_labels=read_labels), tmp_path)
    assert (metrics["AP"], metrics["num_images"]) == (pytest.approx(1.0), NUM - 1)
    assert (counts.seen, counts.written) == (NUM, NUM - 1)
    assert counts.skipped["field of the wrong type"] == 1


def test_objects_of_classes_the_model_lacks_are_counted(tmp_path):
    source = open_source(parse(POOL, DATA_KINDS))
    known, lacking = CLASS_NAMES[:4], CLASS_NAMES[4:]
    metrics, counts = _score(source, tmp_path, classes=known)
    marked = np.concatenate([source.read_labels(item)[0].classes for item in source.items])
    left_out = sum(CLASS_NAMES[index] in lacking for index in marked)
    assert metrics["AP"] == pytest.approx(1.0)
    assert left_out > 0
    assert counts.skipped_boxes[NOT_SCORED] == left_out


def test_pseudo_labels_are_scored_on_the_pool_that_people_labelled(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    other = open_source(parse("scenes:train?num=3&size=64", DATA_KINDS))
    for item in other.items:
        (folder / f"{item.image_id}.png").write_bytes(other.read_bytes(item))
    settings = config.Config(
        stage="pseudo",
        workdir=str(tmp_path / "run"),
        teacher=("python:tests.stages.oracle:build?name=oracle",),
        unlabeled=(f"images:{folder}", POOL),
        classes=",".join(CLASS_NAMES),
        image_size="64x64",
    )
    stages.run(settings)
    stages.run(
        dataclasses.replace(
            settings, stage="evaluate", teacher=(), unlabeled=(), eval_data=f"{POOL}&seed=1"
        )
    )
    path = files.join(settings.workdir, "evaluate", "metrics.json")
    labels = documents.read_json(path)["pseudo_labels"]
    assert labels["num_images"] == NUM
    assert labels["counts"]["written"] == NUM


def _validation(tmp_path, *, crowd: bool, classes: tuple[str, ...] = CLASS_NAMES):
    """Labelled data of which the validation images hold crowds, or single objects."""
    settings = config.Config(workdir=str(tmp_path), labeled=("scenes:train?num=20&size=64",))
    data = labels.ensure_labeled(Run(settings, redo=False))
    source = data.validation()

    def read_labels(item):
        marked, rejects = source.read_labels(item)
        return dataclasses.replace(marked, is_crowd=np.full(len(marked.classes), crowd)), rejects

    changed = dataclasses.replace(source, read_labels=read_labels)
    return SimpleNamespace(class_names=classes, validation=lambda: changed)


@pytest.mark.parametrize(
    ("crowd", "classes"),
    [
        pytest.param(False, ("a", "b"), id="other_classes"),
        pytest.param(True, CLASS_NAMES, id="crowds"),
    ],
)
def test_validation_images_without_an_object_choose_nothing(tmp_path, caplog, crowd, classes):
    data = _validation(tmp_path, crowd=crowd, classes=classes)
    assert score.build_validator(data) is None
    assert "2 validation images hold no object of the run's classes" in caplog.text


def test_validation_images_with_an_object_choose(tmp_path):
    assert isinstance(score.build_validator(_validation(tmp_path, crowd=False)), score.Validator)
