"""Files of teachers as others leave them: labels, names, archives, plug-ins."""

import io
import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest

from kd_tf import files, specs
from kd_tf.data import label_map
from kd_tf.detectors import saving, weights, zoo
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.teachers import thresholds
from kd_tf.teachers.categories import cover, read_rules
from kd_tf.teachers.load import load_teacher

ITEM = 'item {\n  id: 1\n  name: "cat"\n}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            'item { id: 1 name: "person" keypoints { id: 0 label: "nose" } }\n'
            + ITEM.replace("1", "2"),
            {1: "person", 2: "cat"}, id="nested_block",
        ),
        pytest.param(
            'item { keypoints { id: 7 label: "x" } keypoints: { id: 8 } name: "person" id: 1 }',
            {1: "person"}, id="nested_blocks_first",
        ),
        pytest.param(
            'item { id: 0 name: "background" }\n' + ITEM, {1: "cat"}, id="background"
        ),
        pytest.param(
            'item { name: "/m/01yrx" id: 1 display_name: "cat" }', {1: "cat"}, id="display_name"
        ),
        pytest.param("item { id: 1, display_name: 'cat' }", {1: "cat"}, id="display_name_alone"),
        pytest.param('item { id: 1 name: "a # b } c" } # x', {1: "a # b } c"}, id="marks_in_name"),
        pytest.param("# x\nitem: {\nname: 'd\\'or' id: 3}", {3: "d'or"}, id="escape"),
    ],
)  # fmt: skip
def test_label_map_is_read(tmp_path, text, expected):
    (tmp_path / "l.pbtxt").write_text(text)
    assert label_map.read(str(tmp_path / "l.pbtxt")) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("item { id: ² name: 'cat' }".encode(), "needs an id from 1", id="superscript"),
        pytest.param(b"item { id: 0 name: 'cat' }", "has id '0' and name", id="zero"),
        pytest.param(b"item { id: 99999999999 name: 'cat' }", "needs an id from 1", id="large"),
        pytest.param(b"\xff\xff\xfe\x00", "l.pbtxt", id="binary"),
        pytest.param(b'item { id: 1 name: "cat', "no label map", id="open_quote"),
        pytest.param(b"item { id: 1 }", "needs an id from 1 and a name", id="no_name"),
        pytest.param(b"", "holds no item", id="empty"),
    ],
)
def test_label_map_is_refused_in_a_sentence(tmp_path, content, message):
    (tmp_path / "l.pbtxt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        label_map.read(str(tmp_path / "l.pbtxt"))


def test_any_label_map_gives_labels_or_one_sentence(tmp_path):
    random = np.random.default_rng(4)
    words = ["item", "{", "}", "id", ":", "1", "²", "name", '"cat"', "'", '"', "\xff", "#", "\n"]
    for _ in range(500):
        text = " ".join(random.choice(words, random.integers(0, 20)))
        (tmp_path / "l").write_text(text)
        try:
            assert min(label_map.read(str(tmp_path / "l"))) > 0
        except UserError as error:
            assert len(str(error)) < 600


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        pytest.param('"bus, parked=bus",car=vehicle', {"bus, parked": "bus", "car": "vehicle"},
                     id="rule_in_quotes"),
        pytest.param('"bus, parked"=bus', {"bus, parked": "bus"}, id="name_in_quotes"),
        pytest.param("a b=c", {"a b": "c"}, id="plain"),
    ],
)  # fmt: skip
def test_class_map_can_name_a_class_with_a_comma(text, rules):
    assert read_rules(text).to_run == rules


def test_comma_lists_take_quotes():
    assert specs.names_list('a,"b, c" , d') == ("a", "b, c", "d")
    assert specs.names_list("a,,b,") == ("a", "b")
    assert specs.names_list("") == ()


@pytest.mark.parametrize(
    ("teacher", "run", "message"),
    [
        pytest.param(("Mouse", "Computer mouse"), ("mouse",), "classes of the teachers are none",
                     id="animal_and_device"),
        pytest.param(("Computer mouse",), ("Mouse",), "teachers are none of", id="device"),
        pytest.param(("Keyboard", "Computer keyboard"), ("keyboard",), "are none", id="keyboard"),
        pytest.param(("car", "Car"), ("car",), "both fit the run's 'car'", id="two_spellings"),
        pytest.param(("sofa", "couch"), ("couch",), "both fit the run's 'couch'", id="synonyms"),
    ],
)  # fmt: skip
def test_names_of_two_meanings_are_asked_about(teacher, run, message):
    with pytest.raises(UserError, match=message):
        cover({"t": teacher}, run)


def test_rules_join_two_names_and_equal_lists_agree():
    joined = cover({"t": ("sofa", "couch")}, ("couch",), rules=read_rules("sofa=couch"))
    assert joined.class_maps[0].tolist() == [0, 0]
    both = ("Mouse", "Computer mouse")
    assert cover({"t": both}, both).class_maps[0].tolist() == [0, 1]
    assert cover({"t": ("mouse",)}, ("Mouse",)).class_maps[0].tolist() == [0]


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "..", ".", "a/b", "a\\b", "%0Aa", "%00", "", " ", "x" * 101]
)
def test_name_is_one_safe_segment(name):
    with pytest.raises(UserError, match=r"name=|NUL"):
        specs.parse(f"keras:a.keras?name={name}", specs.TEACHER_KINDS)


@pytest.mark.parametrize("name", ["big", "größe", "a b", "v1.2-x+y (3)"])
def test_plain_names_are_taken(name):
    assert specs.parse(f"keras:a.keras?name={name}", specs.TEACHER_KINDS).name == name


def test_long_file_names_give_short_names_that_differ():
    first, second = (
        specs.parse(f"keras:{'x' * 240}{end}.keras", specs.TEACHER_KINDS).name for end in "ab"
    )
    assert len(first) == len(second) == 100
    assert first != second


@pytest.mark.parametrize("text", ["keras:%00", "keras:a\ud800.keras", "keras:a%00b?name=x"])
def test_specs_with_what_no_path_can_hold_are_refused(text):
    with pytest.raises(UserError, match="NUL or a letter that is no Unicode"):
        specs.parse(text, specs.TEACHER_KINDS)


def test_home_folder_is_known(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert specs.parse("images:~/photos", specs.DATA_KINDS).location == "/home/ann/photos"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("python:..:x", "cannot import 'x' from '..'", id="dots"),
        pytest.param("python:sys:exit", "failed: SystemExit", id="exit"),
        pytest.param("python:a b:c", "cannot import", id="space"),
        pytest.param("python:os.path:join", "failed: TypeError", id="function"),
    ],
)
def test_plugin_that_is_none_is_one_sentence(text, message):
    with pytest.raises(UserError, match=message):
        load_teacher(specs.parse(text, specs.TEACHER_KINDS))


@pytest.mark.parametrize(
    ("body", "line"),
    [
        pytest.param("def build():\n    x = 1\n    raise KeyError('no')\n", 3, id="factory"),
        pytest.param("import nothing_there\n", 1, id="import"),
        pytest.param("class T:\n  def needs(self):\n    return 1 / 0\n"
                     "  def detect(self, images):\n    pass\nbuild = T\n", 3, id="needs"),
    ],
)  # fmt: skip
def test_plugin_that_raises_keeps_its_file_and_line(tmp_path, monkeypatch, body, line):
    name = f"plugin_line_{line}_{len(body)}"
    (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=rf"{name}.py, line {line}"):
        load_teacher(specs.parse(f"python:{name}:build", specs.TEACHER_KINDS))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("net") / "n.keras")
    saving.save_network(zoo.build("yolov8_tiny", class_names=("a",), image_size=(64, 64)), path)
    return path


def _archive(path, spec, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("spec.json", spec if isinstance(spec, bytes) else json.dumps(spec))
        archive.writestr("weights.npz", content)
    return str(path)


def _npz(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


class _Marks:
    def __reduce__(self):
        return (open, (_Marks.path, "w"))


def test_network_archives_run_no_code_and_unpack_no_gigabytes(network, tmp_path):
    spec = saving.read_spec(network)
    _Marks.path = str(tmp_path / "ran")
    objects = io.BytesIO()
    np.savez(objects, w00000=np.array([_Marks()], object))
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1)) | {"shape": (1 << 40,)}
    lying = io.BytesIO()
    np.lib.format.write_array_header_1_0(lying, header)
    claims = io.BytesIO()
    with zipfile.ZipFile(claims, "w") as archive:
        archive.writestr("w00000.npy", lying.getvalue())
    for content, message in (
        (objects.getvalue(), "weights.npz cannot be read"),
        (pickle.dumps(_Marks()), "weights.npz cannot be read"),
        (_npz(w00000=np.zeros(1 << 28, np.int8)), "unpacks to"),
        (claims.getvalue(), "unpacks to"),
        (b"\0" * (1 << 28), "unpacks to"),
        (_npz(w00000=np.zeros(3)), "holds other weights"),
    ):
        with pytest.raises(UserError, match=message):
            saving.load_network(_archive(tmp_path / "bad.keras", spec, content))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ["x"]), ("name", "resnet"), ("class_names", "cat"), ("class_names", []),
        ("class_names", [1]), ("class_names", ["a", "a"]), ("image_size", [64]),
        ("image_size", ["64", 64]), ("image_size", [10**9, 64]), ("precision", {}),
        ("meta", None), ("format_version", [1]),
    ],
)  # fmt: skip
def test_network_archive_with_a_wrong_value_is_named(network, tmp_path, field, value):
    spec = saving.read_spec(network) | {field: value}
    with pytest.raises(UserError, match=field.replace("_", ".")):
        saving.read_spec(_archive(tmp_path / "bad.keras", spec, b""))


def test_damaged_network_archives_are_one_sentence(network, tmp_path):
    random = np.random.default_rng(5)
    good = np.frombuffer(files.read_bytes(network), np.uint8)
    path = str(tmp_path / "bad.keras")
    for _ in range(60):
        bad = good.copy()
        where = random.integers(0, len(bad), 3)
        # The directory at the end and the text at the beginning are what is parsed.
        where[0] = len(bad) - 1 - where[0] % 300
        where[1] = where[1] % 600
        bad[where] = random.integers(0, 256, 3)
        files.write_bytes(path, bad[: len(bad) - int(random.integers(0, 2))].tobytes())
        try:
            saving.read_spec(path)
            saving._read_weights(path, max_bytes=1 << 24)
        except UserError as error:
            assert len(str(error)) < 1000


@pytest.mark.parametrize("ending", [".npz", ".weights.h5"])
def test_backbone_weights_are_bounded_and_of_numbers(tmp_path, ending):
    backbone = zoo.build("yolov8_tiny", class_names=("a",), image_size=(64, 64)).model
    path = str(tmp_path / f"w{ending}")
    if ending == ".npz":
        np.savez_compressed(path, x=np.zeros(1 << 28, np.int8))
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", (1 << 34,), "i1", chunks=True, compression="gzip")
    with pytest.raises(UserError, match="unpacks to"):
        weights.load_backbone_weights(backbone, path)
    for content in (b"", b"no archive", b"PK\x03\x04" + b"\0" * 60):
        files.write_bytes(path, content)
        with pytest.raises(UserError, match="is not a file of plain arrays"):
            weights.load_backbone_weights(backbone, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param('{"a": [1]}', "'a' has .1., which is no threshold", id="list"),
        pytest.param('{"a": {"score": {}}}', "no threshold", id="table"),
        pytest.param('{"a": NaN}', "no threshold", id="nan"),
        pytest.param('{"a": true}', "no threshold", id="true"),
        pytest.param('{"a": {"score": 0.5, "ignore": "x"}}', "no threshold", id="ignore"),
        pytest.param('{"a": 1' + "0" * 400 + "}", r"no threshold|\[0, 1\]", id="digits"),
        pytest.param("[" * 10_000, "is not JSON", id="deep"),
        pytest.param('{"a": 7}', r"must lie in \[0, 1\]", id="seven"),
        pytest.param('{"b": 0.5}', "unknown classes", id="class"),
        pytest.param("\xff", "is not JSON", id="bytes"),
    ],
)
def test_thresholds_file_is_refused_in_a_sentence(tmp_path, content, message):
    (tmp_path / "t.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        thresholds.read(str(tmp_path / "t.json"), ("a",), ignore=0.1)


def test_thresholds_as_text_are_numbers(tmp_path):
    (tmp_path / "t.json").write_text('{"a": "0.25"}')
    assert thresholds.read(str(tmp_path / "t.json"), ("a",), ignore=0.1).score.tolist() == [0.25]


def test_a_folder_is_no_tflite_file(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert not formats.is_exported_tflite(str(tmp_path))
    assert formats.stored_thresholds(str(tmp_path)) is None
