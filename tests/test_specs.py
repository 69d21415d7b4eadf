"""Specs: one string, parsed to values."""

import pytest

from kd_tf import specs
from kd_tf.errors import UserError


@pytest.mark.parametrize(
    ("text", "kind", "location", "options"),
    [
        pytest.param("scenes:", "scenes", "", {}, id="nothing_but_a_kind"),
        pytest.param(
            "scenes:train?num=20&domain=fog",
            "scenes",
            "train",
            {"num": "20", "domain": "fog"},
            id="options",
        ),
        pytest.param("voc:gs://a/b:c", "voc", "gs://a/b:c", {}, id="colons_in_the_location"),
        pytest.param(
            "coco:a%3Fb.json?images=x=y?z",
            "coco",
            "a?b.json",
            {"images": "x=y?z"},
            id="escaped_question_mark",
        ),
    ],
)
def test_parse_gives_values(text, kind, location, options):
    parsed = specs.parse(text, specs.DATA_KINDS)
    assert (parsed.kind, parsed.location, parsed.options) == (kind, location, options)
    assert parsed.text == text


def test_parse_variable_is_expanded_but_text_keeps_it(monkeypatch):
    monkeypatch.setenv("PHOTOS", "/data/50% off?")
    parsed = specs.parse("voc:${PHOTOS}/x", specs.DATA_KINDS)
    assert parsed.location == "/data/50% off?/x"
    assert parsed.text == "voc:${PHOTOS}/x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("vocc:x", "Did you mean 'voc'", id="unknown_kind"),
        pytest.param("just/a/path", "not a spec of a known kind", id="no_kind"),
        pytest.param(
            "voc:x?idz=1", "voc has no option 'idz'.*Did you mean 'ids'", id="unknown_key"
        ),
        pytest.param("voc:x?ids", "needs the form key=value", id="no_equals"),
        pytest.param("voc:x?ids=1&ids=2", "given twice", id="key_twice"),
        pytest.param("voc:${NOT_SET_1}", "NOT_SET_1 is not set", id="unset_variable"),
    ],
)
def test_parse_wrong_spec_says_what_is_allowed(text, message):
    with pytest.raises(UserError, match=message):
        specs.parse(text, specs.DATA_KINDS)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("keras:runs/a/model.keras", "model"),
        ("keras:runs/a/model.keras?name=big", "big"),
        ("python:my.module:factory", "factory"),
        ("saved_model:/x/ssd v1/", "ssd_v1"),
    ],
)
def test_name_comes_from_the_option_or_the_location(text, name):
    assert specs.parse(text, specs.TEACHER_KINDS).name == name


def test_parse_python_teacher_takes_any_key():
    parsed = specs.parse("python:a.b:c?weights=x.tflite", specs.TEACHER_KINDS)
    assert parsed.location == "a.b:c" and parsed.options == {"weights": "x.tflite"}
