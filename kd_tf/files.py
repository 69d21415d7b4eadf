"""The only module that opens a path, so that gs:// and ram:// work where a local path does."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import socket
import stat
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO

import h5py
import numpy as np
import tensorflow as tf

# File systems that cannot lock say so in one of these ways.
_CANNOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
# Stores in which a rename is a copy and a delete, while a new object appears whole or not at all.
_OBJECT_STORES = ("gs://", "s3://")


def join(*parts: str) -> str:
    """One path from its parts; keeps a scheme such as gs:// as it is."""
    return os.path.join(*parts)


def open_file(path: str, mode: str = "rb") -> IO:
    """An open file; `mode` is one of r, rb, w, wb, a, ab. Local paths may hold any bytes."""
    return tf.io.gfile.GFile(path, mode)


def exists(path: str) -> bool:
    """Whether a file or a folder is there."""
    return tf.io.gfile.exists(path)


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    return tf.io.gfile.isdir(path)


def is_file(path: str) -> bool:
    """Whether `path` is a file; on ram:// the beginning of a file's name passes for a folder."""
    return exists(path) and not is_folder(path)


def is_special(path: str) -> bool:
    """Whether `path` is a pipe, a socket or a device: reading one may block for ever."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def list_folder(path: str) -> list[str]:
    """Sorted names (not paths) in a folder; on gs:// folders lose their trailing slash."""
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))
    return [name for name in names if _is_child(path, name)]


def find(pattern: str) -> list[str]:
    """Sorted paths that match a glob; a pattern without a match gives an empty list."""
    return sorted(tf.io.gfile.glob(pattern))


def size_bytes(path: str) -> int:
    """The size of a file."""
    return tf.io.gfile.stat(path).length


def make_folder(path: str) -> None:
    """Makes a folder and those above it; one that is there already is fine."""
    tf.io.gfile.makedirs(path)


def read_bytes(path: str) -> bytes:
    """The whole content of a file."""
    with open_file(path, "rb") as file:
        return file.read()


def read_text(path: str) -> str:
    """The whole content of a UTF-8 file."""
    return read_bytes(path).decode("utf-8")


def read_json(path: str) -> dict | list:
    """The parsed content of a JSON file. Raises ValueError that names the file."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz or HDF5 file by name (HDF5: the full path inside); no pickles."""
    content = io.BytesIO(read_bytes(path))
    if path.endswith(".npz"):
        with np.load(content, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    found = {}
    with h5py.File(content, "r") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


@contextlib.contextmanager
def writing(path: str, *, replace: bool = True) -> Iterator[IO]:
    """A file open for bytes that appears under `path` only when it was written whole.

    A crash leaves at most `path.part-<pid>-<random>`, never half a `path`; two workers,
    on hosts where they have one process number too, may write the same file.

    Args:
        path: Where the file is to be.
        replace: Whether a file that is there by then is replaced; else it stays.
    """
    make_folder(os.path.dirname(path))
    if path.startswith(_OBJECT_STORES):
        with _uploading(path, replace=replace) as file:
            yield file
        return
    part = f"{path}.part-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        with open_file(part, "wb") as file:
            file.write(b"")  # GFile makes the file at the first write only
            yield file
        if replace or not is_file(path):
            tf.io.gfile.rename(part, path, overwrite=True)
        else:
            tf.io.gfile.remove(part)
    except BaseException:
        if exists(part):
            tf.io.gfile.remove(part)
        raise


@contextlib.contextmanager
def _uploading(path: str, *, replace: bool) -> Iterator[IO]:
    """As `writing`, by way of a local file: closing one of an object store uploads even a half."""
    with tempfile.TemporaryDirectory() as folder:
        part = join(folder, "part")
        with open_file(part, "wb") as file:
            file.write(b"")
            yield file
        if replace or not is_file(path):
            tf.io.gfile.copy(part, path, overwrite=True)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with writing(path) as file:
        file.write(content)


def write_text(path: str, content: str) -> None:
    """Writes a UTF-8 file whole or not at all."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str, content: dict | list) -> None:
    """Writes readable JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def rename(old: str, new: str) -> None:
    """Moves a file or a folder; where folders cannot be renamed, file by file."""
    if "://" not in old or not is_folder(old):
        tf.io.gfile.rename(old, new)
        return
    for path in list(walk(old)):
        copy(path, join(new, os.path.relpath(path, old)))
    remove(old)


def copy(old: str, new: str) -> None:
    """Copies one file over another or to a new place."""
    make_folder(os.path.dirname(new))
    with open_file(old, "rb") as source, writing(new) as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it."""
    if not is_folder(path):
        tf.io.gfile.remove(path)
    elif "://" not in path:
        tf.io.gfile.rmtree(path)
    else:
        # rmtree on ram:// takes `name.old` for a child of `name`, and fails.
        folders = [parent for parent, _, _ in tf.io.gfile.walk(path)]
        for file in list(walk(path)):
            tf.io.gfile.remove(file)
        for folder in sorted(folders, reverse=True):
            with contextlib.suppress(tf.errors.NotFoundError):
                tf.io.gfile.rmtree(folder)


def remove_if_there(path: str) -> None:
    """Removes a file, unless another process was faster."""
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(path)


def sha256(path: str) -> str:
    """Hex digest of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with open_file(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def walk(folder: str) -> Iterator[str]:
    """Every file below a folder, as paths, sorted within each folder."""
    for parent, _, names in sorted(tf.io.gfile.walk(folder)):
        for name in sorted(names):
            if _is_child(parent, name):
                yield join(parent, name)


def _is_child(parent: str, name: str) -> bool:
    """Whether a listed name is really there: ram:// lists `name.old` as `.old` in `name`."""
    return not parent.startswith("ram://") or exists(join(parent, name))


@contextlib.contextmanager
def locked(path: str, *, shared: bool = False) -> Iterator[str | None]:
    """Holds a lock on a file for the length of the block; it ends with the process at the latest.

    Where nothing can be locked, on gs:// for one, the block runs without.

    Args:
        path: Is made where it is not there.
        shared: Whether others may hold it in the same way.

    Yields:
        None; or, if another process holds it in a way that does not go with this one, which one:
        "process PID on HOST", or "another process" where several may share it.
    """
    if "://" in path:
        yield None
        return
    make_folder(os.path.dirname(path))
    with open(path, "a+", encoding="utf-8") as file:
        if not _lock(file, shared=shared):
            file.seek(0)
            yield file.read().strip() or "another process"
            return
        file.truncate(0)
        if not shared:
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield None


def _lock(file: IO, *, shared: bool) -> bool:
    """Whether nobody else holds the file; True as well where the file system cannot lock."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
    return True


@contextlib.contextmanager
def local_to_read(path: str) -> Iterator[str]:
    """A local path with the content of `path` (file or folder), for libraries that need one."""
    if "://" not in path:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        target = join(folder, os.path.basename(path.rstrip("/")))
        if is_folder(path):
            for file in walk(path):
                copy(file, join(target, os.path.relpath(file, path)))
        else:
            copy(path, target)
        yield target
