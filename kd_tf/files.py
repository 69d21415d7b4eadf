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
import struct
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

import h5py
import numpy as np
import tensorflow as tf

from kd_tf.errors import PathError
from kd_tf.values import show

# File systems that cannot lock say so in one of these ways.
_CANNOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
# Stores in which a rename is a copy and a delete, while a new object appears whole or not at all.
_OBJECT_STORES = ("gs://", "s3://")
# Between the name of a file and the process that writes it.
_PART = ".part-"
# Why `walk` does not follow a link.
LOOP = "link to a folder that holds it"


# What is the path's fault, whoever reports it; a store that is out of reach is not.
_PATH_FAULTS = (
    OSError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.AlreadyExistsError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
    tf.errors.UnimplementedError,
    UnicodeError,
)
# What the system says -> what it means, and what to do.
_MEANINGS = {
    "No space left": "the disk is full. Make room, then give the same command again",
    "Disk quota": "the disk quota is used up. Make room, then give the same command again",
    "File too large": "the file is larger than the disk or a limit allows",
    "Permission denied": "there is no right to do this. Give another folder, or the right",
    "Operation not permitted": "there is no right to do this. Give another folder, or the right",
    "Read-only": "it is read-only. Give another folder",
    "Not a directory": "a file stands where a folder is needed. Give another path",
    "exists": "a file or a broken link stands where a folder is needed. Move it, or give another",
    "Is a directory": "a folder stands where a file is needed. Move it, or give another path",
    "No such file": "the folder is gone, or a link is broken. Give the same command again",
    "too long": "the name is too long. Give a shorter one",
    "Too many levels of symbolic links": "its links lead in a circle",
}


def path_error(error: Exception, path: str) -> PathError:
    """The error of a path in one sentence: what is wrong and what to do."""
    text = str(getattr(error, "message", error))
    seen = text.lower()
    meaning = next((told for words, told in _MEANINGS.items() if words.lower() in seen), None)
    return PathError(f"{show(path, 300)}: {meaning or show(text, 300)}.")


@contextlib.contextmanager
def _naming(path: str, *faults: type[Exception]) -> Iterator[None]:
    """Turns what a path is to blame for into a PathError; `faults` too."""
    try:
        yield
    except (*_PATH_FAULTS, *faults) as error:
        raise path_error(error, path) from error


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
    """Sorted names (not paths) in a folder; on gs:// folders lose their trailing slash.

    A local name that is not UTF-8 holds lone surrogates, as Python has it.
    """
    if "://" not in path:
        with _naming(path):
            return sorted(os.listdir(path or "."))
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
    with _naming(path, tf.errors.NotFoundError):
        tf.io.gfile.makedirs(path)
        # A dangling link or a file passes for a folder that is there.
        if "://" not in path and path and not is_folder(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def read_bytes(path: str) -> bytes:
    """The whole content of a file. Raises PathError, or NotFoundError where there is none."""
    with _naming(path), open_file(path, "rb") as file:
        return file.read()


# What a broken or hostile archive raises when it is read, beside ValueError and OSError.
BROKEN_ARCHIVE = (
    *(ValueError, OSError, KeyError, TypeError, EOFError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, struct.error, SyntaxError, OverflowError, MemoryError),
)


def read_arrays(path: str, *, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of a .npz or HDF5 file by name (HDF5: the full path inside); no pickles.

    Args:
        path: The file.
        max_bytes: Most that the arrays may take once they are unpacked: a file of a few
            megabytes can hold gigabytes of zeros.

    Raises:
        ValueError: They take more.
        Exception: One of `BROKEN_ARCHIVE`, for a file that is none.
    """
    content = io.BytesIO(read_bytes(path))
    if path.endswith(".npz"):
        return unpack_arrays(content, max_bytes=max_bytes)
    datasets: dict[str, h5py.Dataset] = {}
    with h5py.File(content, "r") as file:
        file.visititems(
            lambda name, item: (
                datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None
            )
        )
        _check_unpacked(sum(one.nbytes for one in datasets.values()), max_bytes)
        return {name: one[()] for name, one in datasets.items() if one.dtype.kind in "fiub"}


def unpack_arrays(content: IO, *, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of an open .npz file, as `read_arrays`."""
    with zipfile.ZipFile(content) as archive:
        _check_unpacked(sum(info.file_size for info in archive.infolist()), max_bytes)
        for info in archive.infolist():
            with archive.open(info) as member:
                _check_unpacked(_declared_bytes(member), max_bytes)
    content.seek(0)
    with np.load(content, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _declared_bytes(member: IO) -> int:
    """How much an array takes by its own header; NumPy makes room for it before it reads."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0
    shape, _, dtype = (np.lib.format.read_array_header_2_0 if version > (1, 0) else read)(member)
    return int(np.prod([float(side) for side in shape])) * dtype.itemsize


def _check_unpacked(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise ValueError(f"it unpacks to {num_bytes} bytes, where at most {max_bytes} are needed")


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
    part = f"{path}{_PART}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        with open_file(part, "wb") as file:
            file.write(b"")  # GFile makes the file at the first write only
            yield file
        if replace or not is_file(path):
            tf.io.gfile.rename(part, path, overwrite=True)
        else:
            tf.io.gfile.remove(part)
    except BaseException as error:
        with contextlib.suppress(*_PATH_FAULTS, tf.errors.NotFoundError):
            if exists(part):
                tf.io.gfile.remove(part)
        # What the caller does in the block may fail too, for other reasons.
        if isinstance(error, (*_PATH_FAULTS, tf.errors.NotFoundError)) and (
            part in str(error) or "No space left" in str(error)
        ):
            raise path_error(error, path) from error
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
        with _naming(new):
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


def sweep_parts(folder: str) -> None:
    """Removes what killed processes of this machine left half written in a folder."""
    if "://" in folder or not is_folder(folder):
        return
    for name in list_folder(folder):
        _, mark, rest = name.rpartition(_PART)
        pid = rest.partition("-")[0]
        if mark and pid.isdecimal() and not os.path.isdir(f"/proc/{pid}"):
            remove_if_there(join(folder, name))


def remove_if_there(path: str) -> None:
    """Removes a file, unless another process was faster."""
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(path)


def sha256(path: str) -> str:
    """Hex digest of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with _naming(path), open_file(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def walk(folder: str, *, on_fault: Callable[[str, str], None] | None = None) -> Iterator[str]:
    """Every regular file below a folder, as paths, sorted within each folder; links are followed.

    Args:
        folder: Where to look.
        on_fault: Told of what is left out, (path, reason): a link to a folder that holds it, a
            pipe or device, a name that is not UTF-8, a folder that cannot be read.
    """
    if "://" in folder:
        for parent, _, names in sorted(tf.io.gfile.walk(folder)):
            for name in sorted(names):
                if _is_child(parent, name):
                    yield join(parent, name)
        return
    found = sorted(_walk_local(folder, above=(), on_fault=on_fault or (lambda path, reason: None)))
    for parent, names in found:
        yield from (join(parent, name) for name in names)


def _walk_local(
    folder: str, *, above: tuple[tuple[int, int], ...], on_fault: Callable[[str, str], None]
) -> Iterator[tuple[str, list[str]]]:
    """Each folder with the sorted names of its regular files; `above` are those that hold it."""
    try:
        status = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        on_fault(folder, LOOP if error.errno == errno.ELOOP else "folder cannot be read")
        return
    own = (status.st_dev, status.st_ino)
    if own in above:
        on_fault(folder, LOOP)
        return
    names = []
    for entry in entries:
        if not is_utf8(entry.name):
            on_fault(entry.path, "file name is not UTF-8")
        elif _is_kind(entry.is_dir):
            yield from _walk_local(entry.path, above=(*above, own), on_fault=on_fault)
        elif _is_kind(entry.is_file):
            names.append(entry.name)
        else:
            on_fault(entry.path, "dangling link" if entry.is_symlink() else "not a regular file")
    yield folder, names


def _is_kind(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # A link into itself
        return False


def is_utf8(name: str) -> bool:
    """Whether a file name can be written as UTF-8; one read from disk may hold any bytes."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in name)


def is_regular(path: str) -> bool:
    """Whether a file can be read to its end: a pipe or a device would block for ever."""
    if "://" in path:
        return is_file(path)
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


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
    with _naming(path):
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed by the next line
    with file:
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
