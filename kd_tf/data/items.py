"""What every source of images gives: a listing of items, their bytes and their labels."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One image of a source: metadata only, below 1 KB.

    Attributes:
        image_id: The source's own integer id, or the rank in sorted order where it has none.
        original_id: The source's own id as text (a file name, a COCO id): with the
            source's name it is the image's identity.
        location: Where `Source.read_bytes` finds it: a path, or what the source understands.
        height, width: Pixels as the annotation states them; 0 where it does not.
    """

    image_id: int
    original_id: str
    location: str
    height: int = 0
    width: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Labels:
    """What people marked in one image, in the order of the annotation.

    Attributes:
        boxes: [N, 4] float32, xyxy, absolute pixels of the upright image.
        classes: [N] int32, indices into `Source.class_names`.
        is_crowd: [N] bool; such a box is neither object nor background.
        areas: [N] float32, square pixels as annotated (a mask's area where one is given).
        judged: [K] int32, the classes somebody could have marked in this image;
            None means all of them.
    """

    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    judged: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """Something that was left out, and why: counted by reason, listed in manifests.

    Attributes:
        what: The image, or "image: box 3", as a person would look for it.
        reason: Short fixed words, the same for every reject of one kind.
        detail: What was seen.
        whole_image: Whether the image is left out, or only one of its boxes.
    """

    what: str
    reason: str
    detail: str = ""
    whole_image: bool = True


@dataclasses.dataclass(frozen=True)
class Source:
    """A listed data set; nothing of its pixels is in memory.

    Attributes:
        name: First part of every image's identity; unique in a run. Empty: see `key`.
        class_names: Names in the order of the class indices; empty where nothing is labelled.
        items: Sorted so that the order is the same on every machine.
        read_bytes: The original file bytes of an item. Raises RejectedError.
        read_labels: Labels of an item (may have no boxes), or None for an unlabelled source;
            bad boxes come back as rejects beside them. Raises RejectedError for the image.
        rejects: What listing already left out.
        fingerprint: Hex sha256 of the listing and of the annotation files' content.
        category_ids: The data set's own id of each class (COCO's sparse ids), for results files.
        read_sha256: Hex sha256 of the original file of an item; None where that is the sha256 of
            `read_bytes` (records may keep a re-encoded image). Raises RejectedError.
    """

    name: str
    class_names: tuple[str, ...]
    items: Sequence[Item]
    read_bytes: Callable[[Item], bytes]
    read_labels: Callable[[Item], tuple[Labels, list[Reject]]] | None
    rejects: tuple[Reject, ...]
    fingerprint: str
    category_ids: tuple[int, ...] = ()
    read_sha256: Callable[[Item], str] | None = None

    def key(self, item: Item) -> str:
        """The image's identity: `<source name>/<original id>`.

        A source without a name holds items of several sources (`views.combine`), whose
        original ids are keys already.
        """
        return f"{self.name}/{item.original_id}" if self.name else item.original_id
