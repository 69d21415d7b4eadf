"""The meta data inside an exported file: read as written, or refused by a sentence."""

import io
import json
import zipfile

import numpy as np
import pytest

from kd_tf.errors import UserError
from kd_tf.export.exported import read_export_meta
from kd_tf.export.meta import FILE_NAME, ExportMeta, meta_from_json, meta_to_json
from kd_tf.export.tflite_runner import read_tflite_meta

META = ExportMeta(("cat", "dog"), (64, 96), (0.5, 0.25), ap=0.31, versions={"keras": "3"})


def _changed(**values: object) -> str:
    return json.dumps({**json.loads(meta_to_json(META)), **values})


def test_meta_from_json_gives_back_what_was_written():
    assert meta_from_json(meta_to_json(META), where="here") == META
    assert meta_from_json(_changed(added_later=[1]), where="here") == META


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "here is not JSON", id="cut"),
        pytest.param("[" * 100_000, "here is not JSON", id="deep"),
        pytest.param(b"\xff\xfe\x00", "here is not JSON", id="no_text"),
        pytest.param("[1]", "holds [1]; a JSON object", id="list"),
        pytest.param("{}", "'class_names' is missing", id="empty"),
        pytest.param(_changed(class_names="cat"), "'class_names' is 'cat'", id="names_text"),
        pytest.param(_changed(class_names=[1, 2]), "'class_names' is [1, 2]", id="numbers"),
        pytest.param(_changed(class_names=["a", "a"]), "each once", id="names_twice"),
        pytest.param(_changed(class_names=[]), "'class_names' is a list of 0", id="no_names"),
        pytest.param(_changed(image_size=[64]), "two whole numbers", id="one_size"),
        pytest.param(_changed(image_size=[64, 0]), "two whole numbers", id="size_0"),
        pytest.param(_changed(image_size=[64, 10**9]), "two whole numbers", id="size_huge"),
        pytest.param(_changed(image_size=[True, 64]), "two whole numbers", id="size_true"),
        pytest.param(_changed(score_thresholds=[0.5]), "1 values for 2 classes", id="too_few"),
        pytest.param(_changed(score_thresholds=[0.5, "x"]), "'score_thresholds'", id="word"),
        pytest.param(_changed(score_thresholds={"cat": 1}), "is a table", id="object"),
        pytest.param(_changed(iou_threshold=float("nan")), "'iou_threshold' is nan", id="nan"),
        pytest.param(_changed(score_floor=10**400), "whole number of 1329 bits", id="huge"),
        pytest.param(_changed(max_detections=2.5), "'max_detections' is 2.5", id="fraction"),
        pytest.param(_changed(ap="good"), "'ap' is 'good'", id="ap_word"),
        pytest.param(_changed(versions=["3"]), "'versions'", id="versions_list"),
        pytest.param(_changed(network=None), "'network' is None", id="null"),
    ],
)
def test_meta_data_damaged(text, message):
    with pytest.raises(UserError, match="here") as caught:
        meta_from_json(text, where="here")
    assert message in str(caught.value)
    assert "--stage=export" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_meta_from_json_of_mutated_text_lets_nothing_but_user_errors_out():
    rng = np.random.default_rng(3)
    sound = meta_to_json(META).encode()
    odd = [b"null", b"-1", b"1e999", b"[]", b"{}", b'"\\ud800"', b"\xff", b"\0", b"9" * 5000]
    num_refused = 0
    for _ in range(2000):
        text = bytearray(sound)
        for place in rng.integers(0, len(text), size=rng.integers(1, 4)):
            text[place : place + int(rng.integers(0, 4))] = odd[rng.integers(len(odd))]
        try:
            assert isinstance(meta_from_json(bytes(text), where="here"), ExportMeta)
        except UserError as error:
            num_refused += 1
            str(error).encode("utf-8")
    assert num_refused > 1000


def test_read_tflite_meta_of_mutated_files_lets_nothing_but_user_errors_out():
    content = io.BytesIO(b"a network" * 20)
    content.seek(0, io.SEEK_END)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(FILE_NAME, meta_to_json(META))
    sound = content.getvalue()
    assert read_tflite_meta(sound) == META
    rng = np.random.default_rng(4)
    num_refused = 0
    for _ in range(1000):
        mutated = bytearray(sound)
        for place in rng.integers(180, len(sound), size=3):
            mutated[place] = rng.integers(256)
        try:
            read_tflite_meta(bytes(mutated))
        except UserError:
            num_refused += 1
    assert num_refused > 500


def test_read_tflite_meta_that_unpacks_to_gigabytes_is_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(FILE_NAME, b" " * (17 << 20))
    with pytest.raises(UserError, match="unpacks to too many bytes"):
        read_tflite_meta(content.getvalue())


def test_read_export_meta_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "assets" / FILE_NAME).mkdir(parents=True)
    with pytest.raises(UserError, match="is a folder; a file is needed"):
        read_export_meta(str(tmp_path))
