"""files.py: the same answers on a local path and in memory."""

import errno
import os
import socket

import pytest
import tensorflow as tf

from kd_tf import documents, files


@pytest.fixture(params=["local", "ram", "object_store"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "local":
        return str(tmp_path)
    if request.param == "object_store":
        monkeypatch.setattr(files, "_OBJECT_STORES", ("ram://",))
        monkeypatch.setattr(tf.io.gfile, "copy", _replacing(tf.io.gfile.copy))
    return f"ram://test_files_{request.param}{tmp_path}"


def _replacing(copy):
    """ram:// appends to a file that is there; a store replaces it."""

    def replace(old, new, overwrite=False):
        if overwrite and tf.io.gfile.exists(new):
            tf.io.gfile.remove(new)
        copy(old, new)

    return replace


def test_written_file_is_read_back(folder):
    path = files.join(folder, "a", "ü b%.json")
    files.write_json(path, {"x": [1, 2.5, "ü"]})
    assert documents.read_json(path) == {"x": [1, 2.5, "ü"]}
    assert files.list_folder(files.join(folder, "a")) == ["ü b%.json"]
    assert files.size_bytes(path) == len(files.read_bytes(path))


def test_failed_writing_leaves_the_old_file_and_no_other(folder):
    path = files.join(folder, "model")
    files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError), files.writing(path) as file:
        file.write(b"half a new one")
        raise RuntimeError
    assert files.read_bytes(path) == b"old"
    assert files.list_folder(folder) == ["model"]


def test_rename_moves_a_folder_with_all_in_it(folder):
    files.write_text(files.join(folder, "old", "b", "x.txt"), "x")
    files.write_text(files.join(folder, "old", "y.txt"), "y")
    files.rename(files.join(folder, "old"), files.join(folder, "new"))
    assert not files.exists(files.join(folder, "old"))
    assert documents.read_text(files.join(folder, "new", "b", "x.txt")) == "x"
    assert documents.read_text(files.join(folder, "new", "y.txt")) == "y"


def test_remove_takes_files_and_folders(folder):
    files.write_text(files.join(folder, "a", "x"), "x")
    files.write_text(files.join(folder, "b"), "b")
    files.remove(files.join(folder, "a"))
    files.remove(files.join(folder, "b"))
    assert files.list_folder(folder) == []


def test_local_copy_is_whole(folder):
    files.write_text(files.join(folder, "model", "deep", "w"), "weights")
    with files.local_to_read(files.join(folder, "model")) as path:
        assert "://" not in path
        assert documents.read_text(files.join(path, "deep", "w")) == "weights"


def test_sha256_is_that_of_the_content(folder):
    path = files.join(folder, "x")
    files.write_bytes(path, b"abc")
    # FIPS 180-2, appendix B.1.
    assert files.sha256(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_read_json_broken_names_the_file(folder):
    path = files.join(folder, "x.json")
    files.write_text(path, "{")
    with pytest.raises(ValueError, match=r"x\.json' is not JSON"):
        documents.read_json(path)


def test_failed_writing_makes_no_file(folder):
    path = files.join(folder, "shard")
    with pytest.raises(KeyboardInterrupt), files.writing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert not files.exists(path)


@pytest.mark.parametrize("replace", [True, False])
def test_writing_beside_another_writer(folder, replace):
    path = files.join(folder, "shared")
    with files.writing(path, replace=replace) as slow:
        slow.write(b"slow")
        files.write_bytes(path, b"fast")
    assert files.read_bytes(path) == (b"slow" if replace else b"fast")
    assert files.list_folder(folder) == ["shared"]


def test_a_lock_goes_to_one_or_to_all_that_share_it(tmp_path):
    path = str(tmp_path / "new" / "lock")
    with (
        files.locked(path) as free,
        files.locked(path) as one,
        files.locked(path, shared=True) as other,
    ):
        assert free is None
        assert one == other == f"process {os.getpid()} on {socket.gethostname()}"
    with files.locked(path, shared=True) as first, files.locked(path, shared=True) as second:
        assert (first, second) == (None, None)
        with files.locked(path) as third:
            assert third == "another process"
    with files.locked(path) as free:
        assert free is None


def test_what_cannot_be_locked_goes_unlocked(monkeypatch, tmp_path):
    with files.locked("ram://no/lock") as one, files.locked("ram://no/lock") as other:
        assert one is other is None

    def refuses(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    with files.locked(str(tmp_path / "lock")) as holder:
        assert holder is None
