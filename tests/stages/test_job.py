"""When work is done, skipped, resumed, redone or refused."""

import dataclasses

import pytest

from kd_tf import config, documents, files, flags, manifests
from kd_tf.errors import UserError
from kd_tf.stages import job
from kd_tf.stages.run import Run


class _Work:
    """Counts its calls and leaves a file."""

    def __init__(self, folder: str, content: str = "model"):
        self.folder, self.content, self.calls = folder, content, 0

    def __call__(self) -> job.Result:
        self.calls += 1
        files.write_text(files.join(self.folder, "model"), self.content)
        return job.Result(outputs=("model",), info={"ap": 0.5})


@pytest.fixture(params=["local", "ram"])
def folder(request, tmp_path):
    root = str(tmp_path) if request.param == "local" else f"ram://test_job{tmp_path}"
    return files.join(root, "teacher")


def _ensure(folder, work, *, redo=False, inputs=None, **changes):
    settings = dataclasses.replace(config.Config(), **changes)
    stage = job.Stage("teacher", folder, inputs=inputs or {"labeled": "a"})
    return job.ensure(stage, Run(settings, redo=redo), work=work)


def test_ensure_second_time_does_no_work(folder):
    work = _Work(folder)
    assert _ensure(folder, work) is True
    assert _ensure(folder, work) is False
    assert work.calls == 1
    found = manifests.read(folder)
    assert found.identity["teacher_steps"] == config.Config().teacher_steps
    assert found.identity["input: labeled"] == "a"
    assert found.outputs == {"model": files.sha256(files.join(folder, "model"))}
    assert found.info["ap"] == 0.5


def test_ensure_settings_of_other_stages_change_nothing(folder):
    work = _Work(folder)
    _ensure(folder, work)
    assert _ensure(folder, work, pretrain_steps=7, student="retinanet_tiny") is False


def test_ensure_changed_setting_is_refused_by_name_and_keeps_the_work(folder):
    work = _Work(folder)
    _ensure(folder, work)
    with pytest.raises(UserError, match="teacher_steps: was 300, is 7 now"):
        _ensure(folder, work, teacher_steps=7, redo=True)
    assert work.calls == 1 and manifests.is_complete(folder)


@pytest.mark.parametrize("frozen", [False, True])
def test_ensure_a_setting_that_an_earlier_version_lacked_was_its_default(folder, frozen):
    work = _Work(folder)
    _ensure(folder, work)
    found = manifests.read(folder)
    del found.identity["freeze_batch_norm"]
    manifests.write(folder, found)
    if frozen:
        with pytest.raises(UserError, match="freeze_batch_norm: was false, is true now"):
            _ensure(folder, work, freeze_batch_norm=True)
    else:
        assert _ensure(folder, work) is False


def test_ensure_overwrite_does_it_anew_and_keeps_the_old(folder):
    work = _Work(folder)
    _ensure(folder, work)
    assert _ensure(folder, work, teacher_steps=7, overwrite=True) is True
    parent = folder.rsplit("/", 1)[0]
    old = [name for name in files.list_folder(parent) if name.startswith("teacher.old-")]
    assert len(old) == 1
    assert manifests.read(files.join(parent, old[0])).identity["teacher_steps"] == 300
    assert manifests.read(folder).identity["teacher_steps"] == 7


def test_ensure_changed_input_is_redone_by_all_and_refused_alone(folder):
    work = _Work(folder)
    _ensure(folder, work)
    with pytest.raises(UserError, match="--stage=all does so by itself"):
        _ensure(folder, work, inputs={"labeled": "b"})
    assert _ensure(folder, work, inputs={"labeled": "b"}, redo=True) is True
    assert work.calls == 2


def test_ensure_unfinished_work_goes_on_in_the_same_folder(folder):
    def dies():
        files.write_text(files.join(folder, "half"), "x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _ensure(folder, dies)
    assert not manifests.is_complete(folder)
    _ensure(folder, _Work(folder))
    assert documents.read_text(files.join(folder, "half")) == "x"


def test_ensure_unfinished_work_of_other_settings_is_refused(folder):
    _ensure(folder, lambda: files.write_text(files.join(folder, "half"), "x"))
    with pytest.raises(UserError, match="teacher_steps"):
        _ensure(folder, _Work(folder), teacher_steps=7)


def test_ensure_stage_that_made_nothing_takes_other_settings(folder):
    _ensure(folder, lambda: None)
    assert _ensure(folder, _Work(folder), teacher_steps=7) is True


@pytest.mark.parametrize(
    ("goes_on_from", "redo"),
    [
        pytest.param(job.begins_anew, False, id="begins_anew"),
        pytest.param(
            lambda folder: files.exists(files.join(folder, "later")), True, id="too_early"
        ),
    ],
)
def test_ensure_unfinished_work_nobody_goes_on_from_is_moved_aside(folder, goes_on_from, redo):
    stage = job.Stage("teacher", folder, inputs={}, goes_on_from=goes_on_from)
    half = files.join(folder, "half")
    job.ensure(stage, Run(config.Config(), redo=redo), work=lambda: files.write_text(half, "x"))
    # Of the same settings, it stays where it is.
    job.ensure(stage, Run(config.Config(), redo=redo), work=lambda: None)
    assert files.exists(half)
    work = _Work(folder)
    other = Run(config.Config(teacher_steps=7), redo=redo)
    assert job.ensure(stage, other, work=work) is True
    assert work.calls == 1 and not files.exists(half)
    parent = folder.rsplit("/", 1)[0]
    (old,) = [name for name in files.list_folder(parent) if ".old-" in name]
    assert files.exists(files.join(parent, old, "half"))


def test_ensure_dry_run_refuses_what_a_run_would_refuse(folder):
    work = _Work(folder)
    _ensure(folder, work)
    before = sorted(files.walk(folder))
    with pytest.raises(UserError, match="teacher_steps: was 300, is 7 now"):
        _ensure(folder, work, teacher_steps=7, dry_run=True)
    assert _ensure(folder, work, teacher_steps=7, overwrite=True, dry_run=True) is False
    assert sorted(files.walk(folder)) == before and work.calls == 1


def test_ensure_overwrite_says_why_where_nothing_changed(folder, monkeypatch):
    said = []
    monkeypatch.setattr(job.logging, "info", lambda text, *values: said.append(text % values))
    _ensure(folder, _Work(folder))
    _ensure(folder, _Work(folder), overwrite=True)
    assert any("done again, because\n  --overwrite was given\n" in line for line in said)


def test_ensure_dry_run_touches_nothing(folder):
    work = _Work(folder)
    assert _ensure(folder, work, dry_run=True) is False
    assert work.calls == 0 and not files.exists(folder)


class _Follower(Run):
    chief = False


def test_ensure_worker_waits_for_the_chief_and_works_only_with_all(folder):
    stage = job.Stage("teacher", folder, inputs={"labeled": "a"})
    follower = _Follower(config.Config(), redo=False)
    calls = []

    def work():
        calls.append(1)
        # The chief finishes meanwhile.
        _ensure(folder, _Work(folder))
        return job.Result()

    assert job.ensure(stage, follower, work=work, by_all=True) is True
    assert calls == [1]
    assert manifests.read(folder).outputs
    assert job.ensure(stage, follower, work=work) is False
    assert calls == [1]


def test_ensure_leaves_a_flagfile_that_replays_the_stage(folder, tmp_path):
    _ensure(folder, _Work(folder), teacher_steps=7)
    from absl import flags as absl_flags

    path = tmp_path / "flags.txt"
    path.write_text(documents.read_text(files.join(folder, "flags.txt")))
    values = absl_flags.FlagValues()
    flags.define(values)
    values(["kd_tf", f"--flagfile={path}"])
    replayed = flags.read(values)
    assert (replayed.stage, replayed.teacher_steps) == ("teacher", 7)


def test_ensure_overwrite_does_nothing_twice_in_one_call(folder):
    work = _Work(folder)
    _ensure(folder, work)
    settings = dataclasses.replace(config.Config(), overwrite=True)
    run, stage = Run(settings, redo=False), job.Stage("teacher", folder, inputs={"labeled": "a"})
    assert job.ensure(stage, run, work=work) is True
    assert job.ensure(stage, run, work=work) is False
    assert work.calls == 2


def test_ensure_overwrite_of_the_chain_redoes_what_changed_alone(folder):
    work = _Work(folder)
    _ensure(folder, work)
    assert _ensure(folder, work, overwrite=True, redo=True) is False
    assert _ensure(folder, work, overwrite=True, redo=True, teacher_steps=7) is True


def test_ensure_old_work_of_one_second_has_different_names(folder, monkeypatch):
    monkeypatch.setattr(job.time, "strftime", lambda _: "now")
    for _ in range(3):
        _ensure(folder, _Work(folder), overwrite=True)
    parent = folder.rsplit("/", 1)[0]
    old = {name for name in files.list_folder(parent) if ".old-" in name}
    assert old == {"teacher.old-now", "teacher.old-now-2"}


def test_ensure_an_edited_file_is_another_input(folder, tmp_path):
    path = str(tmp_path / "start.npz")
    files.write_text(path, "weights")
    _ensure(folder, _Work(folder), backbone_weights=path)
    assert _ensure(folder, _Work(folder), backbone_weights=path) is False
    files.write_text(path, "other weights")
    with pytest.raises(UserError, match="file of --backbone_weights: was"):
        _ensure(folder, _Work(folder), backbone_weights=path)
    assert _ensure(folder, _Work(folder), backbone_weights=path, redo=True) is True


def test_ensure_of_several_workers_the_first_does_what_is_not_shared(folder, monkeypatch):
    work = _Work(folder)

    def first_worker(_):
        monkeypatch.undo()
        _ensure(folder, work, num_workers=2)

    monkeypatch.setattr(job.time, "sleep", first_worker)
    assert _ensure(folder, work, num_workers=2, worker_index=1) is False
    assert work.calls == 1
