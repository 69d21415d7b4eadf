"""What is left out is counted; too much of it stops the run."""

from collections.abc import Callable, Iterable, Mapping

from absl import logging

from kd_tf import files
from kd_tf.data.items import Reject
from kd_tf.errors import UserError
from kd_tf.manifests import Counts

# A copy of an image that is kept; data sets are full of them, and nothing is lost.
DUPLICATE = "duplicate image"
CLIPPED = "box clipped to the image"
NO_LABEL_FILE = "image without a label file"
NO_ANNOTATION_FILE = "image without an annotation file"
NOT_SCORED = "class outside the class list"
IN_PADDING = "in the padding, outside the image"
LITTER = "side file of another system"
LOOP = files.LOOP
AT_LIMIT = "image with as many detections as are kept"
# Worth knowing, and nothing is lost.
NOTED = frozenset(
    {CLIPPED, NO_LABEL_FILE, NO_ANNOTATION_FILE, NOT_SCORED, IN_PADDING, LITTER, LOOP, AT_LIMIT}
)

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
    """Stops the run where too many images, or too many boxes, were left out.

    Args:
        counts: What became of the images; every one is written or skipped.
        max_bad_fraction: Share of the images met, and of their boxes, that may be left out, in
            [0, 1]; copies of an image that is kept and clipped boxes do not count.
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
    bad = {reason: n for reason, n in counts.skipped.items() if reason != DUPLICATE}
    num_images = counts.seen if num_images is None else num_images
    bad_boxes = lost_boxes(counts)
    num_boxes = counts.kept_boxes + sum(bad_boxes.values())
    for what, by_reason, num in (("images", bad, num_images), ("boxes", bad_boxes, num_boxes)):
        num_bad = sum(by_reason.values())
        if num_bad <= max_bad_fraction * num:
            continue
        listed = _first(counts, by_reason)
        if folder:
            listed += f"\n{_write_list(look_at_all() if look_at_all else counts, folder)}"
        raise UserError(
            f"{where}: {num_bad} of {num} {what} cannot be used, more than "
            f"{max_bad_fraction:.2%}: {_by_reason(by_reason)}. The first:\n{listed}\n"
            "Repair or remove them, or raise --max_bad_fraction."
        )


def lost_boxes(counts: Counts) -> dict[str, int]:
    """How many boxes were left out, by reason; what is only noted is no loss."""
    return {reason: n for reason, n in counts.skipped_boxes.items() if reason not in NOTED}


def log_boxes(counts: Counts, *, where: str) -> None:
    """Tells what became of people's boxes, where anything did."""
    lost = lost_boxes(counts)
    noted = {reason: n for reason, n in counts.skipped_boxes.items() if reason in NOTED}
    if lost:
        logging.warning(
            "%s: %d boxes given, %d kept, %d left out: %s. The first:\n%s",
            where,
            counts.kept_boxes + sum(lost.values()),
            counts.kept_boxes,
            sum(lost.values()),
            _by_reason(lost),
            _first(counts, lost),
        )
    if noted:
        logging.info("%s: %s.", where, _by_reason(noted))


def _by_reason(counted: Mapping[str, int]) -> str:
    ordered = sorted(counted.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{number} x {reason}" for reason, number in ordered)


def _first(counts: Counts, reasons: Iterable[str]) -> str:
    named = [f"{name} ({reason})" for reason in reasons for name in counts.examples[reason]]
    return "\n".join(f"  {name}" for name in named[:_NAMED])


def _write_list(counts: Counts, folder: str) -> str:
    """Leaves the names of all that cannot be used in a folder; says where."""
    bad = [*(reason for reason in counts.skipped if reason != DUPLICATE), *lost_boxes(counts)]
    lines = [f"{name} ({reason})" for reason in bad for name in counts.examples[reason]]
    path = files.join(folder, LIST_NAME)
    content = "".join(f"{line}\n" for line in lines)
    files.write_bytes(path, content.encode("utf-8", "backslashreplace"))
    return f"All {len(lines)} of them are named in {path}."
