import json

import pytest
import tensorflow as tf

from kd_tf.training import summaries


def _scalars(folder):
    """(tag, step, value) of all events, read with TensorFlow's record reader."""
    found = []
    for path in tf.io.gfile.glob(f"{folder}/tensorboard/*"):
        for record in tf.data.TFRecordDataset(path):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.append((value.tag, event.step, float(tf.make_ndarray(value.tensor))))
    return found


def test_flush_writes_both_files_once(tmp_path):
    log = summaries.open_log(str(tmp_path), step=0, validated=[])
    log.pending.append({"step": 1, "loss": 0.5, "learning_rate": 0.25})
    assert summaries.read_metrics(str(tmp_path)) == []
    summaries.flush(log)
    log.pending.append({"step": 1, "val_ap": 0.75})
    summaries.flush(log)
    summaries.flush(log)
    assert summaries.read_metrics(str(tmp_path)) == [
        {"step": 1, "loss": 0.5, "learning_rate": 0.25},
        {"step": 1, "val_ap": 0.75},
    ]
    assert sorted(_scalars(tmp_path)) == [
        ("learning_rate", 1, 0.25),
        ("loss", 1, 0.5),
        ("val_ap", 1, 0.75),
    ]


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        pytest.param(0, [], id="from_the_start"),
        pytest.param(2, [1, 2], id="rows_after_the_checkpoint_go"),
        pytest.param(9, [1, 2, 3], id="all_stay"),
    ],
)
def test_open_log_cuts_what_will_be_done_again(tmp_path, step, kept):
    rows = "".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 3))
    (tmp_path / "metrics.jsonl").write_text(rows + '{"step": 4, "lo')  # Cut off by a crash.
    summaries.open_log(str(tmp_path), step=step, validated=[])
    assert [row["step"] for row in summaries.read_metrics(str(tmp_path))] == kept


def test_open_log_cuts_a_validation_that_was_not_noted_as_done(tmp_path):
    rows = [{"step": 2, "val_ap": 0.25}, {"step": 4, "loss": 0.5}, {"step": 4, "val_ap": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summaries.open_log(str(tmp_path), step=4, validated=[2])
    assert summaries.read_metrics(str(tmp_path)) == rows[:2]


def test_a_log_without_folder_forgets():
    log = summaries.open_log(None, step=0, validated=[])
    log.pending.append({"step": 1})
    summaries.flush(log)
    assert log.pending == []
