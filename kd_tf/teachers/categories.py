"""The class list of a run, and which teacher knows which of its classes under which name."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.manifests import content_hash
from kd_tf.specs import names_list
from kd_tf.teachers.synonyms import canonical

_DROP = "-"
# Of 1, 2, 3 and 5 the lowest that kept the better teacher's AP and labels (experiments/fusion).
_AP_POWER = 3
# A teacher that seems to find nothing still counts a little: validation images may be few.
_LEAST_AP_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the user said about names, which wins over names and synonyms.

    Attributes:
        to_run: A teacher's class name -> the run's class name. Several to one is a merge.
            "teacher/name" holds for that teacher only.
        drop: Teachers' class names (or "teacher/name") that are left out.
        drop_unknown: Leave out every class that maps nowhere, instead of refusing it.
    """

    to_run: Mapping[str, str] = dataclasses.field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    drop_unknown: bool = False


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Which teacher knows which class: the coverage matrix.

    Attributes:
        class_names: The run's C classes.
        teachers: Names of the T teachers.
        class_maps: For each teacher [K] int32: the run's class of each of its classes, -1
            where it is dropped.
        known: [T, C] bool.
        names: For each teacher its class names, in its order.
    """

    class_names: tuple[str, ...]
    teachers: tuple[str, ...]
    class_maps: tuple[np.ndarray, ...]
    known: np.ndarray
    names: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict:
        """Class by class who knows it and under which names; what is dropped."""
        return {
            "class_names": list(self.class_names),
            "teachers": {
                teacher: {
                    "known": {
                        name: self._own_names(t, index)
                        for index, name in enumerate(self.class_names)
                        if self.known[t, index]
                    },
                    "dropped": [
                        own for own, to in zip(self.names[t], self.class_maps[t], strict=True)
                        if to < 0
                    ],
                }
                for t, teacher in enumerate(self.teachers)
            },
        }  # fmt: skip

    def hash(self) -> str:
        """Hex sha256 of all of it, for the manifests that depend on it."""
        return content_hash(self.to_json())

    def table(self) -> str:
        """The matrix as text: a line per class, a column per teacher."""
        wide = max([len(name) for name in self.class_names] + [len("class")])
        head = "  ".join(teacher for teacher in self.teachers)
        lines = [f"{'class':<{wide}}  {head}"]
        for index, name in enumerate(self.class_names):
            cells = [
                self._cell(t, index).ljust(len(teacher)) for t, teacher in enumerate(self.teachers)
            ]
            lines.append(f"{name:<{wide}}  {'  '.join(cells)}".rstrip())
        for t, teacher in enumerate(self.teachers):
            dropped = int((self.class_maps[t] < 0).sum())
            lines.append(f"{teacher}: {int(self.known[t].sum())} classes, {dropped} dropped")
        return "\n".join(lines)

    def _own_names(self, teacher: int, index: int) -> list[str]:
        pairs = zip(self.names[teacher], self.class_maps[teacher], strict=True)
        return [own for own, to in pairs if to == index]

    def _cell(self, teacher: int, index: int) -> str:
        own = self._own_names(teacher, index)
        if not own:
            return "."
        return "x" if own == [self.class_names[index]] else "=" + ",".join(own)


def cover(
    teachers: Mapping[str, Sequence[str]],
    class_names: Sequence[str],
    *,
    rules: Rules | None = None,
) -> Coverage:
    """Maps every teacher's classes into the run's class list: by rule, by name, by synonym.

    Args:
        teachers: Class names of each teacher, by the teacher's name.
        class_names: The run's class list; may be `joint_class_names`.
        rules: What the user said about names.

    Raises:
        UserError: A class maps nowhere and is not dropped; a rule names a class that no
            teacher has or the run has not; two classes of the run are synonyms.
    """
    rules = rules or Rules()
    _check_rules(teachers, class_names, rules)
    index = {name: i for i, name in enumerate(class_names)}
    by_canonical: dict[str, int] = {}
    for name, i in index.items():
        other = by_canonical.setdefault(canonical(name, class_names), i)
        if other != i:
            raise UserError(
                f"The classes {class_names[other]!r} and {name!r} are two names of one thing. "
                "Leave one out of --classes."
            )
    class_maps, unmapped = [], []
    for teacher, names in teachers.items():
        found = [
            _find(name, teacher, names, rules=rules, index=index, by_canonical=by_canonical)
            for name in names
        ]
        _refuse_joined(teacher, names, found, rules=rules, class_names=class_names)
        unmapped += [
            f"{teacher}: {name}{_nearest(name, class_names)}"
            for name, to in zip(names, found, strict=True)
            if to is None and not rules.drop_unknown
        ]
        class_maps.append(np.array([-1 if to is None else to for to in found], np.int32))
    if unmapped:
        raise UserError(_unmapped_message(unmapped, class_names))
    known = np.zeros((len(teachers), len(class_names)), bool)
    for t, class_map in enumerate(class_maps):
        known[t, class_map[class_map >= 0]] = True
    return Coverage(
        tuple(class_names), tuple(teachers), tuple(class_maps), known,
        tuple(tuple(names) for names in teachers.values()),
    )  # fmt: skip


def joint_class_names(
    teachers: Mapping[str, Sequence[str]], *, rules: Rules | None = None
) -> tuple[str, ...]:
    """The classes of all teachers, synonyms once, in the order they first appear."""
    rules = rules or Rules()
    found: dict[str, str] = {}
    for teacher, names in teachers.items():
        for name in names:
            to = _by_rule(name, teacher, rules)
            if to != _DROP:
                found.setdefault(canonical(to or name, names), to or name)
    return tuple(found.values())


def read_rules(text: str, *, drop_unknown: bool = False) -> Rules:
    """Rules from a file or from text: "teacher name=run name" and "teacher name=-" to drop.

    Rules are separated by commas or line ends; "#" begins a comment line. A key may be
    "teacher/name". For example "car=vehicle,truck=vehicle,bird=-". A rule with a comma in a name
    stands in double quotes: "\"bus, parked=bus\",car=vehicle".

    Raises:
        UserError: A rule without "=", or a name with two rules.
    """
    content = documents.read_text(text) if text and files.exists(text) else text
    lines = documents.split_lines(content)
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    to_run: dict[str, str] = {}
    drop: set[str] = set()
    for rule in (part for line in lines for part in names_list(line)):
        name, equals, to = (part.strip(' "') for part in rule.partition("="))
        if not equals or not name or not to:
            raise UserError(
                f"The class rule {rule!r} needs the form name=name, or name={_DROP} to leave the "
                "class out."
            )
        if name in to_run or name in drop:
            raise UserError(f"The class {name!r} has two rules.")
        if to == _DROP:
            drop.add(name)
        else:
            to_run[name] = to
    return Rules(to_run, frozenset(drop), drop_unknown)


def weights(
    coverage: Coverage,
    *,
    teacher_weights: Mapping[str, float] | None = None,
) -> np.ndarray:
    """How much each teacher counts in each class, for fusion.

    Args:
        coverage: Who knows what.
        teacher_weights: Factor by teacher; 1 where not given. See `weights_by_ap`.

    Returns:
        [T, C] float64; 0 where the teacher does not know the class.

    Raises:
        UserError: An unknown teacher.
    """
    table = coverage.known.astype(np.float64)
    for name, value in (teacher_weights or {}).items():
        if name not in coverage.teachers:
            raise UserError(
                f"A weight is given for teacher {name!r}. Known: {', '.join(coverage.teachers)}."
            )
        table[coverage.teachers.index(name)] *= value
    return table


def weights_by_ap(coverage: Coverage, ap_by_class: Sequence[Sequence[float]]) -> dict[str, float]:
    """The weight of each teacher: its AP to the third power, the best teacher's being 1.

    With equal weights a teacher of half the AP costs the better one up to .07 AP and a sixth of
    its right labels; so weighted, at most .01 and none (experiments/fusion). Source: ours.

    Args:
        coverage: Who knows what.
        ap_by_class: [T][C] AP of each teacher on labelled images; NaN where a class has no object.

    Returns:
        Weights in (0, 1]. Teachers are compared over the classes that at least two of them know;
        all are 1 where there are none, or where no AP is above 0.
    """
    shared = coverage.known & (coverage.known.sum(axis=0) > 1)
    measured = shared & np.isfinite(ap_by_class)
    ap = np.where(measured, np.nan_to_num(np.asarray(ap_by_class, np.float64)), 0.0).sum(axis=1)
    ap /= np.maximum(measured.sum(axis=1), 1)
    if not ap.max(initial=0.0) > 0:
        return dict.fromkeys(coverage.teachers, 1.0)
    # A teacher that shares no class with another competes with nobody.
    share = np.where(measured.any(axis=1), np.maximum(ap / ap.max(), _LEAST_AP_SHARE), 1.0)
    return dict(zip(coverage.teachers, (share**_AP_POWER).tolist(), strict=True))


def rules_for(rules: Rules, teacher: str, names: Sequence[str]) -> Rules:
    """The rules without those for classes that only other teachers have."""
    own = {*names, *(f"{teacher}/{name}" for name in names)}
    to_run = {key: to for key, to in rules.to_run.items() if key in own}
    return dataclasses.replace(rules, to_run=to_run, drop=rules.drop & own)


def _by_rule(name: str, teacher: str, rules: Rules) -> str | None:
    for key in (f"{teacher}/{name}", name):
        if key in rules.drop:
            return _DROP
        if key in rules.to_run:
            return rules.to_run[key]
    return None


def _find(
    name: str,
    teacher: str,
    names: Sequence[str],
    *,
    rules: Rules,
    index: Mapping[str, int],
    by_canonical: Mapping[str, int],
) -> int | None:
    """The run's class, -1 for a dropped one, None for one that maps nowhere."""
    to = _by_rule(name, teacher, rules)
    if to == _DROP:
        return -1
    if to is not None:
        return index[to]
    return by_canonical.get(canonical(name, names))


def _refuse_joined(
    teacher: str,
    names: Sequence[str],
    found: Sequence[int | None],
    *,
    rules: Rules,
    class_names: Sequence[str],
) -> None:
    """Two classes of a teacher become one only where a rule says so."""
    met: dict[int, str] = {}
    for name, to in zip(names, found, strict=True):
        if to is None or to < 0 or _by_rule(name, teacher, rules) is not None:
            continue
        if to in met:
            raise UserError(
                f"The classes {met[to]!r} and {name!r} of teacher {teacher} both fit the run's "
                f"{class_names[to]!r}. Say which by --class_map: {name}={class_names[to]} joins "
                f"them, {name}=- leaves one out."
            )
        met[to] = name


def _check_rules(
    teachers: Mapping[str, Sequence[str]], class_names: Sequence[str], rules: Rules
) -> None:
    known = {name for names in teachers.values() for name in names}
    known |= {f"{teacher}/{name}" for teacher, names in teachers.items() for name in names}
    for key in sorted({*rules.to_run, *rules.drop} - known):
        raise UserError(
            f"A class rule names {key!r}, which no teacher has{_nearest(key, sorted(known))}."
        )
    for key, to in rules.to_run.items():
        if to not in class_names:
            raise UserError(
                f"The class rule {key}={to}: the run has no class {to!r}"
                f"{_nearest(to, class_names)}. It has: {', '.join(class_names)}."
            )


def _unmapped_message(unmapped: list[str], class_names: Sequence[str]) -> str:
    return (
        f"{len(unmapped)} classes of the teachers are none of the run's {len(class_names)} "
        f"({', '.join(class_names[:10])}{', ...' if len(class_names) > 10 else ''}):\n  "
        + "\n  ".join(unmapped)
        + "\nGive --class_map with name=class of the run, or name=- to leave a class out, or "
        "--drop_unknown_classes."
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (near: {near[0]})" if near else ""
