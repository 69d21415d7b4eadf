"""Too many rejects stop the run, and name the first ten."""

import pytest

from kd_tf.data.items import Reject
from kd_tf.data.rejects import check_fraction, count_rejects
from kd_tf.errors import UserError
from kd_tf.manifests import Counts


def _counts(*, written: int, skipped: int, reason: str = "damaged image") -> Counts:
    counts = Counts(seen=written + skipped, written=written)
    for number in range(skipped):
        counts.skip(reason, f"set/{number:02d}.jpg", detail="cut")
    return counts


def test_check_fraction_allows_the_limit_itself():
    check_fraction(_counts(written=99, skipped=1), max_bad_fraction=0.01, where="set")


def test_check_fraction_above_the_limit_names_the_first_ten():
    with pytest.raises(UserError) as error:
        check_fraction(_counts(written=900, skipped=12), max_bad_fraction=0.01, where="set")
    message = str(error.value)
    assert "set: 12 of 912 images cannot be used, more than 1.00%: 12 x damaged image" in message
    assert message.count("set/") == 10
    assert "set/00.jpg: cut (damaged image)" in message
    assert "--max_bad_fraction" in message


def test_check_fraction_copies_are_no_fault():
    counts = _counts(written=1, skipped=9, reason="duplicate image")
    check_fraction(counts, max_bad_fraction=0.0, where="set")


def test_check_fraction_of_nothing_passes():
    check_fraction(Counts(), max_bad_fraction=0.0, where="set")


def test_check_fraction_silent_loss_is_a_fault_of_the_program():
    counts = Counts(seen=10, written=8)
    counts.skip("damaged image", "a.jpg")
    with pytest.raises(AssertionError, match="10 images seen, 8 written, 1 skipped"):
        check_fraction(counts, max_bad_fraction=1.0, where="set")


def test_count_rejects_counts_images_as_seen_and_boxes_not():
    counts = Counts()
    count_rejects(counts, [Reject("a", "missing file"), Reject("b", "box inverted", "", False)])
    assert counts.seen == 1
    assert counts.skipped == {"missing file": 1}
    assert counts.skipped_boxes == {"box inverted": 1}
