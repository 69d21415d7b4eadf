"""Parts of the labels: nested by seed, in proportion, no class lost."""

import numpy as np
import pytest

from kd_tf.data import splits
from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import box, open_spec


def _table(
    classes_of_images: list[list[int]], *, num_classes: int, unusable=()
) -> splits.ClassTable:
    starts = np.cumsum([0, *map(len, classes_of_images)])
    flat = np.array([index for classes in classes_of_images for index in classes], np.int32)
    usable = np.ones(len(classes_of_images), bool)
    usable[list(unusable)] = False
    return splits.ClassTable(starts, flat, usable, num_classes)


def _long_tail(num_images: int = 1000) -> splits.ClassTable:
    """Class 0 in every image but the last 100, class 1 in every tenth, class 2 in three."""
    images = [[0] if row < 900 else [] for row in range(num_images)]
    for row in range(0, num_images, 10):
        images[row] = [*images[row], 1]
    for row in (5, 455, 955):
        images[row] = [*images[row], 2]
    return _table(images, num_classes=3)


TABLE = _long_tail()


@pytest.mark.parametrize("seed", [0, 1, 17, -3])
def test_take_fraction_is_nested_in_proportion_and_loses_no_class(seed):
    five, ten, half, all_rows = (
        splits.take_fraction(TABLE, fraction=f, seed=seed) for f in (0.05, 0.1, 0.5, 1.0)
    )
    assert [len(rows) for rows in (five, ten, half, all_rows)] == [50, 100, 500, 1000]
    assert set(five) < set(ten) < set(half) < set(all_rows)
    for rows in (five, ten, half):
        counts = np.bincount(np.concatenate([TABLE.of(row) for row in rows]), minlength=3)
        share = len(rows) / 1000
        # 900, 100 and 3 images of the classes; 93 images have none.
        assert abs(counts[0] - 900 * share) <= 0.04 * 1000 * share + 2
        assert abs(counts[1] - 100 * share) <= 2 + 0.05 * 100 * share
        assert 1 <= counts[2] <= np.ceil(3 * share) + 1
        assert len(splits.missing_classes(TABLE, rows)) == 0


def test_take_fraction_repeats_by_seed_and_differs_between_seeds():
    first, again, other = (splits.take_fraction(TABLE, fraction=0.1, seed=s) for s in (3, 3, 4))
    assert first.tolist() == again.tolist() == sorted(first)
    assert len(set(first) & set(other)) < 40  # 10 expected by chance


def test_take_number_covers_the_classes_first_and_says_which_are_missing():
    table = _table([[0]] * 50 + [[1]] * 5 + [[2]], num_classes=4)
    # Rarest first; class 3 has no image at all, so it is not missing.
    assert splits.take_number(table, number=1, seed=0).tolist() == [55]
    two = splits.take_number(table, number=2, seed=0)
    assert splits.missing_classes(table, two).tolist() == [0]
    three = splits.take_number(table, number=3, seed=0)
    assert splits.missing_classes(table, three).tolist() == []


def test_take_fraction_chooses_among_the_given_usable_rows():
    table = _table([[0]] * 10, num_classes=1, unusable=[2])
    rows = splits.take_fraction(table, fraction=1.0, seed=0, rows=[1, 2, 3])
    assert rows.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("fraction", "number"),
    [
        pytest.param(0.001, 1, id="at_least_one"),
        pytest.param(0.25, 3, id="half_is_rounded_up"),
        pytest.param(1.0, 10, id="all"),
    ],
)
def test_take_fraction_rounds(fraction, number):
    table = _table([[0]] * 10, num_classes=1)
    assert len(splits.take_fraction(table, fraction=fraction, seed=0)) == number


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_take_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(UserError, match=r"must be in \(0, 1\]"):
        splits.take_fraction(TABLE, fraction=fraction, seed=0)


def test_take_number_beyond_what_is_there_is_refused():
    with pytest.raises(UserError, match="1001 labelled images are asked for; there are 1000"):
        splits.take_number(TABLE, number=1001, seed=0)


@pytest.mark.parametrize("seed", [0, 5])
def test_split_validation_is_disjoint_and_leaves_every_class_in_training(seed):
    training, validation = splits.split_validation(TABLE, fraction=0.1, seed=seed)
    assert len(validation) == 100
    assert sorted([*training, *validation]) == list(range(1000))
    assert splits.missing_classes(TABLE, training).tolist() == []
    assert splits.missing_classes(TABLE, validation).tolist() == []


def test_split_validation_never_takes_the_last_image_of_a_class():
    table = _table([[0], [1], [2], [0, 3], [0], [0]], num_classes=4)
    for seed in range(10):
        training, validation = splits.split_validation(table, fraction=0.5, seed=seed)
        assert {1, 2, 3} <= set(training.tolist())
        assert 1 <= len(validation) <= 3


def test_split_validation_of_one_image_is_refused():
    with pytest.raises(UserError, match="cannot be split"):
        splits.split_validation(_table([[0]], num_classes=1), fraction=0.5, seed=0)


def test_class_table_reads_labels_without_crowds_and_marks_the_unusable(tmp_path):
    size = {"height": 24, "width": 40}
    images = [{"id": n, "file_name": f"{n}.png", **size} for n in (1, 2, 3)]
    notes = [
        box(image_id=1, category_id=90), box(image_id=1, category_id=3),
        box(image_id=1, category_id=3), box(image_id=2, category_id=3, iscrowd=1),
    ]  # fmt: skip
    good = made.encode(made.colours())
    files = {"1.png": good, "2.png": good, "3.png": b"no image"}
    source = open_spec(made.coco(tmp_path, images=images, annotations=notes, files=files))
    table = splits.class_table(source)
    assert [table.of(row).tolist() for row in range(3)] == [[0, 1], [], []]
    assert table.usable.tolist() == [True, True, False]


def test_ids_file_round_trip_with_odd_names(tmp_path):
    names = ["a b.png", "line\nbreak.png", '"quoted".png', " blank .png", "ä%.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    source = open_spec(f"images:{tmp_path}")
    path = str(tmp_path / "ids.txt")
    splits.write_ids(path, source, rows=[4, 0, 2, 1, 3])
    assert splits.read_ids(path, source).tolist() == [0, 1, 2, 3, 4]
    splits.write_ids(path, source, rows=[2])
    assert splits.read_ids(path, source).tolist() == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a.png\nz.png\n", r"2 ids; 1 are not in .*: 'z\.png'", id="unknown"),
        pytest.param("a.png\na.png\n", "'a.png' more than once", id="twice"),
        pytest.param("\n", "lists 0 ids", id="empty"),
        pytest.param('"a\n', "no JSON string", id="half_a_string"),
    ],
)
def test_read_ids_refuses(tmp_path, text, message):
    (tmp_path / "a.png").write_bytes(b"x")
    source = open_spec(f"images:{tmp_path}")
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        splits.read_ids(str(tmp_path / "ids.txt"), source)


def test_read_ids_of_a_missing_file_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match="does not exist"):
        splits.read_ids(str(tmp_path / "no.txt"), open_spec(f"images:{tmp_path}"))
