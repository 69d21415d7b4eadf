"""Records of other programs: sizes, names and classes that they leave out."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.data.parse import ClassTable, parse
from kd_tf.data.records import from_example
from kd_tf.data.shards import write_shard
from kd_tf.errors import RejectedError, UserError
from tests.data.made import foreign_record, open_spec


def _changed(name="x", *, drop=(), **features) -> bytes:
    example = tf.train.Example.FromString(foreign_record(name))
    for key in drop:
        del example.features.feature[key]
    for key, values in features.items():
        feature = example.features.feature[key.replace("__", "/")]
        feature.Clear()
        kind = "float_list" if isinstance(values[0], float) else "int64_list"
        getattr(feature, kind).value.extend(values)
    return example.SerializeToString()


def _open(tmp_path, *records):
    write_shard(str(tmp_path), "x", shard=0, num_shards=1, records=records)
    return open_spec(f"records:{tmp_path}/x-*?name=set")


SIZE = ("image/height", "image/width")


def test_size_is_that_of_the_image_where_none_is_stated(tmp_path):
    source = _open(tmp_path, _changed(drop=SIZE), _changed("y", image__height=[0]))
    for item in source.items:
        # A quarter to a half of 40 pixels, a half to three quarters of 24.
        assert source.read_labels(item)[0].boxes.tolist() == [[10, 12, 20, 18]]


def test_record_without_size_and_without_an_image_is_a_reject():
    with pytest.raises(RejectedError, match="empty file"):
        from_example(_changed(drop=(*SIZE, "image/encoded")), class_names=("dog",))


def test_records_of_one_name_are_known_by_their_number(tmp_path):
    source = _open(tmp_path, *[_changed("same")] * 3)
    assert [item.original_id for item in source.items] == [f"same#{n:08d}" for n in range(3)]
    assert [item.image_id for item in source.items] == [1, 2, 3]
    assert all(len(source.read_labels(item)[0].boxes) == 1 for item in source.items)


def test_labels_as_numbers_alone_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"numbers alone \(\[18\]\).*label_map.pbtxt beside them"):
        _open(tmp_path, _changed(drop=["image/object/class/text"]))
    (tmp_path / "label_map.pbtxt").write_text("item { id: 18 name: 'dog' }")
    source = open_spec(f"records:{tmp_path}/x-*?name=set")
    assert source.class_names == ("dog",)
    assert source.read_labels(source.items[0])[0].classes.tolist() == [0]


@pytest.mark.parametrize("key", ["difficult", "group_of", "is_crowd"])
@pytest.mark.parametrize("value", [0, 1])
def test_difficult_objects_and_groups_count_as_crowds(tmp_path, key, value):
    serialized = _changed(**{f"image__object__{key}": [value]})
    source = _open(tmp_path, serialized)
    assert source.read_labels(source.items[0])[0].is_crowd.tolist() == [bool(value)]
    parsed = parse(tf.constant(serialized), ClassTable(("dog",)), number=tf.constant(0))
    assert parsed["is_crowd"].numpy().tolist() == [bool(value)]


def test_any_record_gives_labels_or_a_reject(tmp_path):
    random = np.random.default_rng(6)
    keys = list(tf.train.Example.FromString(foreign_record("x")).features.feature)
    for number in range(300):
        if number % 3 == 0:
            good = np.frombuffer(foreign_record("x"), np.uint8).copy()
            good[random.integers(0, len(good), 4)] = random.integers(0, 256, 4)
            serialized = good.tobytes()
        else:
            odd = [[-1], [0], [2**62], [float("nan")], [1e30], [0.5, 0.5]]
            key = str(random.choice(keys)).replace("/", "__")
            serialized = _changed(**{key: odd[int(random.integers(len(odd)))]})
        try:
            record = from_example(serialized, class_names=("dog",))
        except RejectedError:
            continue
        assert record.height > 0
