"""What a JSON file must hold, and the one sentence that says where it does not.

A schema is NUMBER, WHOLE, TEXT, FLAG or ANY; [S] for a list of S; {TEXT: S} for a table of any
keys; {"key": S, "other?": S} for a table of these keys, those with a question mark optional, and
any others beside them; (S, None) where null is allowed too.
"""

from kd_tf.errors import UserError
from kd_tf.values import Json, show, to_number

NUMBER, WHOLE, TEXT, FLAG, ANY = "a number", "a whole number", "a text", "true or false", "anything"

Schema = str | list["Schema"] | dict[str, "Schema"] | tuple["Schema", None]


def check(value: Json, schema: Schema, *, path: str, advice: str) -> None:
    """Raises UserError unless a file's content is as its schema says.

    Args:
        value: The content.
        schema: See above.
        path: The file, for the message.
        advice: What to do with such a file, for the message.
    """
    found = _fault(value, schema, place="")
    if found:
        raise UserError(f"{path} is damaged: {found}. {advice}")


def _fault(value: Json, schema: Schema, *, place: str) -> str:
    """Where and why a value is not as its schema says; "" where it is."""
    if isinstance(schema, tuple):
        return "" if value is None else _fault(value, schema[0], place=place)
    if isinstance(schema, str):
        if _is(value, schema):
            return ""
        return f"{place or 'it'} holds {show(value)}, {schema} is needed"
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"{place or 'it'} holds {show(value)}, a list is needed"
        parts = ((f"{place}[{n}]", part, schema[0]) for n, part in enumerate(value))
    else:
        if not isinstance(value, dict):
            return f"{place or 'it'} holds {show(value)}, a table is needed"
        missing = [k for k in schema if k != TEXT and not k.endswith("?") and k not in value]
        if missing:
            return f"{place or 'it'} lacks {missing[0]!r}"
        parts = (
            (f"{place}.{key[:40]}" if place else key[:40], part, _schema_of(key, schema))
            for key, part in value.items()
        )
    return next(filter(None, (_fault(p, s, place=where) for where, p, s in parts)), "")


def _schema_of(key: str, table: dict[str, Schema]) -> Schema:
    for name in (key, f"{key}?", TEXT):
        if name in table:
            return table[name]
    return ANY


def _is(value: Json, schema: str) -> bool:
    if schema == ANY:
        return True
    if schema == TEXT:
        return isinstance(value, str)
    if schema == FLAG:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if schema == WHOLE:
        return isinstance(value, int) and abs(value) < 2**62
    return to_number(value) is not None
