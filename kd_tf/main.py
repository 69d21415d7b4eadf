"""Command line: `python -m kd_tf.main --stage=... --workdir=...`."""

import logging as std_logging
import os
import signal
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


_GOES_ON = "The same command goes on from the last checkpoint or shard."
# A message is for people; what it quotes may be as long as a file.
_LONGEST_MESSAGE = 8000


def main(argv: list[str]) -> None:
    """Turns the flags into a `Config` and runs one stage; a user's error is one clear line."""
    if len(argv) > 1:
        _stop(f"unknown arguments: {' '.join(argv[1:])}. Settings are written --name=value.")
    # A training watches for signals itself, to save first.
    for signum in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _end)
    try:
        settings = flags.read()
        # Imported here: --help and refused settings must not wait for TensorFlow.
        from kd_tf import stages

        stages.run(settings)
    except UserError as error:
        _stop(str(error))


def _end(signum: int, frame: object) -> None:
    """Ends the process where it is: files appear whole or not at all, and unwinding may abort."""
    del frame
    _tell(f"{signal.Signals(signum).name}: stopped. {_GOES_ON}")
    _leave(128 + signum)


def _stop(message: str) -> None:
    _tell(message)
    sys.exit(1)


def _tell(message: str) -> None:
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]} ... ({len(message)} letters in all)"
    text = f"kd_tf: error: {message}\n".encode("utf-8", "backslashreplace")
    sys.stderr.flush()
    sys.stderr.buffer.write(text)
    sys.stderr.flush()


def entry_point() -> None:
    """Runs the command line; also the `kd-tf` script."""
    sys.modules["__main__"].__doc__ = _USAGE
    flags.define()
    absl_flags.FLAGS.set_default("verbosity", logging.INFO)
    logging.get_absl_handler().setFormatter(std_logging.Formatter("%(message)s"))
    try:
        app.run(main, flags_parser=_parse)
    except SystemExit as stop:
        if flags.asks_for_help(sys.argv[1:]) and stop.code == 1:
            raise SystemExit(0) from None
        if isinstance(stop.code, int) and stop.code:
            _leave(stop.code)
        raise


def _parse(arguments: list[str]) -> list[str]:
    """absl's own parsing; a flagfile that is no text is one line, too."""
    try:
        return app.parse_flags_with_usage(arguments)
    except (UnicodeError, OSError, RecursionError, ValueError) as error:
        _stop(f"the flags cannot be read: {error}. A --flagfile is UTF-8 text, a flag a line.")
        raise


def _leave(code: int) -> None:
    """Ends the process at once: with a half-read pipeline, tidying up may abort with a dump."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    entry_point()
