"""A results file as a teacher: how its boxes find their images, and what is refused."""

import json

import numpy as np
import pytest

from kd_tf import specs
from kd_tf.data.predict import predict
from kd_tf.errors import UserError
from kd_tf.teachers.load import LoadSettings, load_teacher
from tests.teachers.made import made_source


def load(text: str, **settings):
    return load_teacher(specs.parse(text, specs.TEACHER_KINDS), settings=LoadSettings(**settings))


def _result(image_id, category_id=7, bbox=(2, 3, 10, 5), score=0.6):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


@pytest.fixture
def results(tmp_path):
    """Writes results and categories; gives the spec."""

    def write(
        content, categories='{"categories": [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]}'
    ):
        (tmp_path / "r.json").write_text(
            content if isinstance(content, str) else json.dumps(content)
        )
        (tmp_path / "c.json").write_text(categories)
        return f"results:{tmp_path}/r.json?categories={tmp_path}/c.json"

    return write


def test_results_are_joined_by_image_id(results):
    teacher = load(results([_result(3, 9, score=0.9), _result(1), _result(3)]))
    assert teacher.needs().class_names == ("cat", "dog")
    teacher.check_images([made_source(3)])
    found = [p.detections for p in predict(teacher, made_source(3), batch_size=1)]
    assert [len(f) for f in found] == [1, 0, 2]
    np.testing.assert_allclose(found[0].boxes, [[2, 3, 12, 8]])
    assert found[2].classes.tolist() == [1, 0]
    np.testing.assert_allclose(found[2].scores, [0.9, 0.6])


def test_results_are_joined_by_file_name(results, tmp_path):
    images = {"images": [{"id": 500, "file_name": "some/folder/1"}]}
    (tmp_path / "i.json").write_text(json.dumps(images))
    teacher = load(results([_result(500)]) + f"&images={tmp_path}/i.json")
    # The location of the made source's second item is "1".
    found = [len(p.detections) for p in predict(teacher, made_source(3), batch_size=1)]
    assert found == [0, 1, 0]


def test_results_for_unknown_images_are_refused(results):
    teacher = load(results([_result(1), _result(77), _result(78)]))
    with pytest.raises(UserError, match=r"2 images that the data 'made' does not hold.*77, 78"):
        teacher.check_images([made_source(3)])


def test_results_may_be_for_more_images_than_are_asked_about(results):
    teacher = load(results([_result(1), _result(3)]))
    teacher.check_images([made_source(2)], others=[made_source(3)])


def test_results_for_none_of_the_images_are_refused(results):
    teacher = load(results([_result(3)]))
    with pytest.raises(UserError, match="no result for any image of the data 'made'"):
        teacher.check_images([made_source(2)], others=[made_source(3)])


def test_results_that_cannot_tell_two_listings_apart_are_refused(results):
    teacher = load(results([_result(1)]))
    with pytest.raises(UserError, match=r"cannot tell apart, such as 1\..*images="):
        teacher.check_images([made_source(2), made_source(3)])


def test_results_empty_list_is_a_teacher_that_saw_nothing(results):
    teacher = load(results([]))
    teacher.check_images([made_source(2)])
    assert [len(p.detections) for p in predict(teacher, made_source(2), batch_size=1)] == [0, 0]


@pytest.mark.parametrize(
    ("content", "categories", "message"),
    [
        pytest.param("no json", None, "is not JSON", id="no_json"),
        pytest.param({"images": []}, None, "not a COCO results file", id="instances"),
        pytest.param([{"image_id": 1}], None, "not a COCO results file", id="keys"),
        pytest.param([_result(1, 8)], None, "categories .8.", id="category"),
        pytest.param([_result(1)], '{"a": 1}', "names no categories", id="no_categories"),
    ],
)
def test_results_that_cannot_be_used_are_named(results, content, categories, message):
    text = results(content, categories) if categories else results(content)
    with pytest.raises(UserError, match=message) as caught:
        load(text)
    assert text in str(caught.value)


def test_results_without_categories_is_refused(results):
    text = results([_result(1)]).partition("?")[0]
    with pytest.raises(UserError, match=r"give .categories=FILE"):
        load(text)
