"""Maps the class names of a data set to the class list of the run, by name only."""

import difflib
from collections.abc import Sequence

import numpy as np

from kd_tf.errors import UserError


def map_classes(
    found: Sequence[str],
    class_names: Sequence[str] | None,
    *,
    drop_classes: Sequence[str] = (),
    where: str,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Finds the run's index of each class of a data set.

    Args:
        found: Class names of the data set, in its own order.
        class_names: The run's class list; None takes the data set's, less the dropped ones.
        drop_classes: Names of the data set whose boxes are left out on purpose; "*" drops
            every name that is not in `class_names`.
        where: The data set, for the message.

    Returns:
        The class list, and an int32 array [len(found)] with the index of each found
        class in it; -1 where the class is dropped.

    Raises:
        UserError: A name is there twice, or is not in `class_names` and not dropped.
    """
    _refuse_repeats(found, where)
    dropped = set(drop_classes)
    if class_names is None:
        class_names = tuple(name for name in found if name not in dropped)
    rank = {name: index for index, name in enumerate(class_names)}
    unknown = [name for name in found if name not in rank and name not in dropped]
    if unknown and "*" not in dropped:
        raise UserError(_unknown_message(unknown, class_names, where))
    indices = [-1 if name in dropped else rank.get(name, -1) for name in found]
    return tuple(class_names), np.array(indices, np.int32).reshape(-1)


def judged_classes(indices: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
    """The run's classes that a data set's annotators looked for; None where that is all.

    Args:
        indices: As `map_classes` returns them.
        class_names: The run's class list.
    """
    judged = np.unique(indices[indices >= 0]).astype(np.int32)
    return None if len(judged) == len(class_names) else judged


def _refuse_repeats(found: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in found if list(found).count(name) > 1})
    if repeated:
        raise UserError(
            f"{where} names the class {repeated[0]!r} more than once; labels are mapped by "
            "name, so each class needs a name of its own. Rename or merge them."
        )


def _unknown_message(unknown: list[str], class_names: Sequence[str], where: str) -> str:
    near = difflib.get_close_matches(unknown[0], list(class_names), n=1)
    hint = f" Did you mean {near[0]!r} by {unknown[0]!r}?" if near else ""
    shown = ", ".join(repr(name) for name in unknown[:20])
    more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
    return (
        f"{where} has classes that are not in the run's class list: {shown}{more}. "
        f"The list: {', '.join(class_names)}.{hint} Add them to the list or drop them by name."
    )
