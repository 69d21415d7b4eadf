"""Refuses settings that are wrong or contradict each other, before any work starts."""

import dataclasses
import math
import os
import re

from kd_tf import config, specs
from kd_tf.errors import UserError

_SIZE_MULTIPLE = 32
_SHOWN = 100
_MAX_WHOLE = 10**18
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What patterns of files and specs give a meaning of their own.
_SPECIAL = re.compile(r"[*?\[\]\\]|%[0-9A-Fa-f]{2}")


def check(settings: config.Config) -> None:
    """Raises UserError for the first setting that cannot work; reads no file."""
    _check_workdir(settings.workdir)
    for field in config.fields():
        for name, value in _forms(settings, field):
            _check_value(name, value, field)
    _check_specs(settings)
    _check_size(settings)
    _check_labels(settings)
    _check_processes(settings)
    _check_training(settings)
    _check_run(settings)


def _check_workdir(workdir: str) -> None:
    found = _SPECIAL.search(workdir)
    if found:
        raise UserError(
            f"--workdir={workdir} holds {found[0]!r}, which has a meaning of its own in patterns "
            "of files and in specs, so stages would not find each other's records. Give a path "
            "without * ? [ ] \\ and % with two digits behind it."
        )


def _forms(settings: config.Config, field: dataclasses.Field) -> list[tuple[str, object]]:
    own = dict(settings.overrides)
    forms = [(field.name, getattr(settings, field.name))]
    for stage in config.override_stages(field):
        name = f"{stage}_{field.name}"
        if name in own:
            forms.append((name, own[name]))
    return forms


def _check_value(name: str, value: object, field: dataclasses.Field) -> None:
    limits = field.metadata
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and _CONTROL.search(text):
            raise UserError(
                f"--{name}={text[:_SHOWN]!a} holds a line end or another control character, which "
                "no path and no name here may hold."
            )
        if isinstance(text, str) and any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
            raise UserError(f"--{name}={text[:_SHOWN]!a} is not UTF-8.")
    if "choices" in limits:
        _check_word(name, value, limits["choices"])
    if "parts" in limits:
        parts = specs.names_list(value)
        if field.default and not parts:
            raise UserError(f"--{name} needs at least one of {', '.join(limits['parts'])}.")
        for part in parts:
            _check_word(name, part, limits["parts"])
        if len(set(parts)) < len(parts):
            raise UserError(f"--{name}={value} names one of them twice.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name}={value} is not a finite number.")
    if isinstance(value, int) and abs(value) > _MAX_WHOLE:
        raise UserError(f"--{name} has {len(str(abs(value))[:5000])} digits; at most 18 are taken.")
    if "low" in limits and value < limits["low"]:
        raise UserError(f"--{name}={value} must be at least {limits['low']}.")
    if "above" in limits and value <= limits["above"]:
        raise UserError(f"--{name}={value} must be greater than {limits['above']}.")
    if "below" in limits and value >= limits["below"]:
        raise UserError(f"--{name}={value} must be below {limits['below']}.")
    if "high" in limits and value > limits["high"]:
        raise UserError(f"--{name}={value} must be at most {limits['high']}.")


def _check_word(name: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        near = specs.nearest(word, known)
        raise UserError(f"--{name}={word} is not one of {', '.join(known)}.{near}")


def _check_specs(settings: config.Config) -> None:
    data = [*settings.labeled, *settings.unlabeled, settings.val_data, settings.eval_data]
    for text in filter(None, data):
        specs.parse(text, specs.DATA_KINDS)
    for text in (*settings.labeled, settings.val_data, settings.eval_data):
        if text.startswith("images:"):
            raise UserError(f"{text!r} has no labels; give it as --unlabeled.")
    teachers = [specs.parse(text, specs.TEACHER_KINDS).name for text in settings.teacher]
    unlabeled = [specs.parse(text, specs.DATA_KINDS).name for text in settings.unlabeled]
    labeled = [specs.parse(text, specs.DATA_KINDS).name for text in settings.labeled]
    for flag, given in (("teacher", teachers), ("unlabeled", unlabeled), ("labeled", labeled)):
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise UserError(
                f"--{flag}: {', '.join(twice)} is the name of two specs; add name=... to one."
            )


def _check_size(settings: config.Config) -> None:
    if not re.fullmatch(r"\d+x\d+", settings.image_size.lower()):
        raise UserError(f"--image_size={settings.image_size} must be HxW, for example 320x320.")
    for side in settings.size():
        if side < 2 * _SIZE_MULTIPLE or side % _SIZE_MULTIPLE:
            raise UserError(
                f"--image_size={settings.image_size}: {side} must be a multiple of "
                f"{_SIZE_MULTIPLE}, at least {2 * _SIZE_MULTIPLE}: the deepest feature map "
                f"has a stride of {_SIZE_MULTIPLE}."
            )


def _check_labels(settings: config.Config) -> None:
    given = [
        flag
        for flag, used in (
            ("--label_fraction", settings.label_fraction < 1.0),
            ("--num_labels", settings.num_labels > 0),
            ("--label_ids", bool(settings.label_ids)),
        )
        if used
    ]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} contradict each other; give one.")
    teacher_weights(settings)
    tta_scales(settings)
    chosen = config.with_defaults(settings).score_threshold
    if chosen == "auto":
        _check_auto(settings)
    if chosen == "auto" or threshold_file(settings):
        return
    threshold = float(chosen)
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"--score_threshold={threshold} must be in [0, 1].")
    if settings.ignore_threshold > threshold:
        raise UserError(
            f"--ignore_threshold={settings.ignore_threshold} must not exceed "
            f"--score_threshold={threshold}."
        )


def _check_processes(settings: config.Config) -> None:
    if settings.worker_index >= settings.num_workers:
        raise UserError(
            f"--worker_index={settings.worker_index} must be below "
            f"--num_workers={settings.num_workers}; workers count from 0."
        )
    if settings.overwrite and (settings.num_workers > 1 or settings.strategy == "multi_worker"):
        raise UserError(
            "--overwrite is for one process: of several, each would do anew what another has just "
            "done. Rename the stage's folder in the workdir and start all of them without it."
        )


def threshold_file(settings: config.Config) -> str:
    """The file that --score_threshold names; "" where it is a number or auto."""
    chosen = settings.score_threshold
    try:
        float(chosen or "0")
    except ValueError:
        return "" if chosen == "auto" else chosen
    return ""


def teacher_weights(settings: config.Config) -> dict[str, float]:
    """The weight of each teacher that --teacher_weights names."""
    text = settings.teacher_weights
    pairs = [part.partition("=") for part in specs.names_list(text)]
    try:
        found = {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        raise UserError(f"--teacher_weights={text!r} must look like big=2,small=1.") from None
    if not all(0.0 < value < float("inf") for value in found.values()):
        raise UserError(f"--teacher_weights={text!r}: weights must be greater than 0.")
    return found


def tta_scales(settings: config.Config) -> tuple[float, ...]:
    """The scales of --tta_scales; none where it is empty."""
    text = settings.tta_scales
    try:
        found = tuple(float(part) for part in specs.names_list(text))
    except ValueError:
        raise UserError(f"--tta_scales={text!r} must be numbers, for example 1,2.") from None
    if not all(0.0 < value < float("inf") for value in found):
        raise UserError(f"--tta_scales={text!r} must be numbers greater than 0.")
    return found


def _check_auto(settings: config.Config) -> None:
    if not settings.labeled and settings.unlabeled and not settings.boxes_per_image:
        raise UserError(
            "--score_threshold=auto needs --labeled data, or --boxes_per_image=N: how many "
            "objects an image has on average."
        )
    if settings.thresholds_for != "f1":
        try:
            wanted = float(settings.thresholds_for)
        except ValueError:
            wanted = -1.0
        if not 0.0 < wanted < 1.0:
            raise UserError(
                f"--thresholds_for={settings.thresholds_for} must be f1 or a precision in (0, 1)."
            )


def _check_training(settings: config.Config) -> None:
    for stage in config.OVERRIDING:
        batch, accumulate = settings.of(stage, "batch_size"), settings.of(stage, "accumulate")
        if batch % accumulate:
            raise UserError(
                f"stage {stage}: batch_size={batch} must be divisible by accumulate={accumulate}."
            )
        jitter = settings.of(stage, "scale_jitter")
        try:
            low, high = (float(part) for part in jitter.split(","))
        except ValueError:
            raise UserError(f"scale_jitter={jitter!r} must be two numbers: low,high.") from None
        if not 0.1 <= low <= high <= 10.0:
            raise UserError(f"scale_jitter={jitter!r} needs 0.1 <= low <= high <= 10.")
    if settings.jit_compile and settings.strategy in ("mirrored", "multi_worker"):
        raise UserError(
            f"--jit_compile does not work with --strategy={settings.strategy} "
            "(TensorFlow cannot compile a step that reads another device's variables)."
        )


def _check_run(settings: config.Config) -> None:
    if settings.num_workers > 1 and settings.stage != "pseudo":
        raise UserError(
            f"--num_workers={settings.num_workers} is for --stage=pseudo alone, which several "
            f"workers do together; got --stage={settings.stage}."
        )
    if bool(settings.workdirs) != (settings.stage == "compare"):
        raise UserError("--workdirs=A,B,C and --stage=compare go together.")
    if settings.strategy == "multi_worker" and "TF_CONFIG" not in os.environ:
        raise UserError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG "
            "(the cluster's addresses and this worker's index, as JSON)."
        )
