import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from kd_tf import files
from kd_tf.errors import UserError
from kd_tf.training import checkpoint
from kd_tf.training.checkpoint import Evaluation, Progress
from kd_tf.training.settings import TrainSettings

SETTINGS = TrainSettings(steps=9, batch_size=1)


def _variables(value: float) -> dict[str, tf.Variable]:
    return {
        "model/0/kernel": tf.Variable(tf.fill([2, 3], value)),
        "model/1/seed": tf.Variable([int(value)] * 2, dtype=tf.uint32),
    }


def _save(folder, step, *, progress=None, **changes):
    progress = dataclasses.replace(progress or Progress(), step=step)
    settings = dataclasses.replace(SETTINGS, **changes)
    return checkpoint.save(
        folder, variables=_variables(float(step)), progress=progress, settings=settings
    )


@pytest.fixture(params=["local", "ram"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"ram://{tmp_path}"


def test_restore_gives_back_every_value(folder):
    assert checkpoint.restore(folder, variables=_variables(0.0), settings=SETTINGS) is None
    scored = (Evaluation(2, 0.25), Evaluation(4, 0.125))
    checkpoint.save_best(folder, variables=_variables(2.0), step=2)
    _save(folder, 5, progress=Progress(evaluations=scored, best=scored[0]))
    variables = _variables(0.0)
    got = checkpoint.restore(folder, variables=variables, settings=SETTINGS)
    assert got == Progress(step=5, saved=(5,), evaluations=scored, best=scored[0])
    np.testing.assert_array_equal(variables["model/0/kernel"].numpy(), np.full((2, 3), 5.0))
    np.testing.assert_array_equal(variables["model/1/seed"].numpy(), [5, 5])


def test_save_keeps_the_newest_and_the_best(folder):
    checkpoint.save_best(folder, variables=_variables(7.0), step=1)
    checkpoint.save_best(folder, variables=_variables(8.0), step=2)  # Superseded below.
    progress = Progress(best=Evaluation(1, 0.5))
    for step in (1, 2, 3):
        progress = _save(folder, step, progress=progress)
    assert progress.saved == (2, 3)
    stems = {n.split(".")[0] for n in files.list_folder(files.join(folder, "checkpoints"))}
    assert stems == {"step-000000002", "step-000000003", "best-000000001"}
    variables = _variables(0.0)
    checkpoint.restore_best(folder, variables=variables, step=1)
    assert variables["model/0/kernel"].numpy()[0, 0] == 7.0


def test_a_save_that_was_cut_off_does_not_count(tmp_path):
    folder = str(tmp_path)
    _save(folder, 3)
    checkpoint.write_variables(f"{folder}/checkpoints/step-000000004", _variables(4.0))
    assert checkpoint.restore(folder, variables=_variables(0.0), settings=SETTINGS).step == 3


def test_restore_falls_back_when_the_newest_was_deleted(tmp_path, caplog):
    folder = str(tmp_path)
    scored = (Evaluation(2, 0.25), Evaluation(3, 0.5))
    progress = _save(folder, 2, progress=Progress(evaluations=scored, best=scored[1]))
    _save(folder, 3, progress=progress)
    for file in tmp_path.glob("checkpoints/step-000000003.*"):
        file.unlink()
    got = checkpoint.restore(folder, variables=_variables(0.0), settings=SETTINGS)
    assert got == Progress(step=2, saved=(2,), evaluations=scored[:1], best=None)
    assert "of step 3 with AP 0.5000, are lost: the run goes on from step 2" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        pytest.param("best-*.data-*", b"short", id="truncated"),
        pytest.param("best-*.data-*", b"\0" * 32, id="other_bytes"),
        pytest.param("best-*.data-*", None, id="missing_data"),
        pytest.param("best-*.index", None, id="missing"),
    ],
)
def test_restore_gives_up_best_weights_that_cannot_be_read(tmp_path, caplog, pattern, content):
    folder, scored = str(tmp_path), (Evaluation(2, 0.25),)
    checkpoint.save_best(folder, variables=_variables(2.0), step=2)
    _save(folder, 3, progress=Progress(evaluations=scored, best=scored[0]))
    whole = checkpoint.restore(folder, variables=_variables(0.0), settings=SETTINGS)
    assert whole.best == scored[0] and not caplog.text
    (path,) = tmp_path.glob(f"checkpoints/{pattern}")
    path.unlink() if content is None else path.write_bytes(content)
    got = checkpoint.restore(folder, variables=_variables(0.0), settings=SETTINGS)
    assert got == Progress(step=3, saved=(3,), evaluations=scored, best=None)
    assert "of step 2 with AP 0.2500, are lost: " in caplog.text
    with pytest.raises(UserError, match=r"is damaged .*The same command chooses again"):
        checkpoint.restore_best(folder, variables=_variables(0.0), step=2)


def test_restore_refuses_a_damaged_file(tmp_path):
    _save(str(tmp_path), 3)
    (data,) = tmp_path.glob("checkpoints/*.data-*")
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(UserError, match="step-000000003 is damaged"):
        checkpoint.restore(str(tmp_path), variables=_variables(0.0), settings=SETTINGS)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param(
            {"model/0/kernel": tf.Variable(tf.zeros([2, 4]))},
            "2 variables differ.*To begin anew, rename",
            id="shape",
        ),
        pytest.param(
            _variables(0.0) | {"more": tf.Variable(1.0)},
            "1 variables differ.*more .*absent there",
            id="more",
        ),
    ],
)
def test_restore_refuses_another_network(tmp_path, variables, message):
    _save(str(tmp_path), 3)
    with pytest.raises(UserError, match=message):
        checkpoint.restore(str(tmp_path), variables=variables, settings=SETTINGS)


def test_restore_names_settings_that_differ(tmp_path):
    _save(str(tmp_path), 3)
    changed = dataclasses.replace(SETTINGS, learning_rate=0.5, steps_per_call=7)
    with pytest.raises(UserError, match=r"learning_rate was 0.001, is 0.5\. Give") as caught:
        checkpoint.restore(str(tmp_path), variables=_variables(0.0), settings=changed)
    assert "steps_per_call" not in str(caught.value)


def test_restore_takes_what_an_older_version_did_not_name_for_the_default(tmp_path):
    _save(str(tmp_path), 3)
    path = tmp_path / "checkpoint.json"
    pointer = json.loads(path.read_text())
    del pointer["settings"]["judge_start"]
    path.write_text(json.dumps(pointer))
    checkpoint.restore(str(tmp_path), variables=_variables(0.0), settings=SETTINGS)
    changed = dataclasses.replace(SETTINGS, judge_start=True)
    with pytest.raises(UserError, match="judge_start was False, is True"):
        checkpoint.restore(str(tmp_path), variables=_variables(0.0), settings=changed)


def test_restore_ignores_what_an_older_version_named_and_this_one_does_not_know(tmp_path):
    _save(str(tmp_path), 3)
    path = tmp_path / "checkpoint.json"
    pointer = json.loads(path.read_text())
    pointer["settings"]["final_learning_rate"] = 0.01
    path.write_text(json.dumps(pointer))
    assert checkpoint.restore(str(tmp_path), variables=_variables(0.0), settings=SETTINGS).step == 3


def test_read_progress_equals_what_was_saved(folder):
    scored = (Evaluation(2, 0.25),)
    saved = _save(folder, 5, progress=Progress(evaluations=scored, best=scored[0]))
    assert checkpoint.read_progress(folder) == saved
