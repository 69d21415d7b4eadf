"""Reads the YAML file of a YOLO data set: where the images of each split lie, and the classes."""

import dataclasses
from collections.abc import Iterator

import yaml

from kd_tf import files
from kd_tf.data.items import Reject
from kd_tf.data.sources import reading
from kd_tf.data.sources.folder import relative_files
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec

_SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the YAML file says.

    Attributes:
        root: The folder that splits are relative to: `path`, else the file's own.
        splits: The entries of each split: folders, or text files that list images.
        class_names: In the order of the ids.
    """

    root: str
    splits: dict[str, list[str]]
    class_names: tuple[str, ...]


def read_settings(spec: Spec) -> Settings:
    """Reads the file at the spec's location.

    `names` is a list or a table from id to name. A relative `path` is relative to the file.

    Raises:
        UserError: It is not there, not YAML, or lacks `names` or every split.
    """
    reading.need_file(spec.location, where=spec.text)
    try:
        content = yaml.safe_load(files.read_bytes(spec.location))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{spec.location!r} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{spec.location!r} needs the keys names and {', '.join(_SPLITS)}.")
    root = spec.location.rpartition("/")[0] or "."
    if isinstance(content.get("path"), str):
        root = files.join(root, content["path"])
    splits = {name: _strings(content[name]) for name in _SPLITS if content.get(name)}
    return Settings(root, splits, _class_names(content.get("names"), spec))


def image_paths(settings: Settings, spec: Spec, *, rejects: list[Reject]) -> Iterator[str]:
    """The images of the split that the spec asks for (train by default).

    Raises:
        UserError: The split is unknown, or a folder or list of it is not there.
    """
    split = spec.options.get("split", "train")
    if split not in settings.splits:
        known = ", ".join(settings.splits) or "none"
        raise UserError(f"{spec.text}: split={split} is not in the file. It has: {known}.")
    for entry in settings.splits[split]:
        path = files.join(settings.root, entry).rstrip("/")
        if files.is_folder(path):
            names = filter(reading.is_image_name, relative_files(path))
            yield from (files.join(path, name) for name in names)
        elif files.exists(path):
            yield from _listed(path, settings.root, rejects=rejects)
        else:
            raise UserError(
                f"{spec.text}: {path!r} does not exist. Splits are relative to `path`, here "
                f"{settings.root!r}."
            )


def _listed(path: str, root: str, *, rejects: list[Reject]) -> Iterator[str]:
    """Images named by a text file: below its own folder with a leading ./, else below the root."""
    for line in files.read_bytes(path).decode("utf-8", "surrogateescape").splitlines():
        name = line.strip()
        if not name:
            continue
        folder = path.rpartition("/")[0] if name.startswith("./") else root
        try:
            yield reading.safe_path(folder, name.removeprefix("./"))
        except RejectedError as error:
            rejects.append(Reject(repr(name), error.reason, error.detail))


def _strings(value: object) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]


def _class_names(names: object, spec: Spec) -> tuple[str, ...]:
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(
            f"{spec.location!r}: `names` must list the classes, or map the ids 0 to n - 1 to "
            f"names; got {names!r}."
        )
    return tuple(str(name) for name in names)
