"""Views of a source: values stay with their images."""

import numpy as np
import pytest

from kd_tf.data import views
from kd_tf.data.items import Item, Labels, Source
from kd_tf.errors import UserError


def _source(name, class_names, classes, *, judged=None, ids=(7, 9), category_ids=()):
    items = tuple(Item(image_id, f"i{image_id}", "") for image_id in ids)
    count = len(classes)

    def read_labels(item):
        boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4) + item.image_id
        flags = np.arange(count) % 2 == 1
        areas = np.arange(count, dtype=np.float32)
        return Labels(boxes, np.array(classes, np.int32), flags, areas, judged), []

    return Source(
        name=name,
        class_names=class_names,
        items=items,
        read_bytes=lambda item: f"{name}{item.original_id}".encode(),
        read_labels=read_labels,
        rejects=(),
        fingerprint=name,
        category_ids=category_ids,
    )


def test_relabel_maps_by_name_and_judges_only_what_the_source_knows():
    source = _source("a", ("dog", "cat", "bird"), [1, 0, 2, 1])
    view = views.relabel(source, ("cat", "fish", "dog"), drop=["bird"])
    labels, _ = view.read_labels(source.items[0])
    assert labels.classes.tolist() == [0, 2, 0]
    assert labels.boxes[:, 0].tolist() == [7, 11, 19]
    assert labels.is_crowd.tolist() == [False, True, True]
    assert labels.areas.tolist() == [0, 1, 3]
    assert labels.judged.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        pytest.param(None, None, id="all_stay_all"),
        pytest.param([0], [1], id="one"),
        pytest.param([], [], id="nobody_judged"),
    ],
)
def test_relabel_maps_judged_classes(judged, expected):
    given = None if judged is None else np.array(judged, np.int32)
    view = views.relabel(_source("a", ("dog", "cat"), [0], judged=given), ("cat", "dog"))
    found = view.read_labels(view.items[0])[0].judged
    assert (found if found is None else found.tolist()) == expected


def test_relabel_unknown_class_is_refused_by_name():
    with pytest.raises(UserError, match=r"does not know: bird.*--drop_classes=bird"):
        views.relabel(_source("a", ("dog", "bird"), [0]), ("dog",))


def test_relabel_keeps_category_ids_by_name():
    source = _source("a", ("dog", "cat"), [0], category_ids=(18, 17))
    assert views.relabel(source, ("cat", "dog")).category_ids == (17, 18)
    assert views.relabel(source, ("cat", "dog", "fish")).category_ids == ()


def test_subset_keeps_ids_and_changes_the_fingerprint():
    source = _source("a", ("dog",), [0], ids=(7, 9, 4))
    view = views.subset(source, [2, 0])
    assert [item.image_id for item in view.items] == [4, 7]
    assert view.fingerprint != source.fingerprint
    assert views.subset(source, [2, 0]).fingerprint == view.fingerprint


def test_combine_reads_from_the_right_source_and_avoids_equal_ids():
    one, two = _source("a", ("dog",), [0]), _source("b", ("dog",), [0, 0])
    view = views.combine([one, two])
    assert [view.read_bytes(item) for item in view.items] == [b"ai7", b"ai9", b"bi7", b"bi9"]
    assert [len(view.read_labels(item)[0].boxes) for item in view.items] == [1, 1, 2, 2]
    assert [item.image_id for item in view.items] == [1, 2, 3, 4]
    assert [view.key(item) for item in view.items] == ["a/i7", "a/i9", "b/i7", "b/i9"]


def test_combine_keeps_ids_that_differ_and_a_single_source():
    one, two = _source("a", ("dog",), [0], ids=(1, 2)), _source("b", ("dog",), [0], ids=(5, 3))
    assert [item.image_id for item in views.combine([one, two]).items] == [1, 2, 5, 3]
    assert views.combine([one]) is one


def test_union_of_classes_keeps_first_order():
    sources = [_source("a", ("dog", "cat"), [0]), _source("b", ("bird", "cat"), [0])]
    assert views.union_of_classes(sources) == ("dog", "cat", "bird")
