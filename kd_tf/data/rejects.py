"""What is left out is counted; too much of it stops the run."""

from collections.abc import Callable, Iterable

from kd_tf import files
from kd_tf.data.items import Reject
from kd_tf.errors import UserError
from kd_tf.manifests import Counts

# A copy of an image that is kept; data sets are full of them, and nothing is lost.
DUPLICATE = "duplicate image"

# What a stage that stopped for bad images leaves in its folder: all of them, a line each.
LIST_NAME = "rejected.txt"

_NAMED = 10


def count_rejects(counts: Counts, rejects: Iterable[Reject]) -> None:
    """Counts what listing left out; an image left out there counts as seen."""
    for reject in rejects:
        counts.skip(
            reject.reason, reject.what, detail=reject.detail, whole_image=reject.whole_image
        )
        counts.seen += reject.whole_image


def check_fraction(
    counts: Counts, *, max_bad_fraction: float, where: str, num_images: int | None = None,
    folder: str = "", look_at_all: Callable[[], Counts] | None = None,
) -> None:  # fmt: skip
    """Stops the run where too many images were left out.

    Args:
        counts: What became of the images; every one is written or skipped.
        max_bad_fraction: Share of the images met that may be left out, in [0, 1]; copies of
            an image that is kept do not count.
        where: The data set, for the message.
        num_images: How many images there are, where not all were met yet.
        folder: Where a list of all that cannot be used is left, if the run stops.
        look_at_all: Counts all images for that list, where not all were met yet.

    Raises:
        UserError: More were left out; counts them by reason and names the first ten.
    """
    num_skipped = sum(counts.skipped.values())
    if counts.seen != counts.written + num_skipped:
        raise AssertionError(
            f"{where}: {counts.seen} images seen, {counts.written} written, {num_skipped} skipped."
        )
    bad = [(reason, n) for reason, n in counts.skipped.most_common() if reason != DUPLICATE]
    num_bad = sum(count for _, count in bad)
    num_images = counts.seen if num_images is None else num_images
    if num_bad <= max_bad_fraction * num_images:
        return
    reasons = ", ".join(f"{count} x {reason}" for reason, count in bad)
    named = [f"{name} ({reason})" for reason, _ in bad for name in counts.examples[reason]]
    listed = "\n".join(f"  {name}" for name in named[:_NAMED])
    if folder:
        listed += f"\n{_write_list(look_at_all() if look_at_all else counts, folder)}"
    raise UserError(
        f"{where}: {num_bad} of {num_images} images cannot be used, more than "
        f"{max_bad_fraction:.2%}: {reasons}. The first:\n{listed}\nRepair or remove them, or "
        "raise --max_bad_fraction."
    )


def _write_list(counts: Counts, folder: str) -> str:
    """Leaves the names of all images that cannot be used in a folder; says where."""
    bad = [reason for reason in counts.skipped if reason != DUPLICATE]
    lines = [f"{name} ({reason})" for reason in bad for name in counts.examples[reason]]
    path = files.join(folder, LIST_NAME)
    content = "".join(f"{line}\n" for line in lines)
    files.write_bytes(path, content.encode("utf-8", "backslashreplace"))
    return f"All {len(lines)} of them are named in {path}."
