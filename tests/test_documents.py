"""Files that people wrote, whatever is in them."""

import json
import math

import numpy as np
import pytest

from kd_tf import documents, values
from kd_tf.errors import UserError


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("Käse\nBrot\n".encode(), ["Käse", "Brot"], id="utf_8"),
        pytest.param("\ufeffKäse\nBrot".encode(), ["Käse", "Brot"], id="utf_8_with_mark"),
        pytest.param("\ufeffKäse\r\n猫".encode("utf-16-le"), ["Käse", "猫"], id="utf_16_le"),
        pytest.param("\ufeffKäse\r\n猫".encode("utf-16-be"), ["Käse", "猫"], id="utf_16_be"),
        pytest.param("\ufeffKäse\n猫".encode("utf-32-le"), ["Käse", "猫"], id="utf_32_le"),
        pytest.param("Käse\r\nBrot “x”".encode("cp1252"), ["Käse", "Brot “x”"], id="cp1252"),
        pytest.param(b"cat\rdog\r", ["cat", "dog"], id="old_mac_line_ends"),
        pytest.param("cat\u2028x\n\x0bdog\n".encode(), ["cat\u2028x", "dog"], id="other_marks"),
        pytest.param(b"", [], id="empty"),
        pytest.param(b"\n \n\t\n", [], id="blank_lines"),
    ],
)
def test_read_lines(tmp_path, content, expected):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    assert documents.read_lines(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"cat\0dog", "NUL", id="nul"),
        pytest.param(b"\xff\xfea", "begins like utf-16-le", id="half_a_utf_16_letter"),
        pytest.param(b"\x81\x8d\xff", "neither UTF-8 nor Windows-1252", id="no_text"),
    ],
)
def test_read_text_refuses_what_is_no_text(tmp_path, content, message):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        documents.read_text(str(path))
    assert "names.txt" in str(caught.value)


def test_read_text_of_no_file_names_flag_and_path(tmp_path):
    with pytest.raises(UserError, match=r"--classes: '.*none.txt': there is no such file"):
        documents.read_text(str(tmp_path / "none.txt"), where="--classes")
    with pytest.raises(UserError, match="is a folder"):
        documents.read_text(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{", id="cut"),
        pytest.param(b"[" * 100_000, id="nested_deep"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, id="nested_10_000"),
        pytest.param(b"1" * 10_000, id="digits"),
        pytest.param(b"\x00\x01", id="binary"),
        pytest.param(b"", id="empty"),
    ],
)
def test_read_json_refuses(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json") as caught:
        documents.read_json(str(path))
    assert len(str(caught.value)) < 500


def test_read_json_reads_any_encoding(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(("\ufeff" + json.dumps({"a": "ä"}, ensure_ascii=False)).encode("utf-16-le"))
    assert documents.read_json(str(path)) == {"a": "ä"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("names: [on, off, ~]", {"names": ["on", "off", "~"]}, id="truth_words"),
        pytest.param("names: {0: 1.0, 1: 007}", {"names": {"0": "1.0", "1": "007"}}, id="numbers"),
        pytest.param("x: !!int ''", {"x": ""}, id="tag"),
        pytest.param("x: !!python/object:os.system {}", {"x": {}}, id="python_tag"),
        pytest.param("x: &a cat\ny: *a", {"x": "cat", "y": "cat"}, id="alias_of_a_word"),
        pytest.param("x: " + "9" * 6000, {"x": "9" * 6000}, id="digits"),
    ],
)
def test_read_yaml_keeps_text(tmp_path, content, expected):
    path = tmp_path / "data.yaml"
    path.write_text(content)
    assert documents.read_yaml(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("a: &a [x, x]\nb: &b [*a, *a]", "alias", id="alias_of_a_list"),
        pytest.param("a: &a [*a]", "alias", id="alias_of_itself"),
        pytest.param("names: {0: a, 0: b}", "'0' is given twice", id="key_twice"),
        pytest.param("? [a, b]\n: c", "a key must be a word", id="list_as_key"),
        pytest.param("a: [b", "is not YAML", id="cut"),
        pytest.param("a: \x01", "is not YAML", id="control_character"),
        pytest.param("[" * 5000, "is not YAML", id="nested"),
    ],
)
def test_read_yaml_refuses(tmp_path, content, message):
    path = tmp_path / "data.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        documents.read_yaml(str(path))


@pytest.mark.parametrize(
    ("value", "whole", "number", "flag"),
    [
        (7, 7, 7.0, None),
        (7.0, 7, 7.0, None),
        ("7", 7, 7.0, None),
        (" 7.0 ", 7, 7.0, None),
        ("7.5", None, 7.5, None),
        (0, 0, 0.0, False),
        ("0", 0, 0.0, False),
        ("1", 1, 1.0, True),
        ("false", None, None, False),
        (True, None, None, True),
        (math.nan, None, None, None),
        (1e400, None, None, None),
        ("nan", None, None, None),
        ("²", None, None, None),
        ("1_000", None, None, None),
        (10**400, None, None, None),
        ("9" * 6000, None, None, None),
        ([0], None, None, None),
        (None, None, None, None),
        ("", None, None, None),
        ("1.2.3", None, None, None),
    ],
    ids=str,
)
def test_to_whole_number_and_flag(value, whole, number, flag):
    assert values.to_whole(value) == whole
    assert values.to_number(value) == number
    assert values.to_flag(value) is flag


def test_show_is_short_and_printable():
    assert values.show("\ud800") == "'\\ud800'"
    assert len(values.show("x" * 10_000_000)) < 120
    assert values.show({"a": {}}) == "a table with 1 keys"
    assert values.show(10**5000) == "a whole number of 16610 bits"


def test_anything_at_all_gives_a_user_error_or_a_value(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "x"
    alphabet = np.frombuffer(b"{}[]:,\"\\ue0123-+.\xff\xfe\x00\x80\n\r\t &*!?|>%@`'#", np.uint8)
    for _ in range(2000):
        path.write_bytes(random.choice(alphabet, random.integers(0, 40)).tobytes())
        for read in (documents.read_text, documents.read_json, documents.read_yaml):
            try:
                read(str(path))
            except UserError as error:
                assert len(str(error)) < 600
