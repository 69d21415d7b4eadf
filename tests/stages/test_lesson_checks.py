"""Weights and class indices are taken over by position: other networks and orders are refused."""

import dataclasses
import io
import json
import zipfile

import pytest

from kd_tf import config, files, manifests, stages
from kd_tf.data.scenes import CLASS_NAMES
from kd_tf.errors import UserError
from kd_tf.stages import job, lesson_checks

SETTINGS = config.Config(
    labeled=("scenes:train?num=8&size=64",),
    image_size="64x64",
    student="yolov8_tiny",
    finetune_steps=1,
)
SWAPPED = (CLASS_NAMES[1], CLASS_NAMES[0], *CLASS_NAMES[2:])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(("b", "a"), "2 and 2, and number 1 is 'b' and 'a'", id="order"),
        pytest.param(("a",), "1 and 2, and number 2 is 'none' and 'b'", id="fewer"),
        pytest.param(("a", "b", "c"), "3 and 2, and number 3 is 'c' and 'none'", id="more"),
    ],
)
def test_check_class_names_names_the_first_difference(found, message):
    lesson_checks.check_class_names("pseudo", ("a", "b"), ["a", "b"])
    with pytest.raises(UserError, match=f"^pseudo and the labelled data .*: they have {message}"):
        lesson_checks.check_class_names("pseudo", found, ("a", "b"))


def _pretrained(workdir: str, *, network: str, class_names: tuple[str, ...]) -> None:
    """A finished stage pretrain, its network without weights: refused before they are read."""
    spec = {
        "format_version": 1, "name": network, "class_names": class_names,
        "image_size": [64, 64], "precision": "float32", "meta": {},
    }  # fmt: skip
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("spec.json", json.dumps(spec))
    folder = files.join(workdir, "pretrain")
    files.write_bytes(files.join(folder, "model.keras"), content.getvalue())
    manifests.write(folder, manifests.Manifest("pretrain", {}))


@pytest.mark.parametrize(
    ("network", "class_names", "message"),
    [
        pytest.param("yolov8_tiny", SWAPPED, f"number 1 is '{SWAPPED[0]}'", id="order"),
        pytest.param("yolov8_tiny", CLASS_NAMES[:3], "they have 3 and 8", id="fewer_classes"),
        pytest.param(
            "yolov8_xs", CLASS_NAMES, "holds a yolov8_xs.*not with --student=yolov8_tiny", id="name"
        ),
    ],
)
def test_finetune_refuses_a_student_of_other_classes_or_network(
    tmp_path, network, class_names, message
):
    workdir = str(tmp_path)
    _pretrained(workdir, network=network, class_names=class_names)
    with pytest.raises(UserError, match=message):
        stages.run(dataclasses.replace(SETTINGS, stage="finetune", workdir=workdir))
    assert not job.made_anything(files.join(workdir, "finetune"))


def test_pretrain_refuses_pseudo_labels_of_another_order_than_the_validation_images(tmp_path):
    settings = dataclasses.replace(
        SETTINGS,
        workdir=str(tmp_path),
        teacher=("python:tests.stages.oracle:build?name=oracle",),
        unlabeled=("scenes:unlabeled?num=4&size=64",),
        num_shards=1,
    )
    stages.run(dataclasses.replace(settings, stage="pseudo", labeled=(), classes=",".join(SWAPPED)))
    with pytest.raises(UserError, match=f"pseudo and .*number 1 is '{SWAPPED[0]}'"):
        stages.run(dataclasses.replace(settings, stage="pretrain"))
