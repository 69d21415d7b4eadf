"""Two processes in one folder: they share the work that can be shared, and no other."""

import dataclasses

import pytest

from kd_tf import config, documents, files, manifests
from kd_tf.errors import UserError
from kd_tf.stages import in_use, job
from kd_tf.stages.run import Run

IN_USE = r"(process \d+ on .+|another process) is at work in .*/teacher\. Wait until it has"


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "teacher")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(in_use, "_PATIENCE_S", 0.3)


def _ensure(
    folder, work, *, shared=False, goes_on_from=job.made_anything, num_workers=2, **changes
):
    settings = dataclasses.replace(config.Config(), num_workers=num_workers, **changes)
    stage = job.Stage("teacher", folder, inputs={}, goes_on_from=goes_on_from)
    return job.ensure(stage, Run(settings, redo=True), work=work, shared=shared)


@pytest.mark.parametrize("shared", [False, True])
def test_a_second_process_is_refused_while_work_that_is_not_shared_goes_on(
    folder, impatient, shared
):
    def work():
        with pytest.raises(UserError, match=IN_USE):
            _ensure(folder, _never, shared=shared)
        return job.Result()

    assert _ensure(folder, work)
    assert manifests.is_complete(folder)


def test_processes_that_share_the_work_do_it_together(folder):
    seen = []

    def second():
        seen.append("second")
        return job.Result()

    def first():
        with pytest.raises(UserError, match=IN_USE):
            _ensure(folder, _never)
        _ensure(folder, second, shared=True)

    _ensure(folder, first, shared=True)
    assert seen == ["second"] and manifests.is_complete(folder)


def test_a_process_of_other_settings_does_not_join(folder, impatient):
    def first():
        with pytest.raises(UserError, match=r"with other settings or inputs:\n  teacher_steps"):
            _ensure(folder, _never, shared=True, teacher_steps=7)

    _ensure(folder, first, shared=True)
    # The first made nothing and is gone.
    assert _ensure(folder, job.Result, shared=True, teacher_steps=7)


def test_a_beginning_of_other_settings_where_nobody_is_any_more_binds_nobody(folder):
    _ensure(folder, lambda: None, shared=True)
    seen = []

    def second():
        seen.append("second")
        return job.Result()

    def first():
        _ensure(folder, second, shared=True, teacher_steps=7)

    _ensure(folder, first, shared=True, teacher_steps=7)
    assert seen == ["second"] and manifests.is_complete(folder)


def _share(folder, changes):
    """Shares a folder where `changes` are found one after the other; gives what begun."""
    told, found = [], iter(changes)
    with in_use.share(folder, begin=lambda: told.append("begun"), changes=lambda: next(found)):
        pass
    return told


def test_who_finds_an_old_beginning_waits_until_another_has_noted_its_own(folder):
    lock = files.join(folder, in_use.LOCK)
    with files.locked(lock, shared=True):
        assert _share(folder, [["old"], ["old"], [], []]) == []
    assert _share(folder, [["old"], []]) == ["begun"]
    assert _share(folder, [None, []]) == ["begun"]
    assert _share(folder, [[], []]) == []


def test_who_has_begun_looks_again_before_it_works(folder, impatient):
    # Between its note and its work another process noted other work, and was gone.
    assert _share(folder, [None, ["other"], ["other"], []]) == ["begun", "begun"]


def test_work_that_others_have_made_meanwhile_is_left_to_them(folder, impatient):
    files.write_text(files.join(folder, "half"), "")
    # So long as somebody holds the folder, what is in it is not refused before.
    settings = dataclasses.replace(config.Config(), num_workers=2)
    stage = job.Stage("teacher", folder, inputs={})
    files.write_json(files.join(folder, "started.json"), {"teacher_steps": 7})
    other = pytest.raises(UserError, match="with other settings or inputs:\n  teacher_steps")
    with other, job._held(stage, settings, shared=True):
        _never()
    assert documents.read_json(files.join(folder, "started.json")) == {"teacher_steps": 7}


def test_where_nothing_can_be_locked_the_last_note_stands(impatient):
    folder = "ram://in_use/teacher"

    def first():
        _ensure(folder, job.Result, shared=True, teacher_steps=7)
        return job.Result()

    assert _ensure(folder, first, shared=True)


def test_processes_that_were_not_told_of_each_other_do_not_share(folder):
    def work():
        with pytest.raises(UserError, match=r"process \d+ on"):
            _ensure(folder, _never, shared=True, num_workers=1)
        return job.Result()

    assert _ensure(folder, work, shared=True, num_workers=1)


def test_unfinished_work_is_not_moved_aside_from_under_a_process(folder):
    def work():
        files.write_text(files.join(folder, "half"), "")
        with pytest.raises(UserError, match=IN_USE):
            _ensure(folder, _never, goes_on_from=job.begins_anew, teacher_steps=7)
        assert files.exists(files.join(folder, "half"))
        return job.Result()

    assert _ensure(folder, work)


def test_a_lock_ends_with_the_work_also_where_it_fails(folder):
    def fails():
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        _ensure(folder, fails)
    assert _ensure(folder, job.Result)


def _never():
    raise AssertionError("worked beside another process")
