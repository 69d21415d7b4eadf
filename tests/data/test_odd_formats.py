"""One test for each row of ODD_INPUTS.md about VOC, YOLO and records."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import foreign_record, labels_and_reasons, listing_reasons, open_spec

PNG = made.encode(made.colours())

BOMB = (
    '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]>'
    "<annotation><filename>&y;</filename></annotation>"
)
EXTERNAL = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hosts">]>'
    "<annotation><filename>&x;</filename></annotation>"
)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        pytest.param(EXTERNAL, "forbidden XML", id="xml_with_external_entity"),
        pytest.param(BOMB, "forbidden XML", id="xml_billion_laughs"),
        pytest.param("<annotation>", "bad annotation", id="xml_that_is_not_xml"),
        pytest.param("<other/>", "bad annotation", id="xml_of_another_form"),
    ],
)
def test_xml(tmp_path, xml, reason):
    good = made.voc_xml([("cat", (2, 3, 11, 7), 0)])
    spec = made.voc(tmp_path / "v", {"a": good, "b": xml}, images={"a.png": PNG, "b.png": PNG})
    assert listing_reasons(spec) == (1, [reason])


def test_object_without_a_name(tmp_path):
    xml = made.voc_xml([("", (2, 3, 11, 7), 0), ("cat", (2, 3, 11, 7), 0)])
    labels, reasons = labels_and_reasons(
        made.voc(tmp_path / "v", {"a": xml}, images={"a.png": PNG})
    )
    assert labels.boxes.tolist() == [[1, 2, 11, 7]]
    assert reasons == ["object without a class"]


def test_annotation_without_an_image(tmp_path):
    xml = made.voc_xml([("cat", (2, 3, 11, 7), 0)])
    spec = made.voc(
        tmp_path / "v", {"a": xml, "b": xml.replace("a.png", "")}, images={"a.png": PNG}
    )
    assert listing_reasons(spec) == (1, ["missing file"])


def test_image_without_an_annotation(tmp_path):
    xml = made.voc_xml([("cat", (2, 3, 11, 7), 0)])
    spec = made.voc(tmp_path / "v", {"a": xml}, images={"a.png": PNG, "b.png": PNG})
    assert labels_and_reasons(spec)[1] == ["image without an annotation file"]


@pytest.mark.parametrize(
    ("text", "boxes", "reasons"),
    [
        pytest.param("2 .5 .5 .5 .5", [], ["class id out of range"], id="yolo_class_out_of_range"),
        pytest.param("-1 .5 .5 .5 .5", [], ["class id out of range"], id="yolo_negative_class"),
        pytest.param("0 .5 .5 .5", [], ["bad label line"], id="yolo_line_of_4_numbers"),
        pytest.param("cat .5 .5 .5 .5", [], ["bad label line"], id="yolo_line_of_text"),
        pytest.param("0 20 12 10 10", [], ["box not normalised"], id="yolo_box_in_pixels"),
        pytest.param("0 nan .5 .5 .5", [], ["box not finite"], id="yolo_nan"),
        # x .25 to .75 of 40, y .25 to .5 of 24.
        pytest.param("1 .25 .25 .75 .25 .5 .5", [[10, 6, 30, 12]], [], id="yolo_polygon"),
    ],
)
def test_yolo(tmp_path, text, boxes, reasons):
    labels, left_out = labels_and_reasons(made.yolo(tmp_path, {"a": text}))
    np.testing.assert_allclose(labels.boxes, np.array(boxes).reshape(-1, 4), atol=1e-4)
    assert left_out == reasons


def test_yolo_image_without_label_file(tmp_path):
    spec = made.yolo(tmp_path, {"a": "0 .5 .5 .1 .1", "b": "0 .5 .5 .1 .1"})
    (tmp_path / "labels" / "train" / "a.txt").unlink()
    source = open_spec(spec)
    assert [len(source.read_labels(item)[0].boxes) for item in source.items] == [0, 1]
    (reject,) = source.rejects
    assert (reject.what, reject.reason) == ("a.png", "image without a label file")
    assert not reject.whole_image


def test_yolo_no_label_file_at_all(tmp_path):
    spec = made.yolo(tmp_path, {"a": "", "b": ""})
    (tmp_path / "labels").rename(tmp_path / "annotations")
    path = f"{tmp_path}/labels/train/a.txt"
    with pytest.raises(UserError, match=f"none of 2 images .*{path}.*must lie in labels/train/"):
        open_spec(spec)


def test_foreign_record(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "theirs.tfrecord")) as writer:
        writer.write(foreign_record("139"))
    source = open_spec(f"records:{tmp_path}/theirs.tfrecord")
    assert source.class_names == ("dog",)
    assert [(i.image_id, i.original_id) for i in source.items] == [(139, "139")]
    assert source.read_bytes(source.items[0]) == PNG
    labels, rejects = source.read_labels(source.items[0])
    assert labels.boxes.tolist() == [[10, 12, 20, 18]]
    assert labels.judged is None
    assert rejects == []


def test_record_file_cut_in_half(tmp_path):
    path = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(foreign_record("1"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="the file was cut"):
        open_spec(f"records:{path}")


def test_record_with_flipped_bytes(tmp_path):
    path = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name in "123":
            writer.write(foreign_record(name))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    source = open_spec(f"records:{path}")
    assert [item.original_id for item in source.items] == ["1", "3"]
    assert [reject.reason for reject in source.rejects] == ["damaged record"]
    assert source.rejects[0].what.startswith("record 1 of")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("image/format", "int64_list"),
        ("image/height", "float_list"),
        ("image/encoded", "float_list"),
        ("image/object/bbox/xmin", "bytes_list"),
        ("image/object/class/text", "int64_list"),
    ],
)
def test_record_with_a_field_of_another_type(tmp_path, key, kind):
    example = tf.train.Example.FromString(foreign_record("2"))
    feature = example.features.feature[key]
    feature.Clear()
    getattr(feature, kind).value.append(b"x" if kind == "bytes_list" else 1)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs.tfrecord")) as writer:
        writer.write(foreign_record("1"))
        writer.write(example.SerializeToString())
    source = open_spec(f"records:{tmp_path}/theirs.tfrecord")
    assert [item.original_id for item in source.items] == ["1"]
    assert [reject.reason for reject in source.rejects] == ["field of the wrong type"]
    assert f"{key} holds a {kind}" in source.rejects[0].detail


def test_record_with_more_classes_than_boxes(tmp_path):
    example = tf.train.Example.FromString(foreign_record("2"))
    example.features.feature["image/object/class/text"].bytes_list.value.append(b"dog")
    with tf.io.TFRecordWriter(str(tmp_path / "theirs.tfrecord")) as writer:
        writer.write(foreign_record("1"))
        writer.write(example.SerializeToString())
    source = open_spec(f"records:{tmp_path}/theirs.tfrecord")
    assert [item.original_id for item in source.items] == ["1"]
    assert [reject.reason for reject in source.rejects] == ["lists of different lengths"]
