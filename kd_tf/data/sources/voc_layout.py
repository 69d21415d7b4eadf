"""Where the files of a VOC data set lie, whoever packed it."""

import re
import unicodedata
from collections.abc import Iterable

from kd_tf import documents, files
from kd_tf.data.items import Reject
from kd_tf.data.rejects import LITTER
from kd_tf.data.sources import reading
from kd_tf.errors import UserError
from kd_tf.specs import Spec
from kd_tf.values import show

ADVICE = "Give the folder that holds Annotations/ and JPEGImages/ or Images/."
_ANNOTATIONS, _IMAGE_FOLDERS = "annotations", ("jpegimages", "images")
_ONE_A_LINE = "Write one stem of a file a line; VOC's lists of a class (000012 -1) will do."


def _folder_called(location: str, names: tuple[str, ...]) -> str | None:
    """The folder with one of the names, in any case; the usual spelling first."""
    there = [name for name in files.list_folder(location) if name.lower() in names]
    there.sort(key=lambda name: (names.index(name.lower()), name))
    folders = [files.join(location, name) for name in there]
    return next(filter(files.is_folder, folders), None)


def annotation_folder(spec: Spec) -> str:
    found = _folder_called(spec.location, (_ANNOTATIONS,))
    if found is None:
        if not any(name.lower().endswith(".xml") for name in files.list_folder(spec.location)):
            raise UserError(
                f"{spec.text}: the folder {files.join(spec.location, 'Annotations')!r} does not "
                f"exist, and no .xml file lies in {spec.location!r}. {ADVICE}"
            )
        return spec.location
    return found


def annotation_paths(folder: str, *, rejects: list[Reject]) -> dict[str, str]:
    """The path of each annotation file by its stem."""
    found = {}
    for name in files.list_folder(folder):
        if not name.lower().endswith(".xml"):
            continue
        if reading.is_litter(name):
            rejects.append(Reject(name, LITTER, "", False))
        elif not files.is_utf8(name):
            rejects.append(Reject(show(name), "file name is not UTF-8"))
        else:
            found[name[:-4]] = files.join(folder, name)
    return found


def by_form(stems: Iterable[str]) -> dict[str, list[str]]:
    forms: dict[str, list[str]] = {}
    for stem in stems:
        if not stem.isascii():
            forms.setdefault(unicodedata.normalize("NFC", stem), []).append(stem)
    return forms


def image_paths(spec: Spec, *, rejects: list[Reject]) -> dict[str, str]:
    """The path of each image by its stem."""
    folder = _folder_called(spec.location, _IMAGE_FOLDERS)
    if folder is None:
        folder = spec.location
    names = reading.image_names(folder, rejects=rejects)
    if not names and folder == spec.location:
        raise UserError(
            f"{spec.text}: {spec.location!r} needs a folder of images, called JPEGImages or "
            "Images, beside Annotations; or images beside the .xml files."
        )
    return {name.rpartition(".")[0]: files.join(folder, name) for name in reversed(names)}


def chosen(spec: Spec, stems: set[str]) -> set[str]:
    """The stems to list: all, or those of the ids file (VOC's ImageSets/Main/*.txt)."""
    if "ids" not in spec.options:
        return stems
    path = spec.options["ids"]
    if not files.exists(path):
        path = files.join(spec.location, path)
    lines = documents.read_lines(path, where=spec.text)
    if not lines:
        raise UserError(f"{spec.text}: {path!r} lists no image: it is empty. {_ONE_A_LINE}")
    forms = by_form(stems)
    ids, missing = set(), []
    for line in lines:
        stem = _listed_stem(line, stems, forms)
        if stem is None:
            missing.append(line)
        else:
            ids.add(stem)
    if missing:
        raise UserError(
            f"{spec.text}: {path!r} lists {len(lines)} ids, {len(missing)} of which have no "
            f"annotation: {', '.join(show(line) for line in missing[:10])}. {_ONE_A_LINE}"
        )
    return ids


def _listed_stem(line: str, stems: set[str], forms: dict[str, list[str]]) -> str | None:
    """The annotation that a line names: a stem, a file name, or a stem and VOC's 1, 0 or -1.

    The number says whether a class is in the image; the image is of the list either way.
    """
    candidates = [line]
    first, *rest = line.split()
    if len(rest) in (1, 2) and rest[0] in ("1", "0", "-1"):
        candidates.append(first)
    for candidate in candidates:
        plain = re.split(r"[/\\]", candidate)[-1]
        for stem in (candidate, plain, plain.rpartition(".")[0]):
            if stem in stems:
                return stem
            found = forms.get(unicodedata.normalize("NFC", stem), [])
            if len(found) == 1:
                return found[0]
    return None
