"""Settings of a run in which teachers that know the truth label a few scenes."""

import pytest

from kd_tf import config
from tests.stages.oracle import NUM


@pytest.fixture
def settings(tmp_path):
    return config.Config(
        stage="pseudo",
        workdir=str(tmp_path / "run"),
        labeled=(f"scenes:train?num={NUM}&size=64",),
        unlabeled=(f"scenes:unlabeled?num={NUM}&size=64",),
        val_fraction=0.5,
        image_size="64x64",
        teacher=("python:tests.stages.oracle:build?name=all",),
        score_threshold="0.5",
        num_shards=3,
    )
