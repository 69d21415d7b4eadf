"""`images:DIR_OR_GLOB`: a folder of images without labels."""

import fnmatch

from kd_tf import files
from kd_tf.data.items import Item, Reject, Source
from kd_tf.data.sources import reading
from kd_tf.errors import UserError
from kd_tf.specs import Spec


def open_folder(spec: Spec) -> Source:
    """Lists the images below a folder, or those of one folder that match a pattern.

    A file counts as an image by the ending of its name; other files are not looked at. In a
    pattern `*`, `?` and `[` may stand in the last part only, so a folder may be called
    "photos [2020]".

    Raises:
        UserError: The path is missing, or nothing in it ends like an image.
    """
    rejects: list[Reject] = []
    root, paths = _list(spec, rejects=rejects)
    images = sorted(path for path in paths if reading.is_image_name(path))
    if not images:
        first = f" The first left out: {rejects[0].what} ({rejects[0].reason})." if rejects else ""
        raise UserError(
            f"{spec.text}: {root!r} holds {len(paths)} files and none is an image. "
            f"Images end in {', '.join(reading.IMAGE_ENDINGS)}.{first}"
        )
    items = [Item(rank, path, files.join(root, path)) for rank, path in enumerate(images, start=1)]
    read_bytes, _ = reading.file_readers()
    return Source(
        name=spec.name,
        class_names=(),
        items=items,
        read_bytes=read_bytes,
        read_labels=None,
        rejects=tuple(rejects),
        fingerprint=reading.fingerprint(images),
    )


def _list(spec: Spec, *, rejects: list[Reject]) -> tuple[str, list[str]]:
    """The folder, and the paths in it relative to it."""
    location = spec.location.rstrip("/")
    if files.is_folder(location):
        return location, reading.relative_files(location, rejects=rejects)
    root, _, pattern = location.rpartition("/")
    root = root or "."
    if any(letter in pattern for letter in "*?[") and files.is_folder(root):
        names = reading.image_names(root, rejects=rejects)
        return root, fnmatch.filter(names, pattern)
    if files.exists(location):
        return root, [pattern]
    raise UserError(f"{spec.text}: {spec.location!r} does not exist. Give a folder or a pattern.")
