"""Manifests: completeness, identity and counts."""

import pytest

from kd_tf import files, manifests
from kd_tf.errors import UserError
from kd_tf.manifests import Counts, Manifest


def test_write_then_read_gives_the_same_manifest():
    folder = "ram://manifests/round_trip"
    counts = Counts(seen=3, written=1)
    counts.skip("truncated", "a.jpg", detail="at byte 9")
    counts.skip("no area", "b.jpg: box 2", whole_image=False)
    assert not manifests.is_complete(folder)
    manifests.write(
        folder,
        Manifest("pseudo", {"seed": 1, "classes": ("a", "b")}, {"x": "00"}, {"s": 2.5}, counts),
    )
    assert manifests.is_complete(folder)
    back = manifests.read(folder)
    assert (back.stage, back.outputs, back.info) == ("pseudo", {"x": "00"}, {"s": 2.5})
    assert back.identity == {"seed": 1, "classes": ["a", "b"]}
    assert back.counts.to_json() == {
        "seen": 3,
        "written": 1,
        "skipped": {"truncated": 1},
        "skipped_boxes": {"no area": 1},
        "kept_boxes": 0,
        "examples": {"no area": ["b.jpg: box 2"], "truncated": ["a.jpg: at byte 9"]},
    }


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        pytest.param({}, {}, [], id="empty"),
        pytest.param({"a": 1, "b": (1, 2)}, {"b": [1, 2], "a": 1}, [], id="tuple_equals_list"),
        pytest.param({"a": 0.5}, {"a": 0.6}, ["a: was 0.5, is 0.6 now"], id="changed"),
        pytest.param({"a": 1}, {"a": True}, ["a: was 1, is true now"], id="true_is_not_one"),
        pytest.param(
            {"b": "x"},
            {"a": None},
            ["a: was not given, is null now", 'b: was "x", is not given now'],
            id="added_and_removed",
        ),
        (
            {"in": "ab" * 32},
            {"in": "cd" * 32},
            ["in: was content abababab, is content cdcdcdcd now"],
        ),
    ],
)
def test_differences(old, new, lines):
    assert manifests.differences(old, new) == lines


def test_identity_hash_depends_on_identity_and_outputs_only():
    def hashed(name, **changes):
        content = {"identity": {"a": 1, "b": 2}, "outputs": {"w": "1"}, "info": {}} | changes
        manifests.write(f"ram://manifests/hash_{name}", Manifest("teacher", **content))
        return manifests.identity_hash(f"ram://manifests/hash_{name}")

    first = hashed("first")
    assert hashed("order", identity={"b": 2, "a": 1}) == first
    assert hashed("info", info={"seconds": 9}) == first
    assert hashed("identity", identity={"a": 1, "b": 3}) != first
    assert hashed("outputs", outputs={"w": "2"}) != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "has not finished", id="missing"),
        pytest.param({"version": 99}, "version 99", id="from_the_future"),
        pytest.param({"version": 1, "stage": "x"}, "is damaged: it lacks", id="keys_missing"),
    ],
)
def test_read_what_is_no_manifest_says_so(content, message):
    folder = f"ram://manifests/bad_{len(message)}"
    if content is not None:
        files.write_json(f"{folder}/manifest.json", content)
    with pytest.raises(UserError, match=message):
        manifests.read(folder)


def test_counts_add_keeps_sums_all_images_and_a_bounded_number_of_boxes():
    total, part = Counts(), Counts(seen=50, written=20)
    for number in range(30):
        part.skip("bad", f"{number}.jpg")
        part.skip("bad box", f"box {number}", whole_image=False)
    total.add(part)
    total.add(part)
    assert (total.seen, total.written, total.skipped["bad"]) == (100, 40, 60)
    assert total.examples["bad"] == [f"{number}.jpg" for number in range(30)] * 2
    assert total.examples["bad box"] == [f"box {number}" for number in range(20)]
