"""What a training stage builds on must be of its own network and class list, order included.

Weights are copied by position, and class indices mean nothing but a place in a list: of another
order every number would still fit, and the student would call each class by another's name.
"""

import itertools
from collections.abc import Sequence

from kd_tf.detectors.saving import read_spec
from kd_tf.errors import UserError


def check_first_weights(path: str, *, network: str, class_names: Sequence[str]) -> None:
    """Raises UserError unless the network in a file is the one that is trained further."""
    spec = read_spec(path)
    if spec["name"] != network:
        raise UserError(
            f"{path} holds a {spec['name']}, and fine-tuning goes on with the same network, not "
            f"with --student={network}. Give --student={spec['name']}, or pre-train {network} in "
            "another --workdir."
        )
    check_class_names(path, spec["class_names"], class_names)


def check_class_names(what: str, found: Sequence[str], labeled: Sequence[str]) -> None:
    """Raises UserError unless two class lists are equal, name by name.

    Args:
        what: What has the classes `found`.
        found: Class names in the order of their indices.
        labeled: Those of the labelled data.
    """
    if tuple(found) == tuple(labeled):
        return
    pairs = itertools.zip_longest(found, labeled, fillvalue="none")
    place, (there, here) = next((i, pair) for i, pair in enumerate(pairs, 1) if len(set(pair)) > 1)
    raise UserError(
        f"{what} and the labelled data must have the same classes in the same order: they have "
        f"{len(found)} and {len(labeled)}, and number {place} is {there!r} and {here!r}. Give "
        "--classes with one list to every stage, or make the pseudo labels with --labeled too, in "
        "another --workdir."
    )
