"""Two steps of every training stage of a flagfile, on a few photos and any machine.

    KD_TF_DATA=FOLDER python -m experiments.coco.dry_run experiments/coco/gpu1.txt

FOLDER holds coco_tiny/ and coco_unlabeled/. What the machine or the time does not allow is
replaced, and every replacement is printed; flags behind the flagfile win over both.
"""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from absl import flags as absl_flags
from absl import logging

from kd_tf import config, flags
from kd_tf.errors import UserError

STAGES = ("teacher", "pseudo", "pretrain", "finetune", "baseline")
_FOLDER = "${KD_TF_DATA}/coco_tiny"
_TINY = f"coco:{_FOLDER}/annotations/instances_%s2017.json?images={_FOLDER}/%s2017"
_REPLACED = {
    "labeled": (_TINY % ("train", "train"),),
    "val_data": "",
    "unlabeled": ("images:${KD_TF_DATA}/coco_unlabeled/0000000000[0-4]*.jpg",),
    "eval_data": _TINY % ("val", "val"),
    "label_ids": "",
    "strategy": "one",
    "tpu": "local",
    # XLA takes minutes on a CPU to compile what it then runs twice.
    "jit_compile": False,
    "backbone_weights": "",
    "batch_size": 4,  # what the largest --accumulate of the recipes divides
    "pseudo_batch_size": 4,
    "image_size": "160x160",
    "teacher_steps": 2,
    "pretrain_steps": 2,
    "finetune_steps": 2,
    "steps_per_call": 1,
    "num_shards": 1,
}


def read(arguments: Sequence[str]) -> config.Config:
    """The settings of flags and flagfiles, as the program reads them.

    Raises:
        UserError: A flag is unknown or wrong.
    """
    values = absl_flags.FlagValues()
    flags.define(values)
    try:
        values(["kd_tf", *arguments])
    except absl_flags.Error as error:
        raise UserError(str(error)) from error
    return flags.read(values)


def replaced(settings: config.Config, *, keep: Sequence[str]) -> config.Config:
    """The settings made small; those named in `keep` stay, with their stages' own forms."""
    small = {name: value for name, value in _REPLACED.items() if name not in keep}
    # A stage's own --teacher_batch_size would win over the small common one.
    own = tuple((k, v) for k, v in settings.overrides if k in keep or _common(k) not in small)
    return dataclasses.replace(settings, **small, overrides=own)


def _common(name: str) -> str:
    """The common setting behind a stage's own form, `teacher_batch_size` -> `batch_size`."""
    stage, _, rest = name.partition("_")
    return rest if stage in config.OVERRIDING else name


def differences(before: config.Config, after: config.Config) -> list[str]:
    """One line for every setting that was replaced."""
    lines = [
        f"{field.name}: {_text(getattr(before, field.name))} -> {_text(getattr(after, field.name))}"
        for field in config.fields()
        if getattr(before, field.name) != getattr(after, field.name)
    ]
    kept = dict(after.overrides)
    lines += [f"{k}: {v} -> as {_common(k)}" for k, v in before.overrides if k not in kept]
    return lines


def _text(value: object) -> str:
    text = " and ".join(value) if isinstance(value, tuple) else str(value)
    return text or "(none)"


def main(argv: Sequence[str]) -> None:
    """The command line: flagfiles first, then flags of one's own."""
    files = [one for one in argv if not one.startswith("--")]
    own = [one for one in argv if one.startswith("--")]
    if not files:
        raise UserError(f"Give a flagfile.\n\n{__doc__}")
    os.environ.setdefault("COCO", "(COCO)")  # of a recipe whose data are replaced anyway
    before = read([f"--flagfile={one}" for one in files])
    after = replaced(read([*(f"--flagfile={one}" for one in files), *own]), keep=_names(own))
    print("Replaced for the dry run:")
    print("\n".join(f"  {line}" for line in differences(before, after)), flush=True)
    from kd_tf import stages

    logging.set_verbosity(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        for stage in STAGES:
            stages.run(dataclasses.replace(after, stage=stage, workdir=folder))
    print(f"Dry run of {' '.join(files)}: {', '.join(STAGES)} built and trained 2 steps.")


def _names(arguments: Sequence[str]) -> list[str]:
    return [one.removeprefix("--").partition("=")[0] for one in arguments]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"experiments.coco.dry_run: error: {error}")
