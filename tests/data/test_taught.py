"""Which images a teacher learned from, as far as its workdir says."""

import numpy as np
import pytest

from kd_tf import files, manifests
from kd_tf.data import splits, taught
from kd_tf.data.labeled import open_labeled, write_labeled
from kd_tf.data.sources import open_source
from kd_tf.specs import DATA_KINDS, parse

NUM = 10


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A folder of labelled records with the table of their classes, and the records."""
    folder = tmp_path_factory.mktemp("run") / "labeled"
    source = open_source(parse(f"scenes:train?num={NUM}&size=64", DATA_KINDS))
    write_labeled(source, folder=str(folder), prefix="train", num_shards=2)
    table = splits.class_table(source)
    np.savez(folder / taught.TABLE, starts=table.starts, classes=table.classes)
    manifests.write(str(folder), manifests.Manifest("labeled", {}))
    return folder, open_labeled(str(folder), "train")


def _teacher(folder, identity, *, stage="teacher"):
    teacher = str(folder.parent / "teacher")
    if files.exists(teacher):
        files.remove(teacher)
    manifests.write(teacher, manifests.Manifest(stage, identity))
    return f"{teacher}/model.keras"


def test_teacher_of_all_labels_learned_from_all_images(records):
    folder, found = records
    path = _teacher(folder, {"seed": 0})
    assert taught.learned_by(path) == set(found.digests)
    assert taught.learned_from([], workdir=str(folder.parent)) == set(found.digests)
    assert taught.learned_from([f"keras:{path}?name=x"], workdir="/no") == set(found.digests)


def test_teacher_of_a_share_learned_from_that_share(records):
    folder, found = records
    path = _teacher(folder, {"seed": 3, "teacher_label_fraction": 0.3})
    table = taught.read_table(str(folder), num_classes=8)
    rows = splits.take_fraction(table, fraction=0.3, seed=3)
    assert len(rows) == 3
    assert taught.learned_by(path) == {list(found.digests)[row] for row in rows}


def test_other_networks_are_not_known(records, tmp_path):
    folder, _ = records
    assert taught.learned_by(_teacher(folder, {"seed": 0}, stage="pretrain")) is None
    assert taught.learned_by(str(tmp_path / "big.keras")) is None
    assert taught.learned_from(["tflite:a.tflite"], workdir=str(folder.parent)) == frozenset()
