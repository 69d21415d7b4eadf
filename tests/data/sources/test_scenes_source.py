"""The scenes as a source: which images a spec means, and what it says about each."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kd_tf.data import scenes
from kd_tf.errors import UserError
from kd_tf.specs import DATA_KINDS, parse


def open_source(text: str):
    """The source of a spec."""
    return scenes.open_scenes(parse(text, DATA_KINDS))


def test_open_scenes_items_domains_take_turns():
    source = open_source("scenes:eval?num=5&domain=clear,fog&size=96&seed=2&name=x")
    assert source.name == "x"
    assert source.class_names == scenes.CLASS_NAMES
    assert [source.key(item) for item in source.items] == [
        "x/clear/000000",
        "x/fog/000001",
        "x/clear/000002",
        "x/fog/000003",
        "x/clear/000004",
    ]
    assert [item.image_id for item in source.items] == [0, 1, 2, 3, 4]
    item = source.items[3]
    image, labels = scenes.render_scene(seed=2, index=3, domain="fog", size=96, split="eval")
    encoded = source.read_bytes(item)
    np.testing.assert_array_equal(tf.io.decode_png(encoded).numpy(), image)
    np.testing.assert_array_equal(source.read_labels(item)[0].boxes, labels.boxes)
    assert (item.height, item.width) == (96, 96)


def test_open_scenes_png_is_read_by_pillow():
    source = open_source("scenes:train?num=1&size=301")
    image, _ = scenes.render_scene(seed=0, index=0, size=301)
    with Image.open(io.BytesIO(source.read_bytes(source.items[0]))) as opened:
        np.testing.assert_array_equal(np.asarray(opened), image)


def test_open_scenes_some_classes_others_stay_unmarked():
    everything = open_source("scenes:train?num=20")
    some = open_source("scenes:train?num=20&classes=ring,disc")
    assert some.class_names == ("ring", "disc")
    seen = 0
    for item in everything.items:
        assert some.read_bytes(item) == everything.read_bytes(item)
        complete, part = everything.read_labels(item)[0], some.read_labels(item)[0]
        wanted = [
            (box.tolist(), scenes.CLASS_NAMES[index])
            for box, index in zip(complete.boxes, complete.classes, strict=True)
            if scenes.CLASS_NAMES[index] in ("ring", "disc")
        ]
        got = [
            (box.tolist(), some.class_names[index])
            for box, index in zip(part.boxes, part.classes, strict=True)
        ]
        assert got == wanted
        seen += len(got)
    assert seen > 5


@pytest.mark.parametrize(
    ("text", "num", "name", "labeled"),
    [
        pytest.param("scenes:", 2000, "train", True, id="nothing_is_train"),
        pytest.param("scenes:val", 200, "val", True, id="val"),
        pytest.param("scenes:test", 500, "test", True, id="test_is_eval"),
        pytest.param("scenes:unlabeled", 4000, "unlabeled", False, id="unlabeled"),
    ],
)
def test_open_scenes_defaults(text, num, name, labeled):
    source = open_source(text)
    assert (len(source.items), source.name) == (num, name)
    assert (source.read_labels is not None) == labeled
    assert bool(source.class_names) == labeled


def test_open_scenes_fingerprint_changes_with_each_option():
    texts = [
        "scenes:train?num=10",
        "scenes:val?num=10",
        "scenes:train?num=11",
        "scenes:train?num=10&seed=1",
        "scenes:train?num=10&domain=fog",
        "scenes:train?num=10&size=161",
        "scenes:train?num=10&classes=disc",
    ]
    assert len({open_source(text).fingerprint for text in texts}) == len(texts)
    same = open_source("scenes:train?num=10&seed=0&domain=clear&name=other")
    assert same.fingerprint == open_source(texts[0]).fingerprint
    assert open_source("scenes:test").fingerprint == open_source("scenes:eval").fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("scenes:trian", "unknown split 'trian'. Known: train, val", id="split"),
        pytest.param(
            "scenes:train?domain=rain", "unknown domain 'rain'. Known: clear", id="domain"
        ),
        pytest.param(
            "scenes:train?classes=disc,cat", "unknown classes 'cat'. Known: disc", id="class"
        ),
        pytest.param("scenes:train?classes=disc,disc", "names one twice", id="class_twice"),
        pytest.param("scenes:train?num=0", "num must be .* at least 1, got '0'", id="num_zero"),
        pytest.param("scenes:train?num=ten", "num must be a whole number", id="num_word"),
        pytest.param("scenes:train?seed=-1", "seed must be .* at least 0", id="seed_negative"),
        pytest.param("scenes:train?size=63", "size must be .* at least 64", id="size"),
        pytest.param("scenes:unlabeled?classes=disc", "has no labels", id="unlabeled_classes"),
    ],
)
def test_open_scenes_wrong_option_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        open_source(text)
