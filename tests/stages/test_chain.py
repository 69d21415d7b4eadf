"""The whole chain, small, on TensorFlow's in-memory file system: what every stage leaves behind."""

import dataclasses
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kd_tf import config, documents, files, manifests, stages
from kd_tf.data import records
from kd_tf.data.shards import RecordSet
from kd_tf.detectors.saving import load_network, read_spec
from kd_tf.errors import UserError
from kd_tf.evaluation.coco import NAMES

pytestmark = pytest.mark.slow

WORKDIR = "ram://test_chain/run"
STAGES = ("labeled", "teacher", "pseudo", "pretrain", "finetune", "baseline", "evaluate", "export")
SETTINGS = config.Config(
    workdir=WORKDIR,
    labeled=("scenes:train?num=40&size=64",),
    unlabeled=("scenes:unlabeled?num=24&size=64",),
    eval_data="scenes:eval?num=12&size=64",
    image_size="64x64",
    teacher_model="yolov8_tiny",
    student="yolov8_tiny",
    label_fraction=0.25,
    teacher_steps=3,
    pretrain_steps=2,
    finetune_steps=2,
    batch_size=4,
    steps_per_call=1,
    score_threshold="0.02",
    ignore_threshold=0.01,
    num_shards=3,
    export_formats="saved_model,tflite_float32",
)


def _hashes() -> dict[str, str]:
    return {name: manifests.identity_hash(files.join(WORKDIR, name)) for name in STAGES}


@pytest.fixture(scope="module")
def finished():
    """The workdir after one run; in memory, so gone with the process."""
    stages.run(SETTINGS)
    return WORKDIR


def test_every_stage_is_complete_and_can_be_replayed(finished):
    for name in STAGES:
        manifest = manifests.read(files.join(finished, name))
        assert manifest.stage == name
        assert "--workdir=ram://test_chain/run" in documents.read_text(
            files.join(finished, name, "flags.txt")
        )


def test_every_network_brings_a_working_threshold_per_class(finished):
    for name in ("teacher", "pretrain", "finetune", "baseline"):
        meta = read_spec(files.join(finished, name, "model.keras"))["meta"]
        assert len(meta["score_thresholds"]) == 8
        assert all(0.0 <= value <= 1.0 for value in meta["score_thresholds"])


def test_label_fraction_cuts_finetune_and_baseline_alone(finished):
    seen = {
        name: manifests.read(files.join(finished, name)).info["num_images"]
        for name in ("teacher", "pretrain", "finetune", "baseline")
    }
    # 40 images, 4 of them for validation; a quarter of 36.
    assert seen == {"teacher": 36, "pretrain": 24, "finetune": 9, "baseline": 9}


def test_pseudo_records_hold_all_images_and_the_working_labels(finished):
    found = RecordSet.open(files.join(finished, "pseudo"))
    counts = manifests.read(files.join(finished, "pseudo")).counts
    assert (counts.seen, counts.written, len(found)) == (24, 24, 24)
    thresholds = documents.read_json(files.join(finished, "pseudo", "thresholds.json"))
    for serialized in found:
        record = records.from_example(serialized, class_names=found.class_names)
        limits = np.array([thresholds[name]["score"] for name in found.class_names])
        expected = record.objects.scores >= limits[record.objects.classes] - 1e-6
        assert (record.objects.working == expected).all()
        assert np.asarray(Image.open(io.BytesIO(record.encoded))).shape == (64, 64, 3)


def test_finetune_starts_from_the_pretrained_student(finished):
    # Without BatchNorm's statistics, which follow the images and not the start.
    first, then, apart = (
        [w.numpy() for w in load_network(path).model.trainable_weights]
        for path in (
            files.join(finished, n, "model.keras") for n in ("pretrain", "finetune", "baseline")
        )
    )
    # Two steps away from the pre-trained student, six from the baseline.
    near = np.mean([np.abs(a - b).mean() for a, b in zip(first, then, strict=True)])
    far = np.mean([np.abs(a - b).mean() for a, b in zip(apart, then, strict=True)])
    assert 0 < near < far


def test_metrics_have_all_numbers_of_every_model(finished):
    models = documents.read_json(files.join(finished, "evaluate", "metrics.json"))["models"]
    assert set(models) == {"teacher", "baseline", "pretrain", "finetune", "export"}
    for found in models.values():
        assert set(NAMES) <= set(found)
        assert found["num_images"] == 12
        assert found["num_parameters"] > 100_000
        assert all(found[key] is None or 0.0 <= found[key] <= 1.0 for key in NAMES)


def test_export_equals_the_network_it_was_made_of(finished):
    found = documents.read_json(files.join(finished, "export", "formats.json"))
    assert abs(found["saved_model"]["AP"] - found["keras"]["AP"]) <= 0.002
    assert files.exists(files.join(finished, "export", "saved_model", "saved_model.pb"))


def test_exported_files_are_scored_by_their_specs(finished, tmp_path):
    exported = files.join(finished, "export")
    settings = dataclasses.replace(
        SETTINGS,
        stage="evaluate",
        workdir=str(tmp_path),
        teacher=(
            f"tflite:{exported}/detector_float32.tflite?name=lite",
            f"saved_model:{exported}/saved_model?name=saved",
        ),
    )
    stages.run(settings)
    found = documents.read_json(str(tmp_path / "evaluate" / "metrics.json"))["models"]
    expected = documents.read_json(files.join(exported, "formats.json"))
    assert found["lite"]["AP"] == pytest.approx(expected["tflite_float32"]["AP"], abs=1e-4)
    assert found["saved"]["AP"] == pytest.approx(expected["saved_model"]["AP"], abs=1e-4)


def test_report_is_one_page(finished):
    page = documents.read_text(files.join(finished, "report", "report.html"))
    assert "finetune" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_second_run_does_no_work(finished):
    before, times = _hashes(), _written_at(finished)
    stages.run(SETTINGS)
    assert (_hashes(), _written_at(finished)) == (before, times)


def test_verify_finds_no_problem_then_finds_a_flipped_byte(finished):
    settings = dataclasses.replace(SETTINGS, verify=True)
    stages.run(settings)
    path = files.join(finished, "pseudo", "pseudo-00001-of-00003.tfrecord")
    content = files.read_bytes(path)
    broken = bytearray(content)
    broken[len(broken) // 2] ^= 1
    files.write_bytes(path, bytes(broken))
    try:
        with pytest.raises(UserError, match="damaged record"):
            stages.run(settings)
    finally:
        files.write_bytes(path, content)


def test_changed_setting_is_refused_by_name(finished):
    with pytest.raises(UserError, match="pretrain_steps: was 2, is 3 now"):
        stages.run(dataclasses.replace(SETTINGS, pretrain_steps=3))


def test_deleted_stage_is_redone_with_what_depends_on_it_alone(finished):
    times = _written_at(finished)
    files.remove(files.join(finished, "finetune"))
    stages.run(SETTINGS)
    again = _written_at(finished)
    assert again["finetune"] != times["finetune"]
    for name in ("labeled", "teacher", "pseudo", "pretrain", "baseline"):
        assert again[name] == times[name], name


def test_evaluation_images_that_were_learned_from_are_refused(finished):
    settings = dataclasses.replace(
        SETTINGS, stage="evaluate", eval_data="scenes:train?num=10&size=64", overwrite=True
    )
    # Of the ten, those kept for validation were not learned from.
    with pytest.raises(UserError, match=r"of the 10 images of --eval_data.*are also in"):
        stages.run(settings)


def _written_at(workdir: str) -> dict[str, object]:
    folders = {name: files.join(workdir, name) for name in STAGES}
    return {name: manifests.read(path).info["finished"] for name, path in folders.items()}


def test_pseudo_with_nothing_else_trains_a_teacher_first(tmp_path):
    """The very command of the README, cut short by nothing but the steps."""
    found = subprocess.run(
        [sys.executable, "-m", "kd_tf.main", "--stage=pseudo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(config.__file__).rsplit("/", 2)[0]},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "stage teacher trains one first" in found.stderr
    records_found = RecordSet.open(str(tmp_path / "runs" / "default" / "pseudo"))
    assert len(records_found) > 100


def test_without_labels_and_evaluation_data_a_student_still_leaves(tmp_path):
    settings = dataclasses.replace(
        SETTINGS, workdir=str(tmp_path / "run"), labeled=(), eval_data="", label_fraction=1.0,
        teacher=("python:tests.stages.oracle:build?name=all",),
        score_threshold="0.5", ignore_threshold=0.25, export_formats="saved_model",
    )  # fmt: skip
    stages.run(settings)
    assert manifests.is_complete(files.join(settings.workdir, "export"))
    assert files.exists(files.join(settings.workdir, "export", "saved_model", "saved_model.pb"))
    assert files.exists(files.join(settings.workdir, "report", "report.html"))
    assert not files.exists(files.join(settings.workdir, "evaluate"))
