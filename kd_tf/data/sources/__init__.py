"""Every kind of data set as one `Source`: a listing, bytes by item, labels by item."""

import collections
import importlib

from kd_tf.data.items import Source
from kd_tf.data.views import relabel
from kd_tf.errors import UserError
from kd_tf.specs import Spec

# Kind -> (module, function). A module is imported only when a spec asks for its kind.
_OPENERS = {
    "scenes": ("kd_tf.data.scenes", "open_scenes"),
    "tfds": ("kd_tf.data.sources.tfds_source", "open_tfds"),
    "coco": ("kd_tf.data.sources.coco", "open_coco"),
    "lvis": ("kd_tf.data.sources.lvis", "open_lvis"),
    "voc": ("kd_tf.data.sources.voc", "open_voc"),
    "yolo": ("kd_tf.data.sources.yolo", "open_yolo"),
    "images": ("kd_tf.data.sources.folder", "open_folder"),
    "records": ("kd_tf.data.sources.records_source", "open_records"),
}


def open_source(
    spec: Spec,
    *,
    class_names: tuple[str, ...] | None = None,
    drop_classes: tuple[str, ...] = (),
) -> Source:
    """Lists a data set; reads annotations, but no pixels.

    Args:
        spec: Parsed with `specs.DATA_KINDS`.
        class_names: The run's class list; labels are mapped to it by name. None takes the
            data set's own classes.
        drop_classes: Classes of the data set that are left out on purpose.

    Returns:
        The source. `Source.rejects` holds what listing already left out.

    Raises:
        UserError: The path is missing or holds nothing usable, an annotation file is broken as
            a whole, or it has classes that are neither in `class_names` nor dropped.
    """
    if spec.kind not in _OPENERS:
        raise UserError(f"{spec.kind!r} is no kind of data. Known: {', '.join(_OPENERS)}.")
    module, function = _OPENERS[spec.kind]
    source = getattr(importlib.import_module(module), function)(spec)
    _refuse_repeated_classes(source.class_names, spec)
    _refuse_repeated_ids(source)
    if class_names is None and not drop_classes:
        return source
    if class_names is None:
        class_names = tuple(name for name in source.class_names if name not in drop_classes)
    return relabel(source, class_names, drop=drop_classes)


def _refuse_repeated_classes(class_names: tuple[str, ...], spec: Spec) -> None:
    repeated = [name for name, count in collections.Counter(class_names).items() if count > 1]
    if repeated:
        raise UserError(
            f"{spec.text} names the class {repeated[0]!r} more than once; labels are mapped by "
            "name, so each class needs a name of its own. Rename or merge them."
        )


def _refuse_repeated_ids(source: Source) -> None:
    met = set()
    for item in source.items:
        if item.original_id in met:
            raise UserError(
                f"{source.key(item)} is there more than once; the name of a source and the "
                "image's own id must be unique together."
            )
        met.add(item.original_id)
