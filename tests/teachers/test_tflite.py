"""TFLite detectors: outputs in any order, padding, normalisation and label lists of the file."""

import io
import itertools
import zipfile

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from kd_tf import specs
from kd_tf.errors import UserError
from kd_tf.teachers.load import load_teacher

SIZE = 8
BOXES = np.array([[[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.5, 0.25]] + [[0.0] * 4] * 3], np.float32)
CLASSES = np.array([[1, 0, 0, 0, 0]], np.float32)
SCORES = np.array([[0.75, 0.5, 0, 0, 0]], np.float32)
NAMES = "cat,dog"
ROLES = ("boxes", "classes", "scores", "count")


def _model(path, *, order=ROLES, count=5.0, least=-9.0, scores=SCORES, attach=None, blob=None):
    """Writes a detector with unnamed outputs; below a mean of `least` it sees nothing."""
    held = {"boxes": BOXES, "classes": CLASSES, "scores": scores, "count": np.array([count])}

    @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.float32)])
    def detect(image):
        seen = tf.cast(tf.reduce_mean(image) > least, tf.float32)
        return [seen * tf.constant(held[role], tf.float32) for role in order]

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [detect.get_concrete_function()], detect
    )
    content = converter.convert()
    if blob is not None:
        content = _with_metadata(content, blob)
    if attach is not None:
        content += attach
    path.write_bytes(content)
    return path


def _with_metadata(content, blob):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(blob, np.uint8)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _metadata(*, mean=None, std=None, names=()):
    """Metadata as TensorFlow Lite Support writes them, by metadata_schema.fbs."""
    builder = flatbuffers.Builder(1024)

    def vector(offsets):
        builder.StartVector(4, len(offsets), 4)
        for one in reversed(offsets):
            builder.PrependUOffsetTRelative(one)
        return builder.EndVector()

    def floats(values):
        builder.StartVector(4, len(values), 4)
        for one in reversed(values):
            builder.PrependFloat32(one)
        return builder.EndVector()

    def tensor(name="", unit=None):
        text = builder.CreateString(name)
        units = vector([unit]) if unit is not None else None
        builder.StartObject(7)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        if units is not None:
            builder.PrependUOffsetTRelativeSlot(4, units, 0)
        return builder.EndObject()

    unit = None
    if mean is not None:
        means, stds = floats(mean), floats(std)
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, means, 0)
        builder.PrependUOffsetTRelativeSlot(1, stds, 0)
        options = builder.EndObject()
        builder.StartObject(2)
        builder.PrependUint8Slot(0, 1, 0)
        builder.PrependUOffsetTRelativeSlot(1, options, 0)
        unit = builder.EndObject()
    inputs = vector([tensor("image", unit)])
    outputs = vector([tensor(name) for name in names])
    builder.StartObject(9)
    builder.PrependUOffsetTRelativeSlot(2, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(3, outputs, 0)
    graph = builder.EndObject()
    graphs = vector([graph])
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(3, graphs, 0)
    builder.Finish(builder.EndObject(), b"M001")
    return bytes(builder.Output())


def load(text):
    return load_teacher(specs.parse(text, specs.TEACHER_KINDS))


def _zipped(content, name="labelmap.txt"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _detect(path, options=f"?classes={NAMES}", value=200):
    (found,) = load(f"tflite:{path}{options}").detect(np.full((1, SIZE, SIZE, 3), value, np.uint8))
    return found


@pytest.mark.parametrize("order", list(itertools.permutations(ROLES))[::3])
def test_tflite_outputs_in_another_order_with_padding(tmp_path, order):
    found = _detect(_model(tmp_path / "a.tflite", order=order))
    np.testing.assert_array_equal(found.boxes, [[4, 2, 8, 6], [0, 0, 2, 4]])
    assert found.classes.tolist() == [1, 0]
    assert found.scores.tolist() == [0.75, 0.5]


@pytest.mark.parametrize("order", [ROLES, ROLES[::-1]])
def test_tflite_that_sees_nothing_on_noise_tells_its_outputs_later(tmp_path, order):
    teacher = load(
        f"tflite:{_model(tmp_path / 'a.tflite', order=order, least=0.5)}?classes=cat,dog"
    )
    dark, bright = (np.full((1, SIZE, SIZE, 3), value, np.uint8) for value in (20, 240))
    assert [len(found) for found in teacher.detect(dark)] == [0]
    assert [found.classes.tolist() for found in teacher.detect(bright)] == [[1, 0]]


def test_tflite_whose_scores_nothing_tells_asks_for_their_name(tmp_path):
    scores = np.array([[1, 1, 0, 0, 0]], np.float32)
    path = _model(tmp_path / "a.tflite", scores=scores)
    with pytest.raises(UserError, match=r"nothing tells which of its outputs .*scores=NAME"):
        _detect(path)
    details = Interpreter(str(path)).get_output_details()
    name = details[2]["name"]
    assert _detect(path, f"?classes={NAMES}&scores={name}").scores.tolist() == [1, 1]
    with pytest.raises(UserError, match="scores=x is not one of the outputs"):
        _detect(path, f"?classes={NAMES}&scores=x")


def test_tflite_metadata_names_the_outputs(tmp_path):
    scores = np.array([[1, 1, 0, 0, 0]], np.float32)
    names = ("location", "category", "score", "number of detections")
    path = _model(tmp_path / "a.tflite", scores=scores, blob=_metadata(names=names))
    found = _detect(path)
    assert (found.scores.tolist(), found.classes.tolist()) == ([1, 1], [1, 0])


@pytest.mark.parametrize("count", [-1.0, 6.0, float("nan"), float("inf")])
def test_tflite_with_an_impossible_count_is_refused(tmp_path, count):
    with pytest.raises(UserError, match="detections in lists of 5"):
        _detect(_model(tmp_path / "a.tflite", count=count))


def test_tflite_normalisation_in_the_metadata(tmp_path):
    # 100 / 255 is above 0.3; (100 - 127.5) / 127.5 is not.
    plain = _model(tmp_path / "plain.tflite", least=0.3)
    path = _model(tmp_path / "a.tflite", least=0.3, blob=_metadata(mean=[0.0], std=[255.0]))
    assert len(_detect(plain, value=100)) == 0
    assert len(_detect(path, value=100)) == 2
    assert len(_detect(path, f"?classes={NAMES}&mean=127.5&std=127.5", value=100)) == 0
    assert len(_detect(plain, f"?classes={NAMES}&mean=0,0,0&std=255,255,255", value=100)) == 2


def test_tflite_normalisation_of_each_channel(tmp_path):
    blob = _metadata(mean=[255.0, 255.0, 0.0], std=[1.0, 1.0, 0.5])
    # (-55 - 55 + 400) / 3 is above 96 and below 97.
    assert len(_detect(_model(tmp_path / "a.tflite", least=96, blob=blob))) == 2
    assert len(_detect(_model(tmp_path / "b.tflite", least=97, blob=blob))) == 0


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        pytest.param([0.0], [0.0], "std of 0", id="std_0"),
        pytest.param([0.0, 1.0], [1.0, 1.0], "for 3 channels", id="two_channels"),
        pytest.param([float("nan")], [1.0], "for 3 channels", id="nan"),
        pytest.param([0.0], [1.0] * 3, "for 3 channels", id="of_two_lengths"),
    ],
)
def test_tflite_metadata_that_cannot_normalise_are_refused(tmp_path, mean, std, message):
    path = _model(tmp_path / "a.tflite", blob=_metadata(mean=mean, std=std))
    with pytest.raises(UserError, match=message):
        _detect(path)


@pytest.mark.parametrize("options", ["mean=x", "mean=1,2", "std=0", "std=inf"])
def test_tflite_normalisation_that_is_none_is_refused(tmp_path, options):
    path = _model(tmp_path / "a.tflite")
    with pytest.raises(UserError, match=options.replace("=", ".")):
        _detect(path, f"?classes={NAMES}&{options}")


def test_tflite_metadata_damaged(tmp_path):
    blob = _metadata(mean=[0.0], std=[255.0], names=("location", "category", "score", "number"))
    content = _model(tmp_path / "a.tflite", blob=blob).read_bytes()
    start = content.rindex(blob)
    rng = np.random.default_rng(3)
    path = tmp_path / "b.tflite"
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(8, len(blob), rng.integers(1, 5)):
            damaged[start + place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load(f"tflite:{path}?classes={NAMES}")
        except UserError as error:
            assert "b.tflite" in str(error)


@pytest.mark.parametrize(
    ("attach", "message"),
    [
        pytest.param(_zipped(b"cat\r\ndog\r\n"), "", id="line_ends"),
        pytest.param(_zipped("\ufeffcat\ndog".encode()), "", id="mark"),
        pytest.param(_zipped(b"cat\0dog"), "is no text", id="nul"),
        pytest.param(_zipped(b"a" * (5 << 20)), "more than 4,194,304 bytes", id="huge"),
        pytest.param(_zipped(b"cat\ndog", "other.bin"), "no class list", id="another_file"),
    ],
)
def test_tflite_label_list_behind_the_model(tmp_path, attach, message):
    path = _model(tmp_path / "a.tflite", attach=attach)
    if not message:
        assert load(f"tflite:{path}").needs().class_names == ("cat", "dog")
        return
    with pytest.raises(UserError, match=message):
        load(f"tflite:{path}")
