"""Reads the YAML file of a YOLO data set: where the images of each split lie, and the classes."""

import dataclasses
import re

from absl import logging

from kd_tf import documents, files, values
from kd_tf.data.items import Reject
from kd_tf.data.sources import reading
from kd_tf.documents import Yaml
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec
from kd_tf.values import show

_SPLITS = ("train", "val", "test")
_FILE_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_MAX_CLASSES, _MAX_LETTERS = 100_000, 200


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the YAML file says.

    Attributes:
        root: The folder that splits are relative to: `path`, else the file's own.
        splits: The entries of each split: folders, or text files that list images.
        class_names: In the order of the ids.
        keypoints: (number, values of each) from `kpt_shape`; None where there is none.
    """

    root: str
    splits: dict[str, list[str]]
    class_names: tuple[str, ...]
    keypoints: tuple[int, int] | None


def read_settings(spec: Spec) -> Settings:
    """Reads the file at the spec's location, or the one in the folder there.

    `names` is a list or a table from id to name. A relative `path` is relative to the file; where
    `path` is not on this machine, splits are looked for beside the file.

    Raises:
        UserError: It is not there, not YAML, or lacks `names` or every split.
    """
    path = _yaml_path(spec)
    content = documents.read_yaml(path, where=spec.text)
    if not isinstance(content, dict):
        raise UserError(f"{path!r} needs the keys names and {', '.join(_SPLITS)}.")
    if "valid" in content and "val" not in content:
        content["val"] = content["valid"]
    names = _class_names(content.get("names"), path)
    _check_number(content.get("nc"), names, path)
    splits = {name: _strings(content[name], name, path) for name in _SPLITS if content.get(name)}
    own = path.rpartition("/")[0] or "."
    root = _root(content.get("path"), own, splits, path)
    return Settings(root, splits, names, _keypoints(content.get("kpt_shape"), path))


def image_paths(settings: Settings, spec: Spec, *, rejects: list[Reject]) -> list[str]:
    """The images of the split that the spec asks for (train by default).

    Raises:
        UserError: The split is unknown, or a folder or list of it is not there.
    """
    split = spec.options.get("split", "train")
    if split not in settings.splits:
        known = ", ".join(settings.splits) or "none"
        raise UserError(f"{spec.text}: split={split} is not in the file. It has: {known}.")
    found = []
    for entry in settings.splits[split]:
        path = _entry_path(settings.root, entry)
        if files.is_folder(path):
            names = filter(reading.is_image_name, reading.relative_files(path, rejects=rejects))
            found += [files.join(path, name) for name in names]
        elif files.exists(path):
            found += _listed(path, settings.root, rejects=rejects)
        else:
            raise UserError(
                f"{spec.text}: {path!r} does not exist. Splits are relative to `path`, here "
                f"{settings.root!r}."
            )
    return found


def _yaml_path(spec: Spec) -> str:
    if not files.is_folder(spec.location):
        reading.need_file(spec.location, where=spec.text)
        return spec.location
    there = [name for name in _FILE_NAMES if files.is_file(files.join(spec.location, name))]
    if len(there) != 1:
        what = f"has {' and '.join(there)}; give one of them" if there else "has none of them"
        raise UserError(
            f"{spec.text}: a folder is given, and a YOLO data set is named by its YAML file: "
            f"{', '.join(_FILE_NAMES)}. The folder {what}. The file says where the images lie "
            "(train:) and what the classes are called (names:)."
        )
    return files.join(spec.location, there[0])


def _root(path: Yaml | None, own: str, splits: dict[str, list[str]], where: str) -> str:
    """The folder of the splits: `path`, unless it is a folder of another machine."""
    if path is None or path == "":
        return own
    if not isinstance(path, str):
        raise UserError(f"{where!r}: `path` is {show(path)}, a folder is needed.")
    root = files.join(own, path)
    if files.is_folder(root):
        return root
    entries = [entry for split in splits.values() for entry in split]
    if any(files.exists(_entry_path(own, entry)) for entry in entries):
        logging.info("%s: there is no %s here; splits are taken from %s.", where, show(path), own)
        return own
    return root


def _entry_path(root: str, entry: str) -> str:
    """Where an entry of a split lies: as it says, or as other tools mean it.

    Roboflow writes ../train/images for the folder train/images beside the file; files made on
    Windows have backslashes.
    """
    path = files.join(root, entry).rstrip("/")
    if files.exists(path):
        return path
    plain = entry.replace("\\", "/")
    if files.exists(files.join(root, plain)):
        return files.join(root, plain).rstrip("/")
    while plain.startswith("../"):
        plain = plain[3:]
        if files.exists(files.join(root, plain)):
            logging.info("%s is not there; %s is taken.", path, files.join(root, plain))
            return files.join(root, plain).rstrip("/")
    return path


def _listed(path: str, root: str, *, rejects: list[Reject]) -> list[str]:
    """Images named by a text file: below its own folder with a leading ./, else below the root."""
    found = []
    finders = {True: reading.Finder(path.rpartition("/")[0] or "."), False: reading.Finder(root)}
    for name in documents.read_lines(path):
        plain = name.replace("\\", "/")
        beside = plain.startswith("./")
        try:
            found.append(
                _by_tail(name, root)
                if plain.startswith("/") or plain[1:3] == ":/"
                else finders[beside].path(plain[2:] if beside else name)
            )
        except RejectedError as error:
            rejects.append(Reject(show(name), error.reason, error.detail))
    return found


def _by_tail(name: str, root: str) -> str:
    """The file that an absolute path of another machine means: its longest end below the root."""
    parts = re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/")).strip("/").split("/")
    for start in range(len(parts)):
        path = reading.safe_path(root, "/".join(parts[start:]))
        if files.exists(path):
            return path
    raise RejectedError("missing file", f"no end of {show(name)} is below {root!r}")


def _strings(value: Yaml, name: str, path: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    for part in values:
        if not isinstance(part, str) or "\0" in part:
            raise UserError(
                f"{path!r}: `{name}` must be a path or a list of paths, not {show(part)}."
            )
    return [part for part in values if isinstance(part, str)]


def _class_names(names: Yaml | None, path: str) -> tuple[str, ...]:
    if isinstance(names, dict):
        ids = {values.to_whole(number): name for number, name in names.items()}
        if set(ids) == set(range(len(names))):
            names = [ids[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(
            f"{path!r}: `names` must list the classes, or map the ids 0 to n - 1 to names; got "
            f"{show(names)}."
        )
    if len(names) > _MAX_CLASSES:
        raise UserError(f"{path!r}: `names` has {len(names)} classes, at most {_MAX_CLASSES}.")
    for name in names:
        if not isinstance(name, str) or not name or len(name) > _MAX_LETTERS:
            raise UserError(
                f"{path!r}: a class name has 1 to {_MAX_LETTERS} letters, got {show(name)}."
            )
    return tuple(str(name) for name in names)


def _check_number(number: Yaml | None, names: tuple[str, ...], path: str) -> None:
    if number is not None and values.to_whole(number) != len(names):
        raise UserError(
            f"{path!r}: `nc` is {show(number)}, `names` has {len(names)} classes. Correct one."
        )


def _keypoints(shape: Yaml | None, path: str) -> tuple[int, int] | None:
    if shape is None:
        return None
    numbers = [values.to_whole(part) for part in shape] if isinstance(shape, list) else []
    if len(numbers) != 2 or not (numbers[0] or 0) > 0 or numbers[1] not in (2, 3):
        raise UserError(
            f"{path!r}: `kpt_shape` must be [number of keypoints, 2 or 3], got {show(shape)}."
        )
    return numbers[0], numbers[1]
