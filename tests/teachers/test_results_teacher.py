"""A results file as a teacher: how its boxes find their images, and what is refused."""

import json

import numpy as np
import pytest

from kd_tf import specs
from kd_tf.data.items import Item, Source
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


def test_results_are_joined_by_stems_as_numbers(results):
    # The made images are called 00000.png, 00001.png and so on.
    teacher = load(results([_result(2, 9, score=0.9), _result(0), _result(2)]))
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
    teacher.check_images([made_source(2)], others=[made_source(4)])


def test_results_for_none_of_the_images_are_refused(results):
    teacher = load(results([_result(3)]))
    with pytest.raises(UserError, match="no result for any image of the data 'made'"):
        teacher.check_images([made_source(2)], others=[made_source(4)])


def test_results_that_cannot_tell_two_listings_apart_are_refused(results):
    teacher = load(results([_result(1)]))
    with pytest.raises(UserError, match=r"the results of 1 fit two images.*cannot tell them apart"):
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
        pytest.param([_result(1, bbox=None)], None, "result 0, image 1, has bbox None", id="null"),
        pytest.param([_result(1, bbox=[])], None, "has bbox a list of 0", id="empty_box"),
        pytest.param([_result(1, bbox={})], None, "has bbox a table", id="box_table"),
        pytest.param([_result(1, bbox=[1, 2, [3], 4])], None, "has bbox", id="list_in_box"),
        pytest.param([_result(1, bbox=[1, 2, 3, 10**400])], None, "has bbox", id="digits"),
        pytest.param([_result(1, score=None)], None, "has score None", id="no_score"),
        pytest.param([_result(1, score=[0.5])], None, r"has score \[0.5\]", id="score_list"),
        pytest.param([_result({})], None, "has image_id a table", id="image_table"),
        pytest.param([_result(1.5)], None, "has image_id 1.5", id="half_an_image"),
        pytest.param([_result(1, "cat")], None, "has category_id 'cat'", id="category_word"),
        pytest.param("[" * 10_000, None, "is not JSON", id="deep"),
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


def _source(name, kind, paths):
    """Listings as coco: (own ids), images:/yolo: (paths) and voc: (stems) give them."""
    if kind == "coco":
        items = [Item(10 * n, str(10 * n), f"/d/{path}") for n, path in enumerate(paths, 1)]
    elif kind == "voc":
        items = [
            Item(n, path.rpartition(".")[0], f"/d/JPEGImages/{path}")
            for n, path in enumerate(paths, 1)
        ]
    else:
        items = [Item(n, path, f"/d/{path}") for n, path in enumerate(paths, 1)]
    return Source(name, (), items, lambda item: b"", None, (), "0" * 64)


PATHS = ["c/000007.jpg", "b/000139.jpg", "a/dog.jpg"]


@pytest.mark.parametrize(
    ("kind", "paths", "keys"),
    [
        pytest.param("coco", PATHS, [20, 10, 30], id="coco_ids"),
        pytest.param("coco", PATHS, ["20", "10", "30"], id="coco_ids_as_text"),
        pytest.param("coco", PATHS, [20.0, 10, 30], id="coco_ids_as_floats"),
        pytest.param("coco", PATHS, ["000139.jpg", "000007.jpg", "dog.jpg"], id="coco_names"),
        pytest.param("coco", PATHS[:2], [139, 7], id="coco_stems_as_numbers"),
        pytest.param("images", PATHS, ["b/000139.jpg", "c/000007.jpg", "a/dog.jpg"], id="paths"),
        pytest.param("images", PATHS, ["000139", "000007", "dog"], id="stems"),
        pytest.param("images", PATHS, [139, 7, "dog"], id="ultralytics"),
        pytest.param("images", PATHS, ["/x/y/b/000139.jpg", "/x/y/c/000007.jpg", "/x/y/a/dog.jpg"],
                     id="absolute"),
        pytest.param("images", PATHS, ["D:\\b\\000139.jpg", "D:\\c\\000007.jpg", "D:\\a\\dog.jpg"],
                     id="windows"),
        pytest.param("images", ["cam1/1.jpg", "cam2/1.jpg"], ["x/cam2/1.jpg", "x/cam1/1.jpg"],
                     id="same_names_in_two_folders"),
        pytest.param("voc", ["a.jpg", "1.jpg", "2.png"], ["1", "a", "2"], id="voc_stems"),
        pytest.param("voc", ["a.jpg", "1.jpg", "2.png"], [1, "a.jpg", 2], id="voc_numbers"),
        pytest.param("images", ["bär.jpg", "x.jpg"], ["x.jpg", "ba\u0308r.jpg"], id="accents"),
    ],
)  # fmt: skip
def test_results_find_their_image_by_what_identifies_it(results, kind, paths, keys):
    teacher = load(results([_result(key, score=0.1 * n) for n, key in enumerate(keys, 1)]))
    source = _source("set", kind, paths)
    teacher.check_images([source])
    # The keys name the second image first.
    order = [1, 0, 2][: len(paths)]
    for place, row in enumerate(order, 1):
        assert teacher.recall(source.items[row]).scores.tolist() == pytest.approx([0.1 * place])


@pytest.mark.parametrize("image_id", [None, 5])
def test_file_name_wins_over_image_id(results, image_id):
    result = _result(image_id) | {"file_name": "b/000139.jpg"}
    teacher = load(results([result]))
    source = _source("set", "images", PATHS)
    teacher.check_images([source])
    assert [len(teacher.recall(item)) for item in source.items] == [0, 1, 0]


@pytest.mark.parametrize(
    ("kind", "paths", "keys", "message"),
    [
        pytest.param("images", ["a.jpg", "b.jpg"], [1, 2], "no result for any image", id="ranks"),
        pytest.param("voc", ["a.jpg", "b.jpg"], [2, 1], "no result for any image", id="voc_ranks"),
        pytest.param("images", ["cam1/1.jpg", "cam2/1.jpg"], ["1"], "fit two images", id="stem"),
        pytest.param("images", ["cam1/1.jpg", "cam2/1.jpg"], [1], "fit two images", id="number"),
        pytest.param("images", ["a.jpg", "a.png"], ["a"], "fit two images", id="two_endings"),
        pytest.param("images", ["a.jpg"], ["x/a.jpg", "y/a.jpg"], "both fit the image", id="paths"),
        pytest.param("images", ["a.jpg", "b.jpg"], ["a.jpg", "c.jpg"], "1 images", id="unknown"),
        pytest.param("images", ["a.jpg", "b.jpg"], ["a.jpg", "b.png"], "1 images", id="ending"),
        pytest.param("images", ["139.jpg"], [139, "139"], "image_id 139 as a number and '139' as",
                     id="two_types"),
        pytest.param("coco", ["20.jpg", "10.jpg"], [10, 20], "may be an id .of the image '10'.",
                     id="ids_or_names"),
    ],
)  # fmt: skip
def test_results_that_may_be_of_another_image_are_refused(results, kind, paths, keys, message):
    teacher = load(results([_result(key) for key in keys]))
    with pytest.raises(UserError, match=message):
        teacher.check_images([_source("set", kind, paths)])


@pytest.mark.parametrize(("join", "first"), [("id", "20.jpg"), ("name", "10.jpg")])
def test_join_decides_what_a_number_is(results, join, first):
    teacher = load(results([_result(10, score=0.9), _result(20, score=0.1)]) + f"&join={join}")
    source = _source("set", "coco", ["20.jpg", "10.jpg"])
    teacher.check_images([source])
    best = max(source.items, key=lambda item: teacher.recall(item).scores[0])
    assert best.location == f"/d/{first}"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("cat\ndog\n".encode("utf-16"), id="utf_16"),
        pytest.param(b"\xef\xbb\xbfcat\rdog", id="byte_order_mark_and_old_mac"),
        pytest.param("cat\nköter".encode("cp1252"), id="cp1252"),
    ],
)
def test_names_in_any_encoding(results, tmp_path, content):
    text = results([_result(0, 1)]).partition("?")[0]
    (tmp_path / "names.txt").write_bytes(content)
    teacher = load(f"{text}?categories={tmp_path}/names.txt")
    assert teacher.needs().class_names[0] == "cat"
    assert len(teacher.needs().class_names) == 2


def test_any_value_in_a_result_gives_a_teacher_or_one_sentence(results):
    random = np.random.default_rng(3)
    odd = [None, [], {}, "", "x", "\ud800", -1, 0.5, float("nan"), 10**400, True, [[1]], "7"]
    for _ in range(500):
        entries = [_result(1) | {"file_name": "00001.png"}, _result(2)]
        for _ in range(2):
            entry = entries[int(random.integers(2))]
            entry[str(random.choice(list(entry)))] = odd[int(random.integers(len(odd)))]
        try:
            teacher = load(results(entries))
            teacher.check_images([made_source(3)])
        except UserError as error:
            assert len(str(error)) < 3000
