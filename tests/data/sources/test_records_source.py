"""Record files as a source: what was written comes back, labels, ids and digests."""

import hashlib

import numpy as np
import pytest

from kd_tf.data import leakage
from kd_tf.data.labeled import write_labeled
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import reading
from kd_tf.data.views import combine
from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import box, open_spec

PIXELS = made.colours()


@pytest.fixture
def written(tmp_path):
    """A COCO set with a turned photo, and the records made from it."""
    photo = made.with_orientation(PIXELS, 6)  # upright 24 wide, 40 high
    images = [
        {"id": 70, "file_name": "a.png", "height": 24, "width": 40},
        {"id": 9, "file_name": "b.jpg", "height": 24, "width": 40},
        {"id": 11, "file_name": "c.jpg", "height": 24, "width": 40},
    ]
    notes = [
        box(image_id=70, category_id=90),
        box(image_id=70, category_id=3, iscrowd=1, bbox=[0, 0, 40, 24]),
        box(image_id=9, category_id=3, bbox=[1, 2, 10, 5]),
    ]
    data = {"a.png": made.encode(PIXELS), "b.jpg": photo, "c.jpg": b"no image"}
    source = open_spec(made.coco(tmp_path, images=images, annotations=notes, files=data))
    folder = str(tmp_path / "records")
    counts = write_labeled(source, folder=folder, prefix="train", num_shards=2)
    assert (counts.seen, counts.written, dict(counts.skipped)) == (3, 2, {"not an image": 1})
    return source, folder, photo


def test_open_records_gives_back_what_was_written(written):
    coco, folder, _ = written
    source = open_spec(f"records:{folder}?name=again")
    assert source.class_names == coco.class_names == ("cat", "dog")
    assert [(i.image_id, i.original_id) for i in source.items] == [(9, "set/9"), (70, "set/70")]
    by_id = {item.image_id: item for item in coco.items}
    for item in source.items:
        labels, rejects = source.read_labels(item)
        theirs, _ = coco.read_labels(by_id[item.image_id])
        # Records keep fractions as float32.
        np.testing.assert_allclose(labels.boxes, theirs.boxes, atol=1e-4)
        assert labels.classes.tolist() == theirs.classes.tolist()
        assert labels.is_crowd.tolist() == theirs.is_crowd.tolist()
        np.testing.assert_allclose(labels.areas, theirs.areas)
        assert rejects == []
    # [1, 2, 11, 7] turned with its photo.
    turned, _ = source.read_labels(source.items[0])
    np.testing.assert_allclose(turned.boxes, [[17, 1, 22, 11]], atol=1e-4)


def test_a_re_encoded_photo_keeps_the_digest_of_the_original_file(written):
    coco, folder, photo = written
    source = open_spec(f"records:{folder}")
    item = source.items[0]
    assert source.read_bytes(item) != photo
    assert source.read_sha256(item) == hashlib.sha256(photo).hexdigest()
    for view in (source, combine([source, open_spec(f"records:{folder}?name=copy")])):
        shared = leakage.read_digests(coco).keys() & leakage.read_digests(view).keys()
        assert len(shared) == 2


def test_open_records_reads_every_record_once(written, monkeypatch):
    _, folder, _ = written
    read, numbers = RecordSet.read, []

    def counted(records: RecordSet, number: int) -> bytes:
        numbers.append(number)
        return read(records, number)

    monkeypatch.setattr(RecordSet, "read", counted)
    source = open_spec(f"records:{folder}")
    assert numbers == [0, 1]
    # The digest of what was read, as of old: stages that were made of it stay valid.
    digest = hashlib.sha256()
    for record in RecordSet.open(folder):
        digest.update(hashlib.sha256(record).digest())
    assert source.fingerprint == reading.fingerprint([digest.digest(), "cat", "dog"])


def test_open_records_without_any_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match="holds"):
        open_spec(f"records:{tmp_path}")
