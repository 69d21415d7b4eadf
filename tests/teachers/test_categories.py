"""One class list for teachers that name things differently."""

import numpy as np
import pytest

from kd_tf.errors import UserError
from kd_tf.teachers.categories import (
    Rules,
    cover,
    joint_class_names,
    read_rules,
    rules_for,
    weights,
    weights_by_ap,
)
from kd_tf.teachers.synonyms import canonical

COCO = ("person", "airplane", "motorcycle", "couch", "potted plant", "dining table", "tv")
VOC = ("person", "aeroplane", "motorbike", "sofa", "pottedplant", "diningtable", "tvmonitor")
OPEN_IMAGES = ("Person", "Airplane", "Motorcycle", "Couch", "Houseplant",
               "Kitchen & dining room table", "Television")  # fmt: skip
OBJECTS365 = ("Person", "Airplane", "Motorcycle", "Couch", "Potted Plant", "Dining Table",
              "Moniter/TV")  # fmt: skip


@pytest.mark.parametrize("names", [VOC, OPEN_IMAGES, OBJECTS365], ids=["voc", "oi", "o365"])
def test_cover_knows_the_spellings_of_four_data_sets(names):
    coverage = cover({"coco": COCO, "other": names}, COCO)
    assert coverage.class_maps[1].tolist() == list(range(7))
    assert coverage.known.all()


def test_canonical_is_the_same_for_names_that_differ_in_nothing_but_form():
    assert canonical("Traffic_Light") == canonical("traffic-light") == canonical("traffic light")
    assert canonical("cat") != canonical("car")


def test_cover_keeps_the_class_lists_order_and_says_who_knows_what():
    coverage = cover({"a": ("dog", "cat"), "b": ("bird",)}, ("cat", "bird", "dog", "fox"))
    assert [m.tolist() for m in coverage.class_maps] == [[2, 0], [1]]
    np.testing.assert_array_equal(
        coverage.known, [[True, False, True, False], [False, True, False, False]]
    )
    assert coverage.table().splitlines() == [
        "class  a  b",
        "cat    x  .",
        "bird   .  x",
        "dog    x  .",
        "fox    .  .",
        "a: 2 classes, 0 dropped",
        "b: 1 classes, 0 dropped",
    ]


def test_cover_unmapped_class_is_refused_by_name():
    with pytest.raises(UserError) as caught:
        cover({"a": ("cat", "zebra"), "b": ("catt",)}, ("cat",))
    assert "a: zebra" in str(caught.value)
    assert "b: catt (near: cat)" in str(caught.value)
    assert "2 classes" in str(caught.value)


def test_cover_rules_map_merge_and_drop():
    rules = read_rules("car=vehicle, truck=vehicle\n# a comment\nb/cat=-")
    coverage = cover({"a": ("car", "truck", "cat"), "b": ("cat",)}, ("vehicle", "cat"), rules=rules)
    assert [m.tolist() for m in coverage.class_maps] == [[0, 0, 1], [-1]]
    assert coverage.to_json()["teachers"] == {
        "a": {"known": {"vehicle": ["car", "truck"], "cat": ["cat"]}, "dropped": []},
        "b": {"known": {}, "dropped": ["cat"]},
    }
    assert "=car,truck" in coverage.table()


def test_cover_rules_from_a_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("# merged\ncar=vehicle\nbird=-\n")
    assert read_rules(str(path)) == Rules({"car": "vehicle"}, frozenset({"bird"}))


def test_cover_drop_unknown_leaves_the_rest_out():
    coverage = cover({"a": ("cat", "zebra")}, ("cat",), rules=Rules(drop_unknown=True))
    assert coverage.class_maps[0].tolist() == [0, -1]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        pytest.param("car", "needs the form", id="no_equals"),
        pytest.param("car=,", "needs the form", id="no_name"),
        pytest.param("car=vehicle,car=-", "two rules", id="twice"),
        pytest.param("cart=vehicle", "no teacher has", id="unknown_name"),
        pytest.param("car=vehikel", "the run has no class", id="unknown_class"),
    ],
)
def test_cover_wrong_rules_are_refused(rules, message):
    with pytest.raises(UserError, match=message):
        cover({"a": ("car",)}, ("vehicle",), rules=read_rules(rules))


def test_cover_two_classes_of_the_run_that_are_one_are_refused():
    with pytest.raises(UserError, match="'couch' and 'sofa'"):
        cover({"a": ("couch",)}, ("couch", "sofa"))


def test_joint_class_names_has_synonyms_once():
    teachers = {"a": ("aeroplane", "cat"), "b": ("airplane", "dog", "bird")}
    assert joint_class_names(teachers) == ("aeroplane", "cat", "dog", "bird")
    assert joint_class_names(teachers, rules=read_rules("bird=-,cat=pet,dog=pet")) == (
        "aeroplane",
        "pet",
    )


def test_coverage_hash_changes_with_the_mapping_only():
    first = cover({"a": ("cat", "dog")}, ("cat", "dog"))
    again = cover({"a": ("cat", "dog")}, ("cat", "dog"))
    other = cover({"a": ("cat", "dog")}, ("cat", "dog"), rules=read_rules("dog=-"))
    assert first.hash() == again.hash() != other.hash()


def test_weights_are_zero_where_a_class_is_unknown():
    coverage = cover({"a": ("cat", "dog"), "b": ("dog",)}, ("cat", "dog"))
    table = weights(coverage, teacher_weights={"a": 2.0})
    np.testing.assert_array_equal(table, [[2.0, 2.0], [0.0, 1.0]])
    with pytest.raises(UserError, match="teacher 'c'"):
        weights(coverage, teacher_weights={"c": 1.0})


def test_rules_for_one_teacher_leave_out_those_of_the_others():
    rules = read_rules("van=car,b/dog=-,cat=-")
    with pytest.raises(UserError, match="which no teacher has"):
        cover({"a": ("car", "cat")}, ("car",), rules=rules)
    own = rules_for(rules, "a", ("car", "cat"))
    assert cover({"a": ("car", "cat")}, ("car",), rules=own).class_maps[0].tolist() == [0, -1]
    other = rules_for(rules, "b", ("van", "dog"))
    assert cover({"b": ("van", "dog")}, ("car",), rules=other).class_maps[0].tolist() == [0, -1]


NAN = float("nan")


@pytest.mark.parametrize(
    ("ap_by_class", "expected"),
    [
        # By hand: (.2 / .4)^3 = .125; with another class (.1 / .3)^3 = .037.
        pytest.param([[0.4, 0.9, NAN], [0.2, NAN, 0.8]], [1.0, 0.125], id="shared_class_alone"),
        pytest.param([[0.2, 0.9, NAN], [0.4, NAN, 0.8]], [0.125, 1.0], id="second_is_better"),
        pytest.param([[0.4, 0.9, NAN], [0.0, NAN, 0.8]], [1.0, 0.001], id="finds_nothing"),
        pytest.param([[0.0, 0.9, NAN], [0.0, NAN, 0.8]], [1.0, 1.0], id="neither_finds_any"),
        pytest.param([[NAN, 0.9, NAN], [NAN, NAN, 0.8]], [1.0, 1.0], id="no_object_of_it"),
    ],
)
def test_weights_by_ap_compares_over_shared_classes(ap_by_class, expected):
    coverage = cover({"a": ("cat", "dog"), "b": ("cat", "cow")}, ("cat", "dog", "cow"))
    found = weights_by_ap(coverage, ap_by_class)
    assert list(found) == ["a", "b"]
    assert list(found.values()) == pytest.approx(expected)


def test_weights_by_ap_of_disjoint_teachers_are_equal():
    coverage = cover({"a": ("cat",), "b": ("dog",)}, ("cat", "dog"))
    assert weights_by_ap(coverage, [[0.9, NAN], [NAN, 0.1]]) == {"a": 1.0, "b": 1.0}
