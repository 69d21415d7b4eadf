"""A detector on several replicas finds what it finds on one device."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.detectors import replicas


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
    assert found["replicas"] == 2
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


def test_a_batch_is_rounded_up_to_all_replicas(found):
    assert found["rounded"] == 4
    assert replicas.round_up(3, strategy=None) == 3


def test_strategies_of_one_device_or_several_processes_are_left_alone():
    assert replicas.spreading(None) is None
    assert replicas.spreading(tf.distribute.OneDeviceStrategy("/cpu:0")) is None
    with replicas.scope(tf.distribute.OneDeviceStrategy("/cpu:0")):
        assert not tf.distribute.has_strategy()
