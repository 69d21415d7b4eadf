"""Teachers of every kind: what they give, and what is said about those that cannot be used."""

import numpy as np
import pytest
import tensorflow as tf

from kd_tf import specs
from kd_tf.data.predict import predict
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.teachers.load import LoadSettings, content_hash, load_teacher
from kd_tf.teachers.synonyms import canonical
from tests.teachers.made import CLASS_NAMES, RectangleTeacher, made_source


def load(text: str, **settings):
    return load_teacher(specs.parse(text, specs.TEACHER_KINDS), settings=LoadSettings(**settings))


def make_rectangles(*, names: str = "bright,dark", score: str = "0.8"):
    return RectangleTeacher(names.split(","), score=float(score))


def make_nothing():
    return object()


def make_wrong_needs():
    class Wrong(RectangleTeacher):
        def needs(self):
            return ("bright", 32, 32)

    return Wrong()


def make_failing():
    raise OSError("weights not found")


def test_python_teacher_gets_the_options_as_text():
    teacher = load("python:tests.teachers.test_load:make_rectangles?names=a,b&score=0.5&name=x")
    assert teacher.needs().class_names == ("a", "b")
    first = next(iter(predict(teacher, made_source(1), batch_size=1)))
    np.testing.assert_allclose(first.detections.scores, [0.5, 0.125])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("python:tests.teachers.test_load", "module:factory", id="no_factory"),
        pytest.param("python:no.such.module:f", "cannot import", id="no_module"),
        pytest.param("python:tests.teachers.test_load:nothing", "cannot import", id="no_name"),
        pytest.param(
            "python:tests.teachers.test_load:make_nothing", "method 'needs'", id="methods"
        ),
        pytest.param("python:tests.teachers.test_load:make_wrong_needs", "a tuple", id="needs"),
        pytest.param(
            "python:tests.teachers.test_load:make_failing", "weights not found", id="raises"
        ),
        pytest.param(
            "python:tests.teachers.test_load:make_rectangles?size=3", "unexpected", id="option"
        ),
    ],
)
def test_python_teacher_that_cannot_be_used_is_named(spec, message):
    with pytest.raises(UserError, match=message) as caught:
        load(spec)
    assert spec in str(caught.value)


class ObjectDetectionApi(tf.Module):
    """Gives one box (ymin .1, xmin .2, ymax .5, xmax .8), score .7, label 3, and padding."""

    def __init__(self, *, box_key: str = "detection_boxes", label: float = 3.0):
        super().__init__()
        self._box_key = box_key
        self._label = tf.Variable(label)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    def __call__(self, input_tensor):
        num = tf.shape(input_tensor)[0]
        boxes = tf.constant([[[0.1, 0.2, 0.5, 0.8], [0, 0, 0, 0]]])
        return {
            self._box_key: tf.tile(boxes, [num, 1, 1]),
            "detection_scores": tf.tile([[0.7, 0.0]], [num, 1]),
            "detection_classes": tf.tile([[self._label, 1.0]], [num, 1]),
            "num_detections": tf.tile([1.0], [num]),
        }


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models")
    good = ObjectDetectionApi()
    tf.saved_model.save(good, str(folder / "good"), signatures=good.__call__)
    wrong = ObjectDetectionApi(box_key="raw_boxes")
    tf.saved_model.save(wrong, str(folder / "wrong_names"), signatures=wrong.__call__)
    bare = tf.Module()
    bare.value = tf.Variable(1.0)
    tf.saved_model.save(bare, str(folder / "no_signature"))
    (folder / "map.pbtxt").write_text(
        'item { id: 1 name: "cat" } item { id: 3 name: "dog" display_name: "Dog" }'
    )
    (folder / "names.txt").write_text("cat\nbird\ndog\n")
    (folder / "short.txt").write_text("cat\nbird\n")
    return folder


@pytest.mark.parametrize(
    ("label_map", "names", "index"),
    [("map.pbtxt", ("cat", "Dog"), 1), ("names.txt", ("cat", "bird", "dog"), 2)],
)
def test_saved_model_outputs_become_detections(saved_models, label_map, names, index):
    teacher = load(
        f"saved_model:{saved_models}/good?label_map={saved_models}/{label_map}"
        "&input_size=50x100&resize=stretch"
    )
    assert teacher.needs() == Needs(names, 50, 100, "stretch")
    found = teacher.detect(np.zeros((3, 50, 100, 3), np.uint8))
    assert len(found) == 3
    # yxyx in 0..1 of 50x100: x1 = .2*100, y1 = .1*50, x2 = .8*100, y2 = .5*50.
    np.testing.assert_allclose(found[2].boxes, [[20, 5, 80, 25]], rtol=1e-6)
    np.testing.assert_allclose(found[2].scores, [0.7], rtol=1e-6)
    assert found[2].classes.tolist() == [index]


def test_saved_model_without_size_takes_images_as_they_are(saved_models):
    teacher = load(f"saved_model:{saved_models}/good?label_map={saved_models}/map.pbtxt")
    assert teacher.needs().resize == "none"
    first = next(iter(predict(teacher, made_source(1), batch_size=4)))
    np.testing.assert_allclose(first.detections.boxes, [[6.4, 2.4, 25.6, 12]], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param("good", "names of its classes are not known", id="no_names"),
        pytest.param("good?label_map=nowhere.txt", "nowhere.txt is not there", id="no_file"),
        pytest.param("good?label_map=M&signature=other", "no signature 'other'", id="signature"),
        pytest.param("good?label_map=M&input_size=big", "form HxW", id="size"),
        pytest.param("good?label_map=M&input_size=8x8&resize=crop", "not one of", id="resize"),
        pytest.param("wrong_names?label_map=M", "not .'detection_boxes'", id="outputs"),
        pytest.param("no_signature?label_map=M", "has no signature", id="none"),
        pytest.param("absent?label_map=M", "nothing at", id="absent"),
    ],
)
def test_saved_model_that_cannot_be_used_is_named(saved_models, options, message):
    text = f"saved_model:{saved_models}/{options.replace('=M', f'={saved_models}/map.pbtxt')}"
    with pytest.raises(UserError, match=message) as caught:
        load(text)
    assert text in str(caught.value)


def test_saved_model_label_out_of_range_names_teacher_and_image(saved_models):
    teacher = load(f"saved_model:{saved_models}/good?label_map={saved_models}/short.txt")
    with pytest.raises(UserError, match="class 3 is out of range"):
        list(predict(teacher, made_source(1), batch_size=1, name="short"))


def test_tflite_real_file_names_classes_from_its_metadata(real_data):
    teacher = load(f"tflite:{real_data}/weights/ssd_mobilenet_v1.tflite")
    needs = teacher.needs()
    assert (needs.height, needs.width, needs.resize) == (300, 300, "stretch")
    # 91 lines, of which eleven are placeholders for COCO's gaps: 80 names.
    assert len(needs.class_names) == 80
    assert needs.class_names[:2] == ("person", "bicycle")
    assert needs.class_names[-1] == "toothbrush"


def test_tflite_real_file_sees_what_is_there(real_data):
    from kd_tf.data.sources import open_source

    teacher = load(f"tflite:{real_data}/weights/ssd_mobilenet_v1.tflite")
    folder = real_data / "coco_tiny"
    source = open_source(
        specs.parse(
            f"coco:{folder}/annotations/instances_val2017.json?images={folder}/val2017",
            specs.DATA_KINDS,
        )
    )
    hits = 0
    for image in predict(teacher, source, batch_size=2, rows=range(8)):
        names = {teacher.needs().class_names[c] for c in image.detections.classes[:1]}
        labels, _ = source.read_labels(image.item)
        hits += bool(names & {source.class_names[c] for c in labels.classes})
    # The best detection of an image is nearly always a class that is there.
    assert hits >= 7


def test_tflite_with_another_number_of_names_than_it_has_classes_is_refused(real_data):
    weights = real_data / "weights"
    with pytest.raises(UserError, match=r"names 80 classes, .* scores 91 .*&ids=coco") as caught:
        load(f"tflite:{weights}/ssd_mobilenet_v1.tflite?classes={weights}/coco80_names.txt")
    assert "a list of 90 lines, ??? where" in str(caught.value)
    with pytest.raises(UserError, match="names 2 classes"):
        load(f"tflite:{weights}/ssd_mobilenet_v1.tflite?classes=a,b&label_offset=0")


def test_tflite_cocos_names_at_cocos_ids_are_those_of_the_file(real_data):
    weights = real_data / "weights"
    own = load(f"tflite:{weights}/ssd_mobilenet_v1.tflite")
    given = load(
        f"tflite:{weights}/ssd_mobilenet_v1.tflite?classes={weights}/coco80_names.txt&ids=coco"
    )
    image = np.random.default_rng(0).integers(0, 255, (1, 300, 300, 3)).astype(np.uint8)
    names = (given.needs().class_names, own.needs().class_names)
    assert len({tuple(map(canonical, one)) for one in names}) == 1
    assert given.detect(image)[0].classes.tolist() == own.detect(image)[0].classes.tolist()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("weights/yolox_nano.tflite?classes=a", "four outputs", id="raw_outputs"),
        pytest.param("weights/yolox_nano.tflite", "no class list", id="no_names"),
        pytest.param("weights/coco80_names.txt?classes=a", "cannot be loaded", id="no_tflite"),
        pytest.param(
            "weights/ssd_mobilenet_v1.tflite?label_offset=one", "whole number", id="offset"
        ),
        pytest.param(
            "weights/ssd_mobilenet_v1.tflite?classes=a,b&ids=coco",
            "ids=coco with 2 names",
            id="ids",
        ),
    ],
)
def test_tflite_that_cannot_be_used_is_named(real_data, spec, message):
    with pytest.raises(UserError, match=message):
        load(f"tflite:{real_data}/{spec}")


def test_keras_missing_file_is_named():
    with pytest.raises(UserError, match=r"nothing at 'no/such\.keras'"):
        load("keras:no/such.keras")


def test_kerascv_unknown_preset_lists_the_known():
    with pytest.raises(UserError, match="yolo_v8_m_pascalvoc, retinanet_resnet50_pascalvoc"):
        load("kerascv:yolo_v9")


def test_content_hash_follows_the_content(tmp_path):
    def hash_of(text):
        return content_hash(specs.parse(text, specs.TEACHER_KINDS))

    (tmp_path / "a.tflite").write_bytes(b"one")
    (tmp_path / "b.tflite").write_bytes(b"one")
    first = hash_of(f"tflite:{tmp_path}/a.tflite")
    assert hash_of(f"tflite:{tmp_path}/b.tflite?name=other") == first
    assert hash_of(f"tflite:{tmp_path}/a.tflite?label_offset=1") != first
    code = hash_of("python:tests.teachers.made:f")
    assert code != hash_of("python:tests.teachers.test_load:f")
    (tmp_path / "a.tflite").write_bytes(b"two")
    assert hash_of(f"tflite:{tmp_path}/a.tflite") != first


def test_detections_of_a_teacher_keep_the_class_list_order():
    teacher = load("python:tests.teachers.test_load:make_rectangles")
    assert teacher.needs().class_names == CLASS_NAMES
    assert isinstance(teacher.detect(np.full((1, 32, 32, 3), 128, np.uint8))[0], Detections)
