"""absl flags from the table of settings, and back to a `Config` and a flagfile."""

import dataclasses
import functools
from collections.abc import Sequence

from absl import flags

from kd_tf import checks, config, specs

_DEFINE = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    tuple: flags.DEFINE_multi_string,
}

# Said of one call, not of the work.
_OF_ONE_CALL = ("overwrite", "dry_run", "worker_index", "num_workers")


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one flag per setting, and --STAGE_NAME for settings that stages may override.

    Numbers and choices are checked by `checks.check`, not by absl, so that a value
    is refused with the same words from the command line, a flagfile and Python.
    """
    for field in config.fields():
        module = f"kd_tf: {field.metadata['group']}"
        kind = type(field.default)
        default = list(field.default) if kind is tuple else field.default
        define_one = functools.partial(_DEFINE[kind], flag_values=flag_values, module_name=module)
        define_one(field.name, default, _help(field))
        for stage in config.override_stages(field):
            define_one(f"{stage}_{field.name}", None, f"--{field.name} of stage {stage} alone.")


def read(flag_values: flags.FlagValues = flags.FLAGS) -> config.Config:
    """The parsed flags as a checked `Config`.

    Raises:
        UserError: A value is not allowed, or two contradict each other.
    """
    values, overrides = {}, []
    for field in config.fields():
        value = _value(flag_values, field.name, field)
        values[field.name] = tuple(value or ()) if isinstance(field.default, tuple) else value
        for stage in config.override_stages(field):
            name = f"{stage}_{field.name}"
            if flag_values[name].value is not None:
                overrides.append((name, _value(flag_values, name, field)))
    result = config.Config(**values, overrides=tuple(overrides))
    checks.check(result)
    return result


def _value(flag_values: flags.FlagValues, name: str, field: dataclasses.Field) -> object:
    value = flag_values[name].value
    return specs.expand(value) if field.metadata.get("path") else value


def to_flagfile(settings: config.Config) -> str:
    """The settings that differ from their defaults, as the text of a flagfile."""
    lines = []
    for field in config.fields():
        value = getattr(settings, field.name)
        if value != field.default and field.name not in _OF_ONE_CALL:
            several = value if isinstance(value, tuple) else (value,)
            lines += [_line(field.name, one) for one in several]
    lines += [_line(name, value) for name, value in settings.overrides]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={value}"


def _help(field: dataclasses.Field) -> str:
    text = field.metadata["help"]
    for limit, words in (("choices", "One of"), ("parts", "A comma list of")):
        if limit in field.metadata:
            text += f" {words}: {', '.join(field.metadata[limit])}."
    return text


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether help is asked for, which absl ends with code 1."""
    names = {text.lstrip("-").partition("=")[0] for text in arguments if text.startswith("-")}
    return bool(names & {"help", "helpfull", "helpshort", "helpxml", "?"})
