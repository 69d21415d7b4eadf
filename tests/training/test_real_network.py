"""Real networks under replicas and micro-batches, in a process of their own: logical CPUs
are made before TensorFlow starts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.training.process import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_tiny", "yolov8_tiny"])
def test_replicas_with_micro_batches_equal_one_whole_batch(name):
    # A RetinaNet's heads are shared by five levels: its gradients are long sums, which Grappler
    # rewrites.
    found = subprocess.run(
        [sys.executable, "-m", "tests.training.real_network", name],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    rows = json.loads(found.stdout.splitlines()[-1])
    assert rows["replicas"] == 2
    assert rows["one"][0] != rows["one"][1]
    np.testing.assert_allclose(rows["mirrored"], rows["one"], rtol=1e-4)
