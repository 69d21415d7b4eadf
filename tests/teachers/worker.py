"""One worker of the labelling job as a process that a test can kill.

python -m tests.teachers.worker FOLDER NUM_IMAGES NUM_SHARDS WORKER NUM_WORKERS DELAY_MS
"""

import functools
import sys
import time

import numpy as np

from kd_tf.teachers.beside import Beside
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import Labeller, LabelSettings, LabelWriter
from kd_tf.teachers.predict_job import Work, label_predictions
from tests.teachers.made import CLASS_NAMES, RectangleTeacher, made_image, made_source


class SlowTeacher(RectangleTeacher):
    """Takes its time, so that a kill finds it at work."""

    def __init__(self, names, *, score: float, delay_s: float):
        super().__init__(names, score=score)
        self._delay_s = delay_s

    def detect(self, images):
        time.sleep(self._delay_s * len(images))
        return super().detect(images)


def run(folder: str, *, num_images: int, work: Work, delay_s: float) -> bool:
    """Labels with two teachers, fused beside the second; True when all is done."""
    source = made_source(num_images, bad={3: b"", num_images - 2: made_image(1)})
    scores = {"one": 0.8, "two": 0.6}
    labellers = [
        Labeller(name, f"{folder}/predictions/{name}", np.array([0, 1]), np.ones(2))
        for name in scores
    ]
    settings = LabelSettings(CLASS_NAMES, FusionSettings("wbf"), np.array([0.5, 0.5]))
    writer = LabelWriter(source, labellers, folder=f"{folder}/pseudo", work=work, settings=settings)
    with Beside() as beside:
        for who in labellers:
            label_predictions(
                SlowTeacher(CLASS_NAMES, score=scores[who.name], delay_s=delay_s),
                source,
                name=who.name,
                folder=who.folder,
                work=work,
                on_shard=lambda shard: beside.call(functools.partial(writer.write, shard)),
            )
    return writer.finish() is not None


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    num_images, num_shards, worker, num_workers, delay_ms = map(int, numbers)
    work = Work(
        num_shards, worker_index=worker, num_workers=num_workers, batch_size=4, max_bad_fraction=0.1
    )
    print("ready", flush=True)
    done = run(folder, num_images=num_images, work=work, delay_s=delay_ms / 1000)
    sys.exit(0 if done else 3)
