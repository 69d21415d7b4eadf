"""The input pipeline: values of batches, order, workers, resume, damage."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.pipeline import training_batches
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError
from kd_tf.geometry import letterbox
from tests.data.made_records import COLORS, NAMES, SCORES, example, picture, write_set

EVERYTHING = AugmentSettings(flip=0.5, scale_jitter=(0.6, 1.8), mosaic=0.5)


@pytest.fixture(scope="module")
def eleven() -> RecordSet:
    """Eleven pictures in three shards."""
    return write_set("ram://pipeline/eleven", [example(n) for n in range(11)], num_shards=3)


def _batches(records_, num: int, **changes) -> list[dict[str, np.ndarray]]:
    arguments = {
        "class_names": NAMES,
        "image_size": (64, 96),
        "batch_size": 4,
        "seed": 0,
        "start_step": 0,
        "augment": AugmentSettings(),
        "select": SelectSettings(0.5, 0.3, "linear"),
        "max_boxes": 16,
    }
    dataset = training_batches(records_, **(arguments | changes))
    gc.collect()  # what only the caller's frame kept alive is gone now
    return list(dataset.take(num).as_numpy_iterator())


def _equal(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_batches_have_the_promised_shapes_and_types(eleven):
    dataset = training_batches(
        eleven,
        class_names=NAMES,
        image_size=(64, 96),
        batch_size=4,
        seed=0,
        start_step=0,
        augment=EVERYTHING,
        select=SelectSettings(),
        max_boxes=7,
    )
    assert {key: (tuple(s.shape), s.dtype.name) for key, s in dataset.element_spec.items()} == {
        "images": ((4, 64, 96, 3), "uint8"),
        "boxes": ((4, 7, 4), "float32"),
        "classes": ((4, 7), "int32"),
        "weights": ((4, 7), "float32"),
        "ignore": ((4, 7), "bool"),
        "judged": ((4, 4), "bool"),
        "ids": ((4,), "string"),
        "num_cut": ((4,), "int32"),
    }


def test_batches_without_augmentation_are_the_letterbox(eleven):
    for batch in _batches(eleven, 3):
        for row, name in enumerate(batch["ids"]):
            pixels, boxes, _ = picture(int(name.decode().split("/")[1]))
            image = letterbox.resize_image(tf.constant(pixels), (64, 96), resize="letterbox")
            np.testing.assert_array_equal(batch["images"][row], image.numpy())
            expected = letterbox.boxes_to_input(
                boxes, pixels.shape[:2], (64, 96), resize="letterbox"
            )
            np.testing.assert_allclose(batch["boxes"][row, :4], expected, atol=1e-4)
            assert not batch["boxes"][row, 4:].any()
            # Objects by score, then the one in doubt, then padding.
            assert batch["classes"][row].tolist() == [0, 1, 2, 3] + [-1] * 12
            assert batch["ignore"][row].tolist() == [False] * 3 + [True] + [False] * 12
            np.testing.assert_allclose(batch["weights"][row], [0.9, 0.8, 0.7] + [0.0] * 13)
            assert batch["judged"][row].all() and batch["num_cut"][row] == 0


def _check_example(image: np.ndarray, batch: dict, row: int) -> int:
    """Every box holds its class's colour and its own weight; every colour lies in a box."""
    covered = np.zeros(image.shape[:2], bool)
    checked = 0
    for box, index, weight, ignore in zip(
        *(batch[key][row] for key in ("boxes", "classes", "weights", "ignore")), strict=True
    ):
        if index < 0:
            continue
        x1, y1, x2, y2 = box
        covered[max(int(y1) - 1, 0) : int(y2) + 2, max(int(x1) - 1, 0) : int(x2) + 2] = True
        inner = image[int(y1) + 2 : max(int(y2) - 2, 0), int(x1) + 2 : max(int(x2) - 2, 0)]
        if inner.size:
            assert np.abs(inner.astype(int) - COLORS[index]).max() <= 2
        assert weight == (0.0 if ignore else np.float32(SCORES[index]))
        assert ignore or index != 3
        checked += 1
    spread = image.max(axis=2).astype(int) - image.min(axis=2)
    assert not ((spread > 100) & ~covered).any()
    return checked


def test_batches_augmented_boxes_lie_on_their_objects_with_their_weights(eleven):
    checked, mosaics = 0, 0
    for batch in _batches(eleven, 15, augment=EVERYTHING):
        for row in range(4):
            num = _check_example(batch["images"][row], batch, row)
            mosaics += num > 4
            checked += num
    assert checked > 200 and mosaics > 5


def test_batches_of_an_epoch_hold_every_record_once(eleven):
    batches = _batches(eleven, 11)  # 44 images: four epochs of eleven
    ids = np.concatenate([batch["ids"] for batch in batches])
    for epoch in range(4):
        assert len(set(ids[epoch * 11 : epoch * 11 + 11])) == 11
    assert ids[:11].tolist() != ids[11:22].tolist()


FULL = AugmentSettings(flip=0.5, scale_jitter=(0.6, 1.8), color=0.7, mosaic=0.5, mixup=0.4)


@pytest.fixture(scope="module")
def reference(eleven) -> list[dict[str, np.ndarray]]:
    """Six fully augmented batches made one image at a time."""
    return _batches(eleven, 6, augment=FULL, num_parallel_calls=1)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_are_the_same_whatever_workers_and_threads(eleven, reference, num_workers):
    parts = [
        _batches(
            eleven,
            6,
            augment=FULL,
            num_parallel_calls=4,
            worker_index=worker,
            num_workers=num_workers,
        )
        for worker in range(num_workers)
    ]
    for step, expected in enumerate(reference):
        joined = {key: np.concatenate([part[step][key] for part in parts]) for key in expected}
        _equal(joined, expected)


def test_batches_from_step_k_are_those_of_a_run_from_the_start(eleven, reference):
    # Step 4 lies in the second epoch: 4 * 4 > 11.
    for got, expected in zip(
        _batches(eleven, 2, augment=FULL, start_step=4), reference[4:], strict=True
    ):
        _equal(got, expected)


def test_batches_of_another_seed_differ(eleven, reference):
    other = _batches(eleven, 2, seed=1)
    assert all(
        one["ids"].tolist() != two["ids"].tolist()
        for one, two in zip(other, reference, strict=False)
    )


def test_batches_several_sets_empty_images_and_rows():
    people = [example(20, human=True), example(21, empty=True)]
    both = [
        write_set("ram://pipeline/pseudo", [example(n) for n in range(3)]),
        write_set("ram://pipeline/people", people),
    ]
    (batch,) = _batches(both, 1, batch_size=3, rows=np.array([1, 3, 4]))
    rows = {name.decode(): row for row, name in enumerate(batch["ids"])}
    assert sorted(rows) == ["set/1", "set/20", "set/21"]
    np.testing.assert_allclose(batch["weights"][rows["set/20"], :5], [1, 1, 1, 1, 0])
    assert (batch["classes"][rows["set/21"]] == -1).all()
    assert batch["judged"][rows["set/21"]].all()


def test_batches_cap_keeps_the_best_and_counts_the_rest(eleven):
    (batch,) = _batches(eleven, 1, max_boxes=2)
    assert batch["classes"].tolist() == [[0, 1]] * 4
    assert batch["num_cut"].tolist() == [1] * 4
    # Blue is beyond the limit, and so is yellow, which is in the ignore band.
    assert batch["judged"].tolist() == [[True, True, False, False]] * 4


def test_batches_mosaic_judges_only_what_all_its_images_judge():
    judged = [[0, 1], [1, 2], [0, 1, 2, 3], []]
    examples = [example(n, judged=np.array(one, np.int32)) for n, one in enumerate(judged)]
    read = write_set("ram://pipeline/judged", examples)
    (plain,) = _batches(read, 1)
    for row, name in enumerate(plain["ids"]):
        number = int(name.decode().split("/")[1])
        assert np.flatnonzero(plain["judged"][row]).tolist() == judged[number]
    seen = set()
    for batch in _batches(read, 20, augment=AugmentSettings(mosaic=1.0)):
        for row, name in enumerate(batch["ids"]):
            number = int(name.decode().split("/")[1])
            found = tuple(np.flatnonzero(batch["judged"][row]))
            assert set(found) <= set(judged[number])
            seen.add(found)
    assert () in seen and (1,) in seen and len(seen) > 3


def test_batches_mixup_blends_and_keeps_both_images_boxes(eleven):
    (batch,) = _batches(eleven, 1, augment=AugmentSettings(mixup=1.0), max_boxes=16)
    assert (np.sum(batch["classes"] >= 0, axis=1) == 8).all()
    # Two blended rectangles of full colour reach at most 0.6 alone, 1 where they agree.
    assert ((batch["images"] > 95) & (batch["images"] < 160)).any(axis=(1, 2, 3)).all()


def test_batches_color_changes_pixels_and_no_label(eleven):
    (plain,), (colored,) = (
        _batches(eleven, 1, augment=AugmentSettings(color=strength)) for strength in (0.0, 1.0)
    )
    for key in ("boxes", "classes", "weights", "ids"):
        np.testing.assert_array_equal(plain[key], colored[key])
    assert all((plain["images"][row] != colored["images"][row]).mean() > 0.05 for row in range(4))


def test_batches_damaged_record_is_named(tmp_path):
    write_set(str(tmp_path), [example(n) for n in range(4)])
    path = tmp_path / "x-00000-of-00001.tfrecord"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(tf.errors.OpError, match=r"damaged record: record 0 of .*x-00000-of-00001"):
        _batches(RecordSet.open(str(tmp_path)), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"num_workers": 3}, "batch_size 4 is not divisible", id="workers"),
        pytest.param({"num_workers": 2, "worker_index": 2}, r"in \[0, 2\), got 2", id="worker"),
        pytest.param({"max_boxes": 0}, "max_boxes must be at least 1", id="boxes"),
        pytest.param({"rows": np.zeros(0, int)}, "no record to train on", id="rows"),
        pytest.param({"rows": np.array([11])}, r"rows must be in \[0, 11\)", id="row_outside"),
        pytest.param({"select": SelectSettings((0.5,))}, "1 values for 4", id="thresholds"),
    ],
)
def test_training_batches_refuses_before_any_work(eleven, changes, message):
    with pytest.raises(UserError, match=message):
        _batches(eleven, 1, **changes)
