"""What each stage does, in one short function each; `run` picks it."""

import re
from collections.abc import Callable

import tensorflow as tf
from absl import logging

from kd_tf import config, files
from kd_tf.errors import UserError
from kd_tf.stages.run import Run, start

_LESS_MEMORY = (
    "For the stage it happened in, a smaller --STAGE_batch_size, or --STAGE_accumulate=N, which "
    "changes BatchNorm alone; STAGE is teacher, pretrain (also for the baseline) or finetune. "
    "Where teachers label, a smaller --pseudo_batch_size. A training that has saved no update "
    "takes them as they are; one that has must begin anew: add --overwrite. --image_size and "
    "--precision=bfloat16 save memory too, but finished trainings are done again with them."
)


def run(settings: config.Config) -> None:
    """Does what the settings ask for.

    Raises:
        UserError: Something the user gave does not work.
    """
    # Its warnings about retracing count every detector that is built as one that is traced anew.
    tf.get_logger().setLevel("ERROR")
    one = start(settings)
    logging.info("workdir: %s", settings.workdir)
    if one.strategy is not None:
        from kd_tf.stages import train

        train.check_all(one)
    try:
        if settings.verify:
            _verify(one)
        else:
            _STAGES[settings.stage](one)
    except UserError:
        raise
    except tf.errors.OpError as error:
        raise _told(error) from error
    except OSError as error:
        raise files.path_error(error, str(error.filename or settings.workdir)) from error


# How an error of Python looks in the text of one of TensorFlow, which ran it in a pipeline.
_OF_OURS = re.compile(r"(?:UserError|RejectedError|PathError): ([^\n]+)")
_OF_A_PATH = ("No space left", "Permission denied", "Read-only file system", "Not a directory")


def _told(error: tf.errors.OpError) -> Exception:
    """An error of TensorFlow as a sentence, where it is the user's; else itself."""
    ours = _OF_OURS.search(error.message)
    if ours:
        return UserError(ours[1])
    if any(text in error.message for text in _OF_A_PATH):
        return files.path_error(error, "A file cannot be written")
    if isinstance(error, tf.errors.ResourceExhaustedError):
        first = error.message.splitlines()[0]
        return UserError(f"The device is out of memory: {first} {_LESS_MEMORY}")
    return error


def _all(one: Run) -> None:
    from kd_tf.stages import preflight

    settings = one.settings
    preflight.check(one)
    chain = [_pseudo, _pretrain]
    if settings.labeled:
        chain += [_finetune, _baseline]
    else:
        logging.info("No --labeled: the student learns from pseudo labels alone.")
    chain.append(_export)
    if settings.labeled or settings.eval_data:
        chain.append(_evaluate)
    else:
        logging.warning("No --eval_data: nothing is scored.")
    for stage in [*chain, _report]:
        stage(one)


def _teacher(one: Run) -> None:
    from kd_tf.stages import train

    train.teacher(one)


def _pseudo(one: Run) -> None:
    from kd_tf.stages import pseudo, train

    if not one.settings.teacher:
        logging.info("No --teacher: stage teacher trains one first.")
        train.teacher(one, keep=True)
    pseudo.pseudo(one)


def _pretrain(one: Run) -> None:
    from kd_tf.stages import train

    train.pretrain(one)


def _finetune(one: Run) -> None:
    from kd_tf.stages import train

    train.finetune(one)


def _baseline(one: Run) -> None:
    from kd_tf.stages import train

    train.baseline(one)


def _evaluate(one: Run) -> None:
    from kd_tf.stages import evaluate

    evaluate.evaluate(one)


def _export(one: Run) -> None:
    from kd_tf.stages import export

    export.export(one)


def _report(one: Run) -> None:
    from kd_tf.stages import report

    report.report(one)


def _compare(one: Run) -> None:
    from kd_tf.stages import report

    report.compare(one)


def _probe(one: Run) -> None:
    from kd_tf.stages import probe

    probe.probe(one)


def _verify(one: Run) -> None:
    from kd_tf.stages import verify

    verify.verify(one)


_STAGES: dict[str, Callable[[Run], None]] = {
    "all": _all,
    "teacher": _teacher,
    "pseudo": _pseudo,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "baseline": _baseline,
    "evaluate": _evaluate,
    "export": _export,
    "report": _report,
    "compare": _compare,
    "probe": _probe,
}
