"""A detector on several replicas finds what it finds on one device."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kd_tf import config, specs
from kd_tf.data.sources import open_source
from kd_tf.detectors import network_detector, replicas, saving, zoo
from kd_tf.stages import score, teachers
from kd_tf.stages.run import Run
from kd_tf.teachers import load


@pytest.fixture(scope="module")
def found():
    done = subprocess.run(
        [sys.executable, "-m", "tests.detectors.on_two_devices"],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("when", ["before", "after", "alone"])
def test_two_replicas_find_what_one_device_finds(found, when):
    one, two = found["one"][when], found["two"][when]
    assert len(one) == len(two) == (1 if when == "alone" else 7)
    for (boxes, scores, classes), (others, other_scores, other_classes) in zip(
        one, two, strict=True
    ):
        assert len(scores) > 3
        np.testing.assert_allclose(others, boxes, atol=1e-3)
        np.testing.assert_allclose(other_scores, scores, atol=1e-5)
        assert other_classes == classes


def test_images_differ_and_so_do_weights(found):
    # Else the test above could not tell one image, or one moment, from another.
    two = found["two"]
    assert len({str(image) for image in two["before"]}) == 7
    assert two["before"][0] != two["after"][0]
    np.testing.assert_allclose(two["alone"][0][1], two["after"][4][1], atol=1e-5)


def test_each_replica_sees_its_part_of_a_whole_batch_or_one_image(found):
    # Batches of 3 are rounded up to 4; a replica may be traced more than once.
    assert {tuple(part) for part in found["two"]["parts"]} == {(0, 2), (1, 2), (0, 1), (1, 1)}
    assert found["one"]["parts"] == [[0, None]]


def test_strategies_of_one_device_or_several_processes_are_left_alone():
    assert replicas.spreading(None) is None
    assert replicas.spreading(tf.distribute.OneDeviceStrategy("/cpu:0")) is None
    with replicas.scope(tf.distribute.OneDeviceStrategy("/cpu:0")):
        assert not tf.distribute.has_strategy()


def test_networks_that_label_and_validate_are_spread(monkeypatch, tmp_path):
    spread = []
    monkeypatch.setattr(
        network_detector.replicas, "on_replicas", lambda infer, strategy: spread.append(strategy)
    )
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    path = str(tmp_path / "model.keras")
    network = zoo.build("yolov8_tiny", class_names=("a",), image_size=(64, 64))
    saving.save_network(network, path)
    spec = specs.parse(f"keras:{path}", specs.TEACHER_KINDS)
    load.load_teacher(spec, settings=load.LoadSettings(strategy=strategy))
    run = Run(config.Config(workdir=str(tmp_path)), redo=False, strategy=strategy)
    teachers.load_teacher(run, spec)
    images = open_source(specs.parse("scenes:eval?num=1&size=64", specs.DATA_KINDS))
    score.Validator(images, None, strategy=strategy)._predict(network)
    assert spread == [strategy] * 3
