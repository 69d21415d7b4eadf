"""What a run leaves for people and reports: `metrics.jsonl` and TensorBoard scalars."""

import dataclasses
import json
from collections.abc import Collection

import tensorflow as tf

from kd_tf import documents, files
from kd_tf.schema import NUMBER, TEXT, WHOLE, check

_METRICS = "metrics.jsonl"
Row = dict[str, float | int]


@dataclasses.dataclass
class Log:
    """Rows not yet written.

    Those of updates are written together with checkpoints, those of validations before the run
    notes that they are done. What a killed run has of later ones, `open_log` cuts off.

    Attributes:
        folder: Of the run; None on workers that write nothing.
        writer: Of TensorBoard; None where `folder` is.
        pending: Rows since the last `flush`.
    """

    folder: str | None
    writer: tf.summary.SummaryWriter | None
    pending: list[Row] = dataclasses.field(default_factory=list)


def open_log(folder: str | None, *, step: int, validated: Collection[int]) -> Log:
    """A log that goes on after `step`.

    Rows of later steps are cut off, and validations of steps that are not in `validated`: those
    were written, but the run was killed before it noted that they were done.
    """
    if folder is None:
        return Log(None, None)
    kept = [
        row
        for row in read_metrics(folder)
        if row["step"] <= step and ("val_ap" not in row or row["step"] in validated)
    ]
    files.write_text(files.join(folder, _METRICS), "".join(_line(row) for row in kept))
    return Log(folder, tf.summary.create_file_writer(files.join(folder, "tensorboard")))


def flush(log: Log) -> None:
    """Appends the pending rows to both files."""
    if log.writer is not None and log.pending:
        with files.open_file(files.join(log.folder, _METRICS), "ab") as file:
            file.write("".join(_line(row) for row in log.pending).encode())
        with log.writer.as_default():
            for row in log.pending:
                _write_scalars(row)
        log.writer.flush()
    log.pending.clear()


def read_metrics(folder: str) -> list[Row]:
    """All rows, in order: of updates ("step", "loss", each term, "normalizer",
    "learning_rate", "gradient_norm", "images_per_s") and of validations ("step", "val_ap").

    "step" counts the updates done, 1 after the first. The row of an update that was not
    finite holds only its finite values. A last line cut off by a crash is left out.
    """
    path = files.join(folder, _METRICS)
    if not files.exists(path):
        return []
    advice = "Remove it: the curves begin anew, and the training goes on from its checkpoint."
    rows = documents.read_json_lines(path)
    check(rows, [{"step": WHOLE, TEXT: NUMBER}], path=path, advice=advice)
    return [row for row in rows if isinstance(row, dict)]


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _write_scalars(row: Row) -> None:
    for name, value in row.items():
        if name != "step":
            tf.summary.scalar(name, value, step=row["step"])
