"""Finds images that are in two data sets, by the sha256 of their files."""

import concurrent.futures
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

from kd_tf.data.items import Source
from kd_tf.errors import RejectedError, UserError

# Files in flight: enough to keep the threads busy, few enough to stay small in memory.
_WINDOW = 64
_NAMED = 10


def read_digests(source: Source) -> dict[str, str]:
    """sha256 of each original file -> the image's identity; of copies the first one.

    An image that cannot be read has no digest; whoever decodes it counts it.
    """
    digests: dict[str, str] = {}
    for row, digest in _digests(source, range(len(source.items))):
        if digest:
            digests.setdefault(digest, source.key(source.items[row]))
    return digests


def refuse_leakage(
    held_out: Mapping[str, str], used: Mapping[str, str], *, held_out_name: str, used_name: str,
    data_set: str, allow: bool = False,
) -> list[tuple[str, str]]:  # fmt: skip
    """Makes sure that no image for evaluation or validation is also learned from.

    Args:
        held_out: sha256 -> identity of the images that are held out, as `read_digests` gives.
        used: Likewise, of the images trained on or pseudo-labelled for training.
        held_out_name: What the held out data is, for the message: a flag and its value.
        used_name: Likewise.
        data_set: Name that allows it.
        allow: Whether the user allowed it by name.

    Returns:
        The images in both, as pairs of identities, sorted; empty unless allowed.

    Raises:
        UserError: Images are in both, and that is not allowed; names the first ten.
    """
    shared = sorted((held_out[digest], used[digest]) for digest in held_out.keys() & used.keys())
    if shared and not allow:
        named = "\n".join(f"  {left} is {right}" for left, right in shared[:_NAMED])
        raise UserError(
            f"{len(shared)} of the {len(held_out)} images of {held_out_name} are also in "
            f"{used_name} (the same file, by sha256):\n{named}\nA score on images that were "
            "learned from says nothing. Remove them from one side, or allow it by "
            f"--allow_leakage={data_set}."
        )
    return shared


def _digests(source: Source, rows: Sequence[int]) -> Iterator[tuple[int, str]]:
    """(row, sha256), in order; "" for an image that cannot be read."""

    def digest(row: int) -> str:
        try:
            if source.read_sha256 is not None:
                return source.read_sha256(source.items[row])
            return hashlib.sha256(source.read_bytes(source.items[row])).hexdigest()
        except RejectedError:
            return ""

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(rows), _WINDOW):
            part = rows[start : start + _WINDOW]
            yield from zip(part, pool.map(digest, part), strict=True)
