"""Records: the standard keys by an independent parser, ours by a round trip."""

import dataclasses
import hashlib

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data import label_map, records
from kd_tf.data.records import HUMAN, Objects, Record
from kd_tf.errors import RejectedError, UserError

NAMES = ("cat", 'a "big" dog', "Straße")
PIXELS = tf.io.encode_png(np.full((40, 80, 3), 7, np.uint8)).numpy()


def _record(**changes) -> Record:
    objects = Objects(
        boxes=np.array([[8, 4, 40, 20], [0, 0, 80, 40], [10, 10, 20, 20]], np.float32),
        scores=np.array([0.9, 0.25, 1.0], np.float32),
        classes=np.array([2, 0, 1], np.int32),
        teachers=np.array([1, 0, HUMAN], np.int32),
        is_crowd=np.array([False, False, True]),
        areas=np.array([512, 3200, 60], np.float32),
        working=np.array([True, False, True]),
    )
    record = Record(
        source_id="set/a.png",
        image_id=17,
        encoded=PIXELS,
        format="png",
        height=40,
        width=80,
        filename="a.png",
        sha256=hashlib.sha256(PIXELS).hexdigest(),
        objects=objects,
        class_names=NAMES,
        judged=np.array([2, 0], np.int32),
    )
    return dataclasses.replace(record, **changes)


def _objects(**changes) -> Objects:
    return dataclasses.replace(_record().objects, **changes)


def _standard(serialized: bytes) -> dict[str, np.ndarray]:
    """A parser made from the Object Detection API's key table alone (tf_example_decoder.py)."""
    text = tf.io.FixedLenFeature((), tf.string, "")
    number = tf.io.FixedLenFeature((), tf.int64, 1)
    parsed = tf.io.parse_single_example(
        serialized,
        {
            "image/encoded": text,
            "image/format": tf.io.FixedLenFeature((), tf.string, "jpeg"),
            "image/filename": text,
            "image/key/sha256": text,
            "image/source_id": text,
            "image/height": number,
            "image/width": number,
            "image/object/bbox/xmin": tf.io.VarLenFeature(tf.float32),
            "image/object/bbox/xmax": tf.io.VarLenFeature(tf.float32),
            "image/object/bbox/ymin": tf.io.VarLenFeature(tf.float32),
            "image/object/bbox/ymax": tf.io.VarLenFeature(tf.float32),
            "image/object/class/label": tf.io.VarLenFeature(tf.int64),
            "image/object/class/text": tf.io.VarLenFeature(tf.string),
            "image/object/area": tf.io.VarLenFeature(tf.float32),
            "image/object/is_crowd": tf.io.VarLenFeature(tf.int64),
        },
    )
    dense = {
        k: tf.sparse.to_dense(v) if isinstance(v, tf.SparseTensor) else v for k, v in parsed.items()
    }
    return {key: value.numpy() for key, value in dense.items()}


def test_to_example_standard_reader_sees_the_working_labels():
    seen = _standard(records.to_example(_record()))
    assert tf.io.decode_image(seen["image/encoded"]).shape == (40, 80, 3)
    assert (seen["image/height"], seen["image/width"]) == (40, 80)
    assert (seen["image/source_id"], seen["image/filename"]) == (b"set/a.png", b"a.png")
    assert seen["image/format"] == b"png"
    assert seen["image/key/sha256"].decode() == hashlib.sha256(PIXELS).hexdigest()
    # Rows 0 and 2; 80 wide, 40 high: 8/80, 10/80; 40/80, 20/80; 4/40, 10/40; 20/40, 20/40.
    np.testing.assert_allclose(seen["image/object/bbox/xmin"], [0.1, 0.125])
    np.testing.assert_allclose(seen["image/object/bbox/xmax"], [0.5, 0.25])
    np.testing.assert_allclose(seen["image/object/bbox/ymin"], [0.1, 0.25])
    np.testing.assert_allclose(seen["image/object/bbox/ymax"], [0.5, 0.5])
    assert seen["image/object/class/label"].tolist() == [3, 2]
    assert seen["image/object/class/text"].tolist() == ["Straße".encode(), b'a "big" dog']
    assert seen["image/object/is_crowd"].tolist() == [0, 1]
    assert seen["image/object/area"].tolist() == [512, 60]


def test_from_example_gives_back_the_record():
    record = _record()
    back = records.from_example(records.to_example(record), class_names=NAMES)
    for field in dataclasses.fields(Objects):
        got, wanted = getattr(back.objects, field.name), getattr(record.objects, field.name)
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-5)
    assert back.judged.tolist() == [0, 2]
    for name in ("source_id", "image_id", "encoded", "format", "height", "filename", "sha256"):
        assert getattr(back, name) == getattr(record, name)


def test_from_example_maps_by_text_and_not_by_number():
    serialized = records.to_example(_record())
    back = records.from_example(serialized, class_names=("Straße", "x", "cat"), drop=(NAMES[1],))
    assert back.objects.classes.tolist() == [0, 2]
    assert back.objects.scores.tolist() == [np.float32(0.9), 0.25]
    assert back.judged.tolist() == [0, 2]


def test_from_example_unknown_class_names_it():
    with pytest.raises(RejectedError, match="Straße"):
        records.from_example(records.to_example(_record()), class_names=NAMES[:2])


@pytest.mark.parametrize(
    ("judged", "stored"),
    [
        pytest.param(None, [], id="all_is_absent"),
        pytest.param([], [0], id="none_is_zero"),
        pytest.param([1, 1, 0], [1, 2], id="sorted_from_one"),
    ],
)
def test_judged_classes_stored_and_read(judged, stored):
    judged = None if judged is None else np.array(judged, np.int32)
    serialized = records.to_example(_record(judged=judged))
    features = tf.train.Example.FromString(serialized).features.feature
    assert list(features["kd/judged_classes"].int64_list.value) == stored
    back = records.from_example(serialized, class_names=NAMES).judged
    assert back is None if judged is None else back.tolist() == sorted(set(judged.tolist()))


def test_to_example_same_record_same_bytes_in_any_process():
    serialized = records.to_example(_record())
    assert serialized == records.to_example(_record())
    keys = list(tf.train.Example.FromString(serialized).features.feature)
    places = [serialized.index(key.encode()) for key in sorted(keys) if key != "image/format"]
    assert places == sorted(places)


def test_to_example_changed_bytes_keep_the_originals_digest_and_their_own():
    serialized = records.to_example(_record(sha256="ab" * 32))
    features = tf.train.Example.FromString(serialized).features.feature
    assert features["image/key/sha256"].bytes_list.value[0] == b"ab" * 32
    own = features["kd/encoded_sha256"].bytes_list.value[0].decode()
    assert own == hashlib.sha256(PIXELS).hexdigest()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"width": 0}, "image without a size", id="no_size"),
        pytest.param({"width": 79}, "box outside the image", id="outside"),
        pytest.param({"class_names": NAMES[:2]}, "class outside", id="class"),
        pytest.param({"judged": np.array([3])}, "class outside", id="judged"),
        pytest.param(
            {"objects": _objects(scores=np.array([0.9, np.nan, 1.0]))}, "score outside", id="nan"
        ),
        pytest.param(
            {"objects": _objects(boxes=np.array([[5, 5, 5, 9]] * 3))}, "without area", id="area"
        ),
        pytest.param({"objects": _objects(boxes=np.full((3, 4), np.nan))}, "outside", id="box_nan"),
    ],
)
def test_to_example_refuses(changes, reason):
    with pytest.raises(RejectedError, match=reason):
        records.to_example(_record(**changes))


def _foreign(**features) -> bytes:
    def feature(values):
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    content = {"height": [40], "width": [80], "encoded": [PIXELS], "source_id": [b"f"]} | features
    content = {f"image/{key}".replace("__", "/"): feature(v) for key, v in content.items()}
    return tf.train.Example(features=tf.train.Features(feature=content)).SerializeToString()


_BOX = {
    f"object__bbox__{side}": [value]
    for side, value in zip(("xmin", "ymin", "xmax", "ymax"), (0.1, 0.1, 0.5, 0.5), strict=True)
}


@pytest.mark.parametrize(
    "label",
    [
        pytest.param({"object__class__text": [b"cat"], "object__class__label": [9]}, id="text"),
        pytest.param({"object__class__label": [4]}, id="label_map"),
    ],
)
def test_from_example_foreign_record_becomes_human_labels(label):
    back = records.from_example(
        _foreign(**_BOX, **label, object__group_of=[1]),
        class_names=("dog", "cat"),
        label_map={4: "cat", 9: "dog"},
    )
    np.testing.assert_allclose(back.objects.boxes, [[8, 4, 40, 20]], rtol=1e-6)
    assert back.objects.classes.tolist() == [1]
    assert back.objects.scores.tolist() == [1.0]
    assert back.objects.teachers.tolist() == [HUMAN]
    assert back.objects.is_crowd.tolist() == [True]
    np.testing.assert_allclose(back.objects.areas, [512.0], rtol=1e-6)
    assert back.judged is None and back.source_id == "f"


def test_from_example_foreign_record_without_objects_is_an_empty_image():
    back = records.from_example(_foreign(), class_names=("dog",))
    assert len(back.objects) == 0 and back.objects.boxes.shape == (0, 4)


def test_from_example_lists_of_different_lengths_are_refused():
    broken = _foreign(**_BOX, object__class__text=[b"cat"], object__is_crowd=[0, 1])
    with pytest.raises(RejectedError, match="is_crowd has 2 values for 1 objects"):
        records.from_example(broken, class_names=("cat",))


def test_from_example_bytes_that_are_no_example_are_refused():
    with pytest.raises(RejectedError, match=r"not a tf\.train"):
        records.from_example(b"\xff\xff\xff", class_names=("cat",))


def test_label_map_round_trip_with_quotes_and_newline():
    names = (*NAMES, "back\\slash", "two\nlines", "item { id: 9 }")
    label_map.write("ram://records/label_map.pbtxt", names)
    assert label_map.read("ram://records/label_map.pbtxt") == dict(enumerate(names, start=1))


def test_label_map_foreign_spelling_and_display_name(tmp_path):
    path = tmp_path / "map.pbtxt"
    path.write_text("# COCO\nitem: {\n name: '/m/01g317'\n id: 3\n display_name: 'it\\'s' }\n")
    assert label_map.read(str(path)) == {3: "it's"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("nothing", "not a label map", id="empty"),
        pytest.param('item { id: 0 name: "a" }', "id from 1", id="zero"),
        pytest.param('item { id: 1 name: "a" }\n' * 2, "twice", id="twice"),
    ],
)
def test_label_map_wrong_says_why(tmp_path, text, message):
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        label_map.read(str(path))
