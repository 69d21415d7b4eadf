"""Records as tensors: classes by text, foreign records, judged classes."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data import records
from kd_tf.data.parse import ClassTable, parse
from kd_tf.data.records import HUMAN, Objects, Record


def _example(*, class_names=("cat", "dog", "cow"), judged=None, num=3) -> bytes:
    boxes = np.array([[0, 0, 10, 10], [10, 4, 20, 8], [0, 5, 5, 10]], np.float32)
    objects = Objects(
        boxes,
        np.array([1.0, 0.25, 0.75], np.float32),
        np.array([2, 0, 1], np.int32),
        np.array([HUMAN, 0, 3], np.int32),
        np.array([True, False, False]),
        np.array([100, 40, 25], np.float32),
        np.array([True, False, True]),
    )
    objects = Objects(*(getattr(objects, name)[:num] for name in Objects.__slots__))
    judged = None if judged is None else np.array(judged, np.int32)
    record = Record("s/1", 1, b"bytes", "png", 10, 20, "f", "00", objects, class_names, judged)
    return records.to_example(record)


def _foreign(**features) -> bytes:
    def feature(values):
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    boxes = {
        f"bbox/{side}": [0.0, at] for side, at in zip(("xmin", "ymin"), (0.5, 0.2), strict=True)
    }
    boxes |= {
        f"bbox/{side}": [1.25, at] for side, at in zip(("xmax", "ymax"), (0.5, 0.9), strict=True)
    }
    content = {f"image/object/{key}": feature(v) for key, v in (boxes | features).items()}
    content |= {"image/encoded": feature([b"x"]), "image/source_id": feature([b"foreign/7"])}
    return tf.train.Example(features=tf.train.Features(feature=content)).SerializeToString()


def _parse(serialized: bytes, class_names, *, number=0, **options) -> dict[str, np.ndarray]:
    table = ClassTable(class_names, **options)
    run = tf.function(lambda one: parse(one, table, number=tf.constant(number)))
    return {key: value.numpy() for key, value in run(tf.constant(serialized)).items()}


def test_parse_own_record_reads_every_object_by_text():
    # The run lists the classes in another order: cow 0, dog 1, cat 2.
    got = _parse(_example(), ("cow", "dog", "cat"))
    expected = [[0, 0, 0.5, 1], [0.5, 0.4, 1, 0.8], [0, 0.5, 0.25, 1]]
    np.testing.assert_allclose(got["boxes_xyxy_unit"], expected)
    assert got["classes"].tolist() == [0, 2, 1]
    assert got["scores"].tolist() == [1.0, 0.25, 0.75]
    assert got["human"].tolist() == [True, False, False]
    assert got["is_crowd"].tolist() == [True, False, False]
    assert (got["encoded"], got["id"]) == (b"bytes", b"s/1")


def test_parse_record_without_objects():
    got = _parse(_example(num=0), ("cat", "dog", "cow"))
    assert got["boxes_xyxy_unit"].shape == (0, 4) and got["classes"].shape == (0,)
    assert got["judged"].tolist() == [True, True, True]


@pytest.mark.parametrize(
    ("judged", "class_names", "label_map", "expected"),
    [
        pytest.param(None, ("cow", "cat", "dog"), {}, [1, 1, 1], id="absent_is_all"),
        pytest.param([], ("cow", "cat", "dog"), {}, [0, 0, 0], id="zero_is_none"),
        pytest.param([1, 2], ("cow", "cat", "dog"), {}, [1, 0, 1], id="by_text"),
        pytest.param([1], ("cow", "cat", "dog", "emu"), {}, [0, 0, 1, 0], id="new_class_is_not"),
        pytest.param(
            None,
            ("emu", "cow", "cat", "dog"),
            {1: "cat", 2: "dog", 3: "cow"},
            [0, 1, 1, 1],
            id="absent_is_all_that_the_label_map_knows",
        ),
    ],
)
def test_parse_judged_classes(judged, class_names, label_map, expected):
    got = _parse(_example(judged=judged), class_names, label_maps=[label_map])
    assert got["judged"].tolist() == [bool(one) for one in expected]


def test_parse_judged_class_that_is_dropped_is_no_class():
    got = _parse(_example(judged=[0, 1]), ("dog",), drop=("cat", "cow"))
    assert got["judged"].tolist() == [True]
    assert got["classes"].tolist() == [0]


@pytest.mark.parametrize(
    ("features", "number", "classes"),
    [
        pytest.param({"class/text": [b"cat", b"dog"]}, 0, [1], id="text"),
        pytest.param({"class/label": [5, 6]}, 0, [1], id="label_map_of_the_first_set"),
        pytest.param({"class/label": [5, 6]}, 1, [0], id="label_map_of_the_second_set"),
        pytest.param({"class/label": [6, 5], "class/text": [b"cat", b"dog"]}, 0, [1], id="both"),
    ],
)
def test_parse_foreign_record_is_a_persons_and_judged_by_its_set(features, number, classes):
    maps = [{5: "cat", 6: "dog"}, {5: "dog", 6: "cat"}]
    got = _parse(_foreign(**features), ("dog", "cat"), label_maps=maps, number=number)
    # The second box has no width; the first one is clipped at the right edge.
    np.testing.assert_allclose(got["boxes_xyxy_unit"], [[0, 0, 1, 1]])
    assert got["classes"].tolist() == classes
    assert got["scores"].tolist() == [1.0]
    assert got["human"].tolist() == [True]
    assert got["judged"].tolist() == [True, True]


@pytest.mark.parametrize("key", ["is_crowd", "group_of"])
def test_parse_foreign_crowd_and_group(key):
    got = _parse(_foreign(**{"class/text": [b"cat", b"cat"], key: [1, 0]}), ("cat",))
    assert got["is_crowd"].tolist() == [True]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param({"class/text": [b"cat", b"yak"]}, "yak", id="text"),
        pytest.param({"class/label": [1, 9]}, "class list", id="label_without_map"),
    ],
)
def test_parse_unknown_class_names_image_and_class(features, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s)foreign/7.*{message}"):
        _parse(_foreign(**features), ("cat",), label_maps=[{1: "cat"}])
