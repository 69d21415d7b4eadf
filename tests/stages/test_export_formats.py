"""One format that loses too much leaves the others finished."""

import pytest

from kd_tf import config, documents, files, manifests, stages
from kd_tf.detectors import zoo
from kd_tf.detectors.saving import save_network
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.stages import export, score

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A finished stage pretrain; scoring gives each format the AP that `ap_of` says."""
    network = zoo.build("yolov8_tiny", class_names=("a", "b"), image_size=(64, 64))
    save_network(network, str(tmp_path / "pretrain" / "model.keras"))
    manifests.write(str(tmp_path / "pretrain"), manifests.Manifest("pretrain", {}))
    ap_of = {"keras": 0.5, "saved_model": 0.5, "tflite_float32": 0.4995, "tflite_float16": 0.3}
    measured = []

    def scored(detector, source, *, thresholds, folder):
        name = folder.rsplit("/", 1)[-1]
        measured.append(name)
        return {"AP": ap_of[name]}, manifests.Counts()

    def written(network, folder, *, formats, meta, representative):
        from kd_tf.export.formats import FORMATS, Artefact

        path = files.join(folder, FORMATS[formats[0]].file_name)
        files.write_text(path, f"a network as {formats[0]}")
        return [Artefact(formats[0], path, 7)]

    monkeypatch.setattr(score, "score", scored)
    monkeypatch.setattr(score, "refuse_leakage", lambda *_: None)
    monkeypatch.setattr(formats, "export", written)
    monkeypatch.setattr(formats, "load_detector", lambda path: None)
    monkeypatch.setattr(export, "NetworkDetector", lambda *_, **__: None)

    def with_changes(**changes):
        return config.Config(
            stage="export",
            workdir=str(tmp_path),
            unlabeled=("scenes:unlabeled",),
            eval_data="scenes:test?num=3&size=64",
            **{"export_formats": "saved_model,tflite_float16,tflite_float32", **changes},
        )

    with_changes.measured, with_changes.ap_of = measured, ap_of
    return with_changes


def test_a_failed_format_keeps_those_that_passed(settings, tmp_path):
    with pytest.raises(UserError) as caught:
        stages.run(settings())
    message = str(caught.value)
    assert (
        "tflite_float16 reaches AP 0.3000, the Keras network 0.5000: the drop of 0.2000" in message
    )
    assert "Passed and kept: saved_model,tflite_float32." in message
    assert "--export_formats=saved_model,tflite_float32" in message
    assert settings.measured == ["keras", "saved_model", "tflite_float16", "tflite_float32"]
    assert set(documents.read_json(str(tmp_path / "export" / "formats.json"))) == {
        "keras", "saved_model", "tflite_float32",
    }  # fmt: skip
    assert not manifests.is_complete(str(tmp_path / "export"))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        pytest.param(
            {"export_formats": "saved_model,tflite_float32"},
            {"saved_model", "tflite_float32"},
            id="without_it",
        ),
        pytest.param(
            {"max_export_ap_drop": 0.25},
            {"saved_model", "tflite_float32", "tflite_float16"},
            id="greater_limit",
        ),
    ],
)
def test_obeying_the_message_finishes_and_measures_nothing_twice(settings, tmp_path, changes, kept):
    with pytest.raises(UserError):
        stages.run(settings())
    settings.measured.clear()
    stages.run(settings(**changes))
    assert settings.measured == ["keras"]
    manifest = manifests.read(str(tmp_path / "export"))
    assert {name for name in manifest.info if name in formats.FORMATS} == kept
    assert [path.name for path in tmp_path.glob("export*")] == ["export"]
    stages.run(settings(**changes))
    assert settings.measured == ["keras"]


def test_the_same_command_fails_again_without_work(settings):
    for _ in range(2):
        settings.measured.clear()
        with pytest.raises(UserError, match="tflite_float16 reaches AP"):
            stages.run(settings())
    assert settings.measured == ["keras"]


def test_a_changed_file_is_exported_and_measured_again(settings, tmp_path):
    with pytest.raises(UserError):
        stages.run(settings())
    (tmp_path / "export" / "saved_model").write_text("other bytes")
    (tmp_path / "export" / "detector_float16.tflite").unlink()
    settings.ap_of["tflite_float16"] = 0.4999
    settings.measured.clear()
    stages.run(settings())
    assert settings.measured == ["keras", "saved_model", "tflite_float16"]


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"key": 1}', b'{"key": "x", "formats": [1]}', b"\xff"]
)
def test_damaged_notes_of_an_earlier_attempt_only_cost_time(settings, tmp_path, content):
    with pytest.raises(UserError):
        stages.run(settings())
    (tmp_path / "export" / "measured.json").write_bytes(content)
    settings.measured.clear()
    with pytest.raises(UserError, match="tflite_float16 reaches AP"):
        stages.run(settings())
    assert settings.measured == ["keras", "saved_model", "tflite_float16", "tflite_float32"]
