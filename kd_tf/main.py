"""Command line: `python -m kd_tf.main --stage=... --workdir=...`."""

import logging as std_logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from absl import app, logging
from absl import flags as absl_flags

from kd_tf import flags
from kd_tf.errors import UserError

_USAGE = """Makes a small object detector from one or several big ones.

python -m kd_tf.main --stage=all            the whole chain on the embedded scenes
python -m kd_tf.main --stage=all --labeled=voc:DIR --eval_data=voc:DIR2   on your own images

The usual flags: --stage --workdir --labeled --unlabeled --eval_data --teacher --class_map
--label_fraction --image_size --teacher_model --student --teacher_steps --pretrain_steps
--finetune_steps --batch_size --learning_rate --score_threshold --export_formats --strategy
--precision --dry_run --overwrite. --helpfull explains every setting, in groups.
"""


def main(argv: list[str]) -> None:
    """Turns the flags into a `Config` and runs one stage; a user's error is one clear line."""
    if len(argv) > 1:
        _stop(f"unknown arguments: {' '.join(argv[1:])}. Settings are written --name=value.")
    try:
        settings = flags.read()
        # Imported here: --help and refused settings must not wait for TensorFlow.
        from kd_tf import stages

        stages.run(settings)
    except UserError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("interrupted. The same command goes on from the last checkpoint or shard.")


def _stop(message: str) -> None:
    print(f"kd_tf: error: {message}", file=sys.stderr)
    sys.exit(1)


def entry_point() -> None:
    """Runs the command line; also the `kd-tf` script."""
    sys.modules["__main__"].__doc__ = _USAGE
    flags.define()
    absl_flags.FLAGS.set_default("verbosity", logging.INFO)
    logging.get_absl_handler().setFormatter(std_logging.Formatter("%(message)s"))
    try:
        app.run(main)
    except SystemExit as stop:
        if isinstance(stop.code, int) and stop.code:
            _leave(stop.code)
        raise


def _leave(code: int) -> None:
    """Ends the process at once: with a half-read pipeline, tidying up may abort with a dump."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    entry_point()
