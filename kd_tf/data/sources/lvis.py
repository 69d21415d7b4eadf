"""`lvis:FILE?images=DIR`: COCO's format, in which each image was searched for some classes only."""

import dataclasses

import numpy as np

from kd_tf import files
from kd_tf.data.items import Source
from kd_tf.data.sources import coco, instances_json, reading
from kd_tf.specs import Spec


def open_lvis(spec: Spec) -> Source:
    """Lists an LVIS file.

    Judged in an image are the classes that are marked in it and those verified to be absent
    (`neg_category_ids`), less those of which not every instance is marked
    (`not_exhaustive_category_ids`). Source: Gupta et al., LVIS, 2019, section 3.1
    (arXiv 1908.03195).

    LVIS names its images by `coco_url`. They are looked for in `images=`/train2017 and
    val2017, or directly in `images=` where those folders are not there.

    Raises:
        UserError: As `coco.open_coco`.
    """
    reading.need_file(spec.location, where=spec.text)
    instances = instances_json.read_instances(spec.location)
    folder = spec.options.get("images") or spec.location.rpartition("/")[0] or "."
    reading.need_folder(folder, where=spec.text)
    entries = _without_missing_folders(instances.entries, folder)
    instances = dataclasses.replace(instances, entries=entries)
    return coco.build_source(spec, instances, folder=folder, judged=_judged(instances))


def _without_missing_folders(
    entries: list[instances_json.ImageEntry], folder: str
) -> list[instances_json.ImageEntry]:
    """Drops the folder from file names such as train2017/1.jpg where that folder is not there."""
    parents = {entry.file_name.rpartition("/")[0] for entry in entries}
    plain = {name for name in parents if name and not set(name.split("/")) & {"", ".."}}
    absent = {name for name in plain if not files.is_folder(files.join(folder, name))}
    return [
        dataclasses.replace(entry, file_name=entry.file_name.rpartition("/")[2])
        if entry.file_name.rpartition("/")[0] in absent
        else entry
        for entry in entries
    ]


def _judged(instances: instances_json.Instances) -> coco.Judged:
    index = {number: rank for rank, (number, _) in enumerate(instances.categories)}
    entries = instances.entries

    def judged(rank: int, marked: np.ndarray) -> np.ndarray:
        absent = {index[number] for number in entries[rank].absent if number in index}
        unsure = {index[number] for number in entries[rank].not_exhaustive if number in index}
        return np.array(sorted((set(marked.tolist()) | absent) - unsure), np.int32)

    return judged
