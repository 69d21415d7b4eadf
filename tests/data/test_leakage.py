"""Images in two data sets at once are found by their content, not their names."""

import hashlib

import pytest

from kd_tf.data import leakage
from kd_tf.errors import UserError
from tests.data.made import open_spec

NAMES = {"held_out_name": "--eval_data=b", "used_name": "--labeled=a", "data_set": "b"}


def _source(folder, contents: dict[str, bytes]):
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return open_spec(f"images:{folder}")


def test_read_digests_are_sha256_of_the_files(tmp_path):
    source = _source(tmp_path / "a", {"1.png": b"one", "2.png": b"two", "3.png": b"one"})
    digests = leakage.read_digests(source)
    assert digests == {
        hashlib.sha256(b"one").hexdigest(): "a/1.png",
        hashlib.sha256(b"two").hexdigest(): "a/2.png",
    }


def test_read_digests_leaves_out_what_cannot_be_read(tmp_path):
    source = _source(tmp_path / "a", {"1.png": b"one", "2.png": b"two"})
    (tmp_path / "a" / "1.png").unlink()
    assert list(leakage.read_digests(source).values()) == ["a/2.png"]


def test_refuse_leakage_names_the_images(tmp_path):
    a = leakage.read_digests(_source(tmp_path / "a", {"1.png": b"one", "2.png": b"two"}))
    b = leakage.read_digests(_source(tmp_path / "b", {"x.png": b"two", "y.png": b"three"}))
    message = r"1 of the 2 images of --eval_data=b are also in --labeled=a.*\n  b/x.png is a/2.png"
    with pytest.raises(UserError, match=message):
        leakage.refuse_leakage(b, a, **NAMES)
    assert leakage.refuse_leakage(b, a, allow=True, **NAMES) == [("b/x.png", "a/2.png")]


def test_refuse_leakage_passes_disjoint_sets():
    assert leakage.refuse_leakage({"1": "b/x"}, {"2": "a/x"}, **NAMES) == []
    assert leakage.refuse_leakage({}, {}, **NAMES) == []


def test_refuse_leakage_names_the_first_ten_only():
    both = {f"{n:02d}": f"a/{n:02d}" for n in range(12)}
    with pytest.raises(UserError) as error:
        leakage.refuse_leakage(both, both, **NAMES)
    assert "a/09" in str(error.value)
    assert "a/10" not in str(error.value)


def test_the_real_blood_cell_splits_share_no_image(real_data):
    train, test = (
        leakage.read_digests(open_spec(f"voc:{real_data}/blood_cells/{part}"))
        for part in ("train", "test")
    )
    assert (len(train), len(test)) == (300, 60)
    assert leakage.refuse_leakage(test, train, **NAMES) == []
