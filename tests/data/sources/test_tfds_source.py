"""TensorFlow Datasets: prepared by the test in a folder of its own, read without a network."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import open_spec

CLASSES = ["cat", "dog"]
MACHINE_IDS = ["/m/01", "/m/02", "/m/03"]
# yxyx fractions; the images are 40 wide and 24 high.
BOX = tfds.features.BBox(ymin=0.25, xmin=0.1, ymax=0.5, xmax=0.6)
FEATURES = tfds.features


def _prepare(folder, name: str, features, examples: list[dict]) -> str:
    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=FEATURES.FeaturesDict(features))

    def generate(self):
        yield from enumerate(examples)

    def splits(self, _):
        return {"train": generate(self)}

    members = {"VERSION": tfds.core.Version("1.0.0"), "_info": info}
    members |= {"_split_generators": splits, "_generate_examples": generate}
    members["__module__"] = "__main__"  # in a package, TFDS would look for files beside it
    builder = type(name, (tfds.core.GeneratorBasedBuilder,), members)(data_dir=str(folder))
    builder.download_and_prepare()
    return str(builder.data_dir)


@pytest.fixture(scope="module")
def coco_like(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tfds")
    features = {
        "image": FEATURES.Image(encoding_format="png"),
        "image/id": np.int64,
        "objects": FEATURES.Sequence(
            {"bbox": FEATURES.BBoxFeature(), "label": FEATURES.ClassLabel(names=CLASSES),
             "is_crowd": np.bool_, "area": np.int64}
        ),
    }  # fmt: skip
    objects = [
        {"bbox": BOX, "label": "dog", "is_crowd": False, "area": 50},
        {
            "bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
            "label": "cat",
            "is_crowd": True,
            "area": 9,
        },
    ]
    examples = [
        {"image": made.colours() + number, "image/id": 139 - number, "objects": objects[:number]}
        for number in range(3)
    ]
    return _prepare(folder, "LikeCoco", features, examples)


def test_open_tfds_gives_ids_boxes_crowds_and_the_encoded_bytes(coco_like):
    source = open_spec(f"tfds:{coco_like}?name=set")
    assert source.class_names == ("cat", "dog")
    by_id = {item.image_id: item for item in source.items}
    assert sorted(by_id) == [137, 138, 139]
    assert by_id[137].original_id == "137"
    labels, rejects = source.read_labels(by_id[137])
    np.testing.assert_allclose(labels.boxes, [[4, 6, 24, 12], [0, 0, 40, 24]], atol=1e-5)
    assert labels.classes.tolist() == [1, 0]
    assert labels.is_crowd.tolist() == [False, True]
    assert labels.areas.tolist() == [50, 9]
    assert (labels.judged, rejects) == (None, [])
    assert len(source.read_labels(by_id[139])[0].boxes) == 0
    for image_id, item in by_id.items():
        image = tfds.features.Image().decode_example(source.read_bytes(item)).numpy()
        np.testing.assert_array_equal(image, made.colours() + 139 - image_id)


def test_open_tfds_by_name_and_by_part_of_a_split(coco_like):
    data_dir = coco_like.removesuffix("/like_coco/1.0.0")
    whole = open_spec(f"tfds:like_coco?data_dir={data_dir}")
    parts = [
        open_spec(f"tfds:like_coco:1.0.0?data_dir={data_dir}&split={part}")
        for part in ("train[:1]", "train[1:]")
    ]
    assert [len(part.items) for part in parts] == [1, 2]
    assert [*parts[0].items, *parts[1].items] == list(whole.items)
    assert len({whole.fingerprint, parts[0].fingerprint, parts[1].fingerprint}) == 3


def test_tfds_not_prepared(tmp_path):
    with pytest.raises(UserError, match=r"not prepared in .* Nothing is downloaded here"):
        open_spec(f"tfds:coco/2017?data_dir={tmp_path}")


def test_tfds_unknown_name(tmp_path):
    with pytest.raises(UserError, match="cannot open it"):
        open_spec(f"tfds:no_such_set?data_dir={tmp_path}")


def test_tfds_unknown_split(coco_like):
    with pytest.raises(UserError, match=r"no split val. There are: train"):
        open_spec(f"tfds:{coco_like}?split=val")


@pytest.fixture(scope="module")
def open_images_like(tmp_path_factory) -> str:
    sources = FEATURES.ClassLabel(names=["verification", "crowdsource-verification", "machine"])
    features = {
        "image": FEATURES.Image(encoding_format="jpeg"),
        "image/filename": FEATURES.Text(),
        "objects": FEATURES.Sequence(
            {"label": FEATURES.ClassLabel(names=["/m/99", *MACHINE_IDS]), "confidence": np.int32,
             "source": sources}
        ),
        "bobjects": FEATURES.Sequence(
            {"bbox": FEATURES.BBoxFeature(), "label": FEATURES.ClassLabel(names=MACHINE_IDS),
             "is_group_of": np.int8}
        ),
    }  # fmt: skip

    def said(label: str, confidence: int, source: str = "verification") -> dict:
        return {"label": label, "confidence": confidence, "source": source}

    boxes = [{"bbox": BOX, "label": "/m/02", "is_group_of": flag} for flag in (1, 0, -1)]
    examples = [
        {"image": made.colours(), "image/filename": "a.jpg", "bobjects": boxes,
         "objects": [said("/m/02", 10), said("/m/01", 0), said("/m/99", 0)]},
        {"image": made.colours(), "image/filename": "b.jpg", "bobjects": [],
         "objects": [said("/m/03", 10), said("/m/01", 0, "machine"), said("/m/02", 0)]},
    ]  # fmt: skip
    return _prepare(tmp_path_factory.mktemp("tfds"), "LikeOpenImages", features, examples)


def test_open_tfds_of_open_images_reads_groups_and_verified_labels(open_images_like):
    source = open_spec(f"tfds:{open_images_like}")
    assert source.class_names == tuple(MACHINE_IDS)
    by_name = {item.original_id: source.read_labels(item)[0] for item in source.items}
    assert by_name["a.jpg"].is_crowd.tolist() == [True, False, False]
    assert by_name["a.jpg"].classes.tolist() == [1, 1, 1]
    # Boxed: 02. Verified absent: 01 (99 has no boxes in this set).
    assert by_name["a.jpg"].judged.tolist() == [0, 1]
    # Present without a box (03) and absent for a machine only (01) say nothing.
    assert by_name["b.jpg"].judged.tolist() == [1]


def test_open_tfds_names_replace_machine_ids(open_images_like, tmp_path):
    (tmp_path / "names.csv").write_text('/m/01,Cat\n/m/02,"Dog, big"\n')
    source = open_spec(f"tfds:{open_images_like}?names={tmp_path}/names.csv")
    assert source.class_names == ("Cat", "Dog, big", "/m/03")


def test_open_tfds_of_voc_ignores_difficult_objects(tmp_path):
    features = {
        "image": FEATURES.Image(encoding_format="jpeg"),
        "image/filename": FEATURES.Text(),
        "objects": FEATURES.Sequence(
            {"bbox": FEATURES.BBoxFeature(), "label": FEATURES.ClassLabel(names=CLASSES),
             "is_difficult": np.bool_}
        ),
    }  # fmt: skip
    objects = [{"bbox": BOX, "label": "cat", "is_difficult": flag} for flag in (True, False)]
    example = {"image": made.colours(), "image/filename": "x.jpg", "objects": objects}
    source = open_spec(f"tfds:{_prepare(tmp_path, 'LikeVoc', features, [example])}")
    labels, _ = source.read_labels(source.items[0])
    assert source.items[0].original_id == "x.jpg"
    assert labels.is_crowd.tolist() == [True, False]


def test_open_tfds_without_boxes_is_unlabelled(tmp_path):
    features = {"image": FEATURES.Image(encoding_format="png"), "label": np.int64}
    folder = _prepare(tmp_path, "NoBoxes", features, [{"image": made.colours(), "label": 1}])
    source = open_spec(f"tfds:{folder}")
    assert source.read_labels is None
    assert source.class_names == ()
    assert source.items[0].original_id == "no_boxes-train.tfrecord-00000-of-00001__0"
