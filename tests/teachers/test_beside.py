import functools
import threading
import time

import numpy as np
import pytest

from kd_tf.data.shards import RecordSet
from kd_tf.teachers.beside import Beside
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import Labeller, LabelSettings, LabelWriter
from kd_tf.teachers.predict_job import Work, label_predictions
from tests.teachers.made import CLASS_NAMES, RectangleTeacher, made_source


def test_calls_run_in_order_while_the_caller_goes_on():
    order, go = [], threading.Event()
    with Beside() as beside:
        beside.call(lambda: (go.wait(10), order.append("first")))
        beside.call(lambda: order.append("second"))
        order.append("caller")
        go.set()
    assert order == ["caller", "first", "second"]


def test_an_error_comes_out_at_the_end():
    with pytest.raises(OSError, match="full"), Beside() as beside:
        beside.call(_full)


def test_an_error_comes_out_of_the_next_call():
    beside, called = Beside(), []
    with pytest.raises(OSError, match="full"), beside:
        beside.call(_full)
        while True:
            beside.call(lambda: called.append(1))


def test_the_error_of_the_caller_stays_and_what_waits_is_dropped():
    go, called = threading.Event(), []
    with pytest.raises(KeyError), Beside() as beside:
        beside.call(lambda: go.wait(10))
        beside.call(lambda: called.append(1))
        threading.Timer(0.2, go.set).start()
        raise KeyError
    assert called == []


def test_labels_are_written_while_the_teacher_looks_on(tmp_path):
    first = tmp_path / "pseudo" / "pseudo-00000-of-00003.tfrecord"

    class Watching(RectangleTeacher):
        """Looks at the last shard's images when the labels of the first are there."""

        def detect(self, images):
            waited = 0.0
            while self.num_images >= 6 and not first.exists():
                assert waited < 30.0
                time.sleep(0.01)
                waited += 0.01
            return super().detect(images)

    source, work = made_source(9), Work(num_shards=3, batch_size=3)
    labeller = Labeller("one", str(tmp_path / "one"), np.array([0, 1]), np.ones(2))
    settings = LabelSettings(CLASS_NAMES, FusionSettings(), np.array([0.5, 0.5]))
    writer = LabelWriter(
        source, [labeller], folder=str(tmp_path / "pseudo"), work=work, settings=settings
    )
    with Beside() as beside:
        label_predictions(
            Watching(),
            source,
            name="one",
            folder=labeller.folder,
            work=work,
            on_shard=lambda shard: beside.call(functools.partial(writer.write, shard)),
        )
    assert writer.finish().written == len(RecordSet.open(str(tmp_path / "pseudo"))) == 9


def _full() -> None:
    raise OSError("disk full")
