"""Which images a teacher has learned from: what it says about those measures nothing."""

import io
import os

import numpy as np

from kd_tf import files, manifests
from kd_tf.data import labeled, splits

# Beside the training records: the classes of each, from which shares are chosen.
TABLE = "train_classes.npz"


def read_table(folder: str, *, num_classes: int) -> splits.ClassTable:
    """The classes of every training record in a folder `labeled`."""
    content = files.read_bytes(files.join(folder, TABLE))
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        starts, classes = arrays["starts"], arrays["classes"]
    return splits.ClassTable(starts, classes, np.ones(len(starts) - 1, bool), num_classes)


def learned_by(network: str) -> frozenset[str] | None:
    """The sha256 of the images that a network of stage teacher learned from.

    Args:
        network: A `.keras` file, as stage teacher leaves it in its workdir.

    Returns:
        None where it is not known: the file lies elsewhere, or another stage made it.
    """
    folder = os.path.dirname(network)
    labels = files.join(os.path.dirname(folder), "labeled")
    if not (manifests.is_complete(folder) and manifests.is_complete(labels)):
        return None
    made = manifests.read(folder)
    if made.stage != "teacher":
        return None
    records = labeled.open_labeled(labels, "train")
    fraction = made.identity.get("teacher_label_fraction", 1.0)
    if fraction >= 1.0:
        return frozenset(records.digests)
    table = read_table(labels, num_classes=len(records.class_names))
    rows = splits.take_fraction(table, fraction=fraction, seed=made.identity.get("seed", 0))
    chosen = set(rows.tolist())
    return frozenset(digest for number, digest in enumerate(records.digests) if number in chosen)


def learned_from(specs: list[str], *, workdir: str) -> frozenset[str]:
    """The sha256 of all images that any of a run's teachers is known to have learned from.

    Args:
        specs: What --teacher said; empty for the run's own teacher.
        workdir: Of the run.
    """
    paths = [
        os.path.expandvars(spec.partition(":")[2].partition("?")[0])
        for spec in specs
        if spec.startswith("keras:")
    ]
    networks = paths if specs else [files.join(workdir, "teacher", "model.keras")]
    return frozenset().union(*(learned_by(network) or frozenset() for network in networks))
