"""How a setting of `kd_tf.config` is written down."""

import dataclasses

TRAINING = ("teacher", "pretrain", "finetune", "baseline")
STUDENT = ("pretrain", "finetune", "baseline")


def setting(default, text: str, *, stages: tuple[str, ...] = (), group: str, **limits):
    """A field of `Config`.

    Args:
        default: The default; its type is the flag's type. () makes a repeatable text flag.
        text: The help, one sentence.
        stages: Those whose result depends on it; none for what changes only how a run goes.
        group: Heading in `--helpfull`.
        **limits: `choices` (allowed values), `parts` (those of a comma list), `low` and `high`
            (inclusive), `above` and `below` (exclusive); `per_stage=True` where --teacher_*,
            --pretrain_* and --finetune_* exist too; `path=True` where a file may be named.
    """
    metadata = {"help": text, "stages": stages, "group": group, **limits}
    return dataclasses.field(default=default, metadata=metadata)


def run(default, text, **more):
    """A setting of the run as a whole."""
    return setting(default, text, group="run", **more)


def data(default, text, *stages, **more):
    """A setting of what data there is; `stages` as arguments."""
    return setting(default, text, stages=stages, group="data", **more)


def labels(default, text, *, stages=("pseudo",), **more):
    """A setting of the pseudo labels."""
    return setting(default, text, stages=stages, group="pseudo labels", **more)


def train(default, text, *, stages=TRAINING, **more):
    """A setting of training."""
    return setting(default, text, stages=stages, group="training", **more)
