"""Values that people and other programs wrote: what they stand for, and how a message shows them.

Imports nothing heavy: exported detectors run with NumPy and Pillow alone.
"""

import math
import re

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_SHOWN = 100
# No whole number in a file of ours or others needs more; Python's own limit is 4,300 digits.
_MAX_WHOLE = 2**62


def to_whole(value: object) -> int | None:
    """The whole number a value stands for: 7, 7.0 or "7"; None where it stands for none.

    Truth values, NaN, fractions and numbers beyond 2^62 stand for none.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,19}(\.0*)?", value):
            return None
        value = int(value.partition(".")[0])
    if isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    return value if isinstance(value, int) and abs(value) <= _MAX_WHOLE else None


def to_number(value: object) -> float | None:
    """The finite number a value stands for: 0.5, 1 or "0.5"; None where it stands for none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?[0-9.]+([eE][+-]?[0-9]+)?\s*", value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def to_flag(value: object) -> bool | None:
    """The truth value a value stands for: true, 0, 1.0, "0", "true", "No"; None for none."""
    words = {"0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
    if isinstance(value, str):
        return words.get(value.strip().lower())
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    return None


def show(value: object, limit: int = _SHOWN) -> str:
    """A value for a message: quoted where it is text, cut where it is long, printable anywhere."""
    text = value if isinstance(value, str) else _shallow(value)
    cut = text[:limit]
    text = repr(cut) if isinstance(value, str) else cut
    text = text.encode("utf-8", "backslashreplace").decode()
    return text + ("..." if len(cut) == limit else "")


def _shallow(value: object) -> str:
    """A value as text; of a list or table only its size, as it may hold anything."""
    if isinstance(value, dict):
        return f"a table with {len(value)} keys"
    if isinstance(value, (list, tuple)):
        plain = len(value) <= 8 and not any(isinstance(v, (list, tuple, dict)) for v in value)
        return (
            f"[{', '.join(map(_shallow, value))}]"
            if plain and value
            else (f"a list of {len(value)}")
        )
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)
