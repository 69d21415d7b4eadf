"""Finds and reads the files of a source; what cannot be read is a reject, not a crash."""

import contextlib
import hashlib
import io
import re
import unicodedata
from collections.abc import Callable, Iterable

import tensorflow as tf

from kd_tf import files
from kd_tf.data import images
from kd_tf.data.items import Item, Reject
from kd_tf.data.rejects import LITTER, LOOP
from kd_tf.errors import PathError, RejectedError, UserError
from kd_tf.values import show

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")

# Headers kept for labels that are read after the bytes, which spares a second request on gs://.
_MAX_KEPT_HEADERS = 4096


def safe_path(folder: str, file_name: str) -> str:
    """The path of a file named by an annotation; it cannot lie outside the folder.

    Raises:
        RejectedError: "unsafe file name": empty, absolute, with "..", a NUL or a scheme,
            or not encodable.
    """
    parts = re.split(r"[/\\]", file_name)
    unsafe = (
        not file_name
        or "\0" in file_name
        or ".." in parts
        or parts[0] == ""
        or "://" in file_name
        or re.match(r"[A-Za-z]:[/\\]", file_name)
        or any(0xD800 <= ord(letter) <= 0xDFFF for letter in file_name)
    )
    if unsafe:
        raise RejectedError("unsafe file name", f"{file_name!r} must stay below {folder!r}")
    return files.join(folder, file_name)


class Finder:
    """Finds the files that annotations name, in a folder.

    A name written on another system is found too: with backslashes, or with its accents in
    another Unicode form (macOS takes them apart).
    """

    def __init__(self, folder: str):
        self._folder = folder
        self._by_form: dict[str, dict[str, list[str]]] = {}

    def path(self, file_name: str) -> str:
        """The path of a named file, which need not exist.

        Raises:
            RejectedError: "unsafe file name", or "ambiguous file name" where two fit.
        """
        path = safe_path(self._folder, file_name)
        # Nearly all names are plain, and asking a remote store for each would take hours.
        if (file_name.isascii() and "\\" not in file_name) or files.exists(path):
            return path
        path = safe_path(self._folder, file_name.replace("\\", "/"))
        if file_name.isascii() or files.exists(path):
            return path
        folder, _, name = path.rpartition("/")
        found = self._names(folder).get(unicodedata.normalize("NFC", name), [name])
        if len(found) > 1:
            raise RejectedError("ambiguous file name", f"{file_name!r} fits {found}")
        return files.join(folder, found[0])

    def _names(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._by_form:
            self._by_form[folder] = forms = {}
            for name in files.list_folder(folder) if files.is_folder(folder) else []:
                forms.setdefault(unicodedata.normalize("NFC", name), []).append(name)
        return self._by_form[folder]


def is_litter(path: str) -> bool:
    """Whether macOS left a file beside the real ones: ._NAME, or anything in __MACOSX."""
    parts = path.split("/")
    return parts[-1].startswith("._") or "__MACOSX" in parts


def relative_files(folder: str, *, rejects: list[Reject]) -> list[str]:
    """Paths of all files below a folder, relative to it, sorted.

    What cannot be an image is a reject: a pipe, a name that is not UTF-8, a link in a circle.
    """
    start = len(folder.rstrip("/")) + 1

    def note(path: str, reason: str) -> None:
        if reason == LOOP:
            rejects.append(Reject(show(path[start:]), reason, "", False))
        elif is_image_name(path) or reason == "folder cannot be read":
            rejects.append(Reject(show(path[start:]), reason))

    found = []
    for path in files.walk(folder, on_fault=note):
        name = path[start:]
        if is_litter(name):
            rejects.append(Reject(name, LITTER, "", False))
        else:
            found.append(name)
    return sorted(found)


def image_names(folder: str, *, rejects: list[Reject]) -> list[str]:
    """Sorted names of the images that lie in a folder, not below it."""
    found = []
    for name in filter(is_image_name, files.list_folder(folder)):
        if is_litter(name):
            rejects.append(Reject(name, LITTER, "", False))
        elif not files.is_utf8(name):
            rejects.append(Reject(show(name), "file name is not UTF-8"))
        elif "://" not in folder and not files.is_regular(files.join(folder, name)):
            rejects.append(Reject(name, "not a regular file"))
        else:
            found.append(name)
    return found


def read_file(path: str) -> bytes:
    """The bytes of an image file.

    Raises:
        RejectedError: "missing file" or "unreadable file". A store that is out of reach for
            the moment (tf.errors.UnavailableError and the like) is not the image's fault.
    """
    if "://" not in path and files.exists(path) and not files.is_regular(path):
        raise RejectedError("not a regular file", path)
    try:
        return files.read_bytes(path)
    except tf.errors.NotFoundError as error:
        raise RejectedError("missing file", path) from error
    except _FILE_FAULTS as error:
        raise RejectedError("unreadable file", f"{path}: {str(error)[:200]}") from error


_FILE_FAULTS = (
    PathError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnknownError,
)


def file_readers() -> tuple[Callable[[Item], bytes], Callable[[Item], images.Header]]:
    """Two functions for items whose location is a path: read its bytes, read its header.

    On a remote store the header of an image whose bytes were read is remembered, so its labels
    cost no second request. Both may be called from several threads.
    """
    kept: dict[str, images.Header] = {}

    def keep(item: Item, header: images.Header) -> None:
        if len(kept) >= _MAX_KEPT_HEADERS:
            kept.clear()
        kept[item.location] = header

    def read_bytes(item: Item) -> bytes:
        encoded = read_file(item.location)
        if "://" in item.location:
            with contextlib.suppress(RejectedError):  # whoever decodes it counts it
                keep(item, images.read_header(io.BytesIO(encoded)))
        return encoded

    def read_header(item: Item) -> images.Header:
        header = kept.get(item.location)
        if header is None:
            header = _header_of_file(item.location)
            keep(item, header)
        return header

    return read_bytes, read_header


def _header_of_file(path: str) -> images.Header:
    try:
        with files.open_file(path) as file:
            return images.read_header(file)
    except tf.errors.NotFoundError as error:
        raise RejectedError("missing file", path) from error
    except _FILE_FAULTS as error:
        raise RejectedError("unreadable file", f"{path}: {str(error)[:200]}") from error


def need_folder(path: str, *, where: str, advice: str = "Give a folder that holds images.") -> None:
    """Raises UserError, which ends with `advice`, unless `path` is a folder."""
    if not files.is_folder(path):
        what = "is a file" if files.exists(path) else "does not exist"
        raise UserError(f"{where}: the folder {path!r} {what}. {advice}")


def need_file(path: str, *, where: str) -> None:
    """Raises UserError unless `path` is a file."""
    if not files.exists(path) or files.is_folder(path):
        what = "is a folder" if files.is_folder(path) else "does not exist"
        raise UserError(f"{where}: the file {path!r} {what}.")


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return name.lower().endswith(IMAGE_ENDINGS)


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """Hex sha256 of parts, each with its length, so that no two lists read the same."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()
