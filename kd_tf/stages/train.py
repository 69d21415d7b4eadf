"""The four stages that train: teacher, pretrain, finetune, baseline."""

import dataclasses
import functools

import numpy as np
from absl import logging

from kd_tf import config, files, manifests
from kd_tf.data.augment import AugmentSettings
from kd_tf.data.pipeline import training_batches
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet
from kd_tf.detectors import zoo
from kd_tf.detectors.network import Network, count_parameters
from kd_tf.detectors.saving import load_network, save_network
from kd_tf.errors import UserError
from kd_tf.stages import job, labels, score
from kd_tf.stages.run import Run, need_labels
from kd_tf.training import loop
from kd_tf.training.settings import TrainSettings
from kd_tf.training.strategy import build_strategy, is_chief

MODEL = "model.keras"
_POLICY = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What one training stage learns from.

    Attributes:
        stage: Its name.
        network: Name of the network.
        records: Where the labels are.
        rows: Which of the records; None means all.
        steps: Updates.
        first_weights: File of a network to go on from, or None.
    """

    stage: str
    network: str
    records: RecordSet
    rows: np.ndarray | None
    steps: int
    first_weights: str | None = None


def teacher(run: Run) -> bool:
    """Trains a big detector on people's labels."""
    need_labels(run, "teacher")
    settings, data = run.settings, labels.ensure_labeled(run)
    rows = functools.partial(data.take, settings.teacher_label_fraction)
    lesson = functools.partial(
        Lesson, "teacher", settings.teacher_model, steps=settings.teacher_steps
    )
    return _ensure(run, lesson, records=data, rows=rows)
