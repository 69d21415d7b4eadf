"""Mutated images, JSON, XML and records: no crash, no hang, no silent loss.

2,000 mutations in a normal run, ten times as many when marked slow. Every one either reads as
what it is or is refused with a reason; images seen are images usable plus images rejected.
"""

import json
import time

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.data.shards import write_shard
from kd_tf.data.survey import survey
from kd_tf.errors import RejectedError, UserError
from tests.data import made
from tests.data.made import box, foreign_record, open_spec

# Pillow says what it stumbles over; the outcome is what counts here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# A single input may not take longer than this, on a machine with other work to do.
_HANG_S = 20.0

PIXELS = made.colours()
IMAGES = [
    made.encode(PIXELS, "JPEG", quality=80),
    made.encode(PIXELS, "JPEG", progressive=True),
    made.with_orientation(PIXELS, 6),
    made.encode(PIXELS),
    made.encode(PIXELS, mode="P"),
    made.with_orientation(PIXELS, 3, "PNG"),
    made.encode(PIXELS, "GIF"),
    made.encode(PIXELS, "WEBP"),
    made.encode(PIXELS, "BMP"),
    made.encode(PIXELS, "BMP", mode="P"),
    made.encode(PIXELS, "TIFF"),
    made.encode(PIXELS, "TIFF", compression="tiff_lzw"),
]
SIZE = {"height": 24, "width": 40}
JSON = json.dumps(
    {
        "images": [{"id": n, "file_name": f"{n}.png", **SIZE} for n in range(1, 4)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": [box(id=n, image_id=1 + n % 3, segmentation=[[1, 2]]) for n in range(6)],
    }
).encode()
XML = made.voc_xml([("cat", (2, 3, 11, 7), 0), ("dog", (1, 1, 40, 24), 1)]).encode()
TOKENS = [
    b"null",
    b"-1",
    b"NaN",
    b"1e999",
    b"[]",
    b"{}",
    b'"x"',
    b"<",
    b"&x;",
    b"99999999999999999999",
]


def _mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bytes flipped, cut, doubled, removed, or a token put in."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, max(len(changed), 1)))
        length = int(rng.integers(1, 30))
        kind = rng.integers(0, 6)
        if kind == 0 and changed:
            changed[place % len(changed)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            changed[place : place + length] = rng.bytes(length)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place : place + 1] = TOKENS[rng.integers(0, len(TOKENS))]
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def _mutations(bases: list[bytes], num: int, *, seed: int):
    rng = np.random.default_rng(seed)
    for number in range(num):
        start = time.monotonic()
        yield _mutate(bases[number % len(bases)], rng)
        assert time.monotonic() - start < _HANG_S, f"mutation {number} hangs"


def _all_images(num: int, folder) -> None:
    accepted = rejected = 0
    for data in _mutations(IMAGES, num, seed=1):
        try:
            image = check_image(data)
        except RejectedError as error:
            assert error.reason in (
                "empty file",
                "not an image",
                "damaged image",
                "too many pixels",
            )
            rejected += 1
            continue
        assert image.pixels.shape == (image.height, image.width, 3)
        again = check_image(image.encoded)
        np.testing.assert_array_equal(again.pixels, image.pixels)
        assert not again.reencoded
        accepted += 1
    assert accepted + rejected == num
    assert min(accepted, rejected) > num // 10
    folder.mkdir()
    for number, data in enumerate(_mutations(IMAGES, num // 10, seed=2)):
        (folder / f"{number}.jpg").write_bytes(data)
    _check_accounts(open_spec(f"images:{folder}"), seen=num // 10)


def _check_accounts(source: Source, *, seen: int) -> None:
    counts = survey(source).counts
    assert counts.seen == seen == counts.written + sum(counts.skipped.values())


def _labels(source: Source) -> tuple[int, bool]:
    """Boxes kept and boxes rejected in all images, and whether every image could be used."""
    num, whole = 0, True
    for item in source.items:
        try:
            labels, rejects = source.read_labels(item)
        except RejectedError:
            whole = False
            continue
        assert (labels.boxes >= 0).all()
        assert (labels.boxes <= [40, 24, 40, 24]).all()
        assert (labels.boxes[:, 2:] > labels.boxes[:, :2]).all()
        num += len(labels.boxes) + sum("clipped" not in r.reason for r in rejects)
    return num, whole


def _all_json(num: int, folder) -> None:
    spec = made.coco(folder, files={f"{n}.png": made.encode(PIXELS) for n in range(1, 4)})
    read = refused = 0
    for data in _mutations([JSON], num, seed=3):
        (folder / "instances.json").write_bytes(data)
        try:
            source = open_spec(spec)
        except UserError:
            refused += 1
            continue
        read += 1
        content = json.loads(data)
        listed = len(source.items) + sum(reject.whole_image for reject in source.rejects)
        assert listed == len(content["images"])
        if source.read_labels is None:
            continue
        boxes, whole = _labels(source)
        boxes += sum(not reject.whole_image for reject in source.rejects)
        if whole and len(source.items) == len(content["images"]):
            assert boxes == len(content["annotations"])
    assert read + refused == num
    assert min(read, refused) > num // 20


def _all_xml(num: int, folder) -> None:
    images = {f"{stem}.png": made.encode(PIXELS) for stem in "ab"}
    spec = made.voc(folder, {"a": XML.decode(), "b": ""}, images=images)
    read = refused = 0
    for data in _mutations([XML], num, seed=4):
        (folder / "Annotations" / "b.xml").write_bytes(data)
        source = open_spec(spec)
        listed = len(source.items) + sum(reject.whole_image for reject in source.rejects)
        assert listed == 2
        _labels(source)
        read += len(source.items) == 2
        refused += len(source.items) == 1
    assert read + refused == num
    assert min(read, refused) > num // 50


def _all_records(num: int, folder) -> None:
    folder.mkdir()
    records = [foreign_record(name) for name in "abc"]
    write_shard(str(folder), "x", shard=0, num_shards=1, records=records)
    whole = next(folder.glob("*.tfrecord")).read_bytes()
    path = folder / "mutated.tfrecord"
    read = refused = 0
    for data in _mutations([whole], num // 2, seed=5):
        path.write_bytes(data)
        try:
            source = open_spec(f"records:{path}")
        except UserError:
            refused += 1
            continue
        read += 1
        # Cut between two records, a file is one with fewer records: nothing tells.
        num_records, rest = divmod(len(data) * len(records), len(whole))
        _check_accounts(source, seen=len(records) if rest else num_records)
    # Damage inside a record whose checksums are right: whoever wrote it wrote nonsense.
    for data in _mutations(records, num - num // 2, seed=6):
        _write_one(path, data)
        try:
            _labels(open_spec(f"records:{path}"))
            read += 1
        except UserError:
            refused += 1
    assert read + refused == num
    assert read > num // 20
    assert refused > num // 20


def _write_one(path, record: bytes) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(record)


FUZZ = {"images": _all_images, "json": _all_json, "xml": _all_xml, "records": _all_records}


@pytest.mark.parametrize(
    ("kind", "num"), [("images", 900), ("json", 500), ("xml", 350), ("records", 250)]
)
def test_fuzz(tmp_path, kind, num):
    FUZZ[kind](num, tmp_path / kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FUZZ)
def test_fuzz_long(tmp_path, kind):
    FUZZ[kind](5000, tmp_path / kind)
