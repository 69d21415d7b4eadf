"""Images that are held out are refused before a student learns from them."""

import dataclasses

import pytest

from kd_tf import files, manifests, stages
from kd_tf.data.scenes import CLASS_NAMES
from kd_tf.data.shards import RecordSet
from kd_tf.errors import UserError
from kd_tf.stages import preflight
from kd_tf.stages.run import Run
from tests.stages.oracle import NUM


def _num_labelled(settings) -> int:
    stages.run(settings)
    return len(RecordSet.open(files.join(settings.workdir, "pseudo")))


def test_unlabeled_images_of_the_validation_set_are_refused(settings):
    leaky = dataclasses.replace(settings, unlabeled=(f"scenes:train?num={NUM}&size=64&name=own",))
    with pytest.raises(
        UserError, match=r"(?s)12 images of the validation.*own/.*--allow_leakage=own\."
    ):
        stages.run(leaky)
    assert _num_labelled(dataclasses.replace(leaky, allow_leakage="own")) == NUM


@pytest.mark.parametrize(
    ("teachers", "threshold"),
    [pytest.param(1, "0.5", id="beside"), pytest.param(2, "0.5", id="two"),
     pytest.param(1, "auto", id="at_the_end")],
)  # fmt: skip
def test_unlabeled_images_of_the_evaluation_set_are_refused(settings, teachers, threshold):
    leaky = dataclasses.replace(
        settings, labeled=(), classes=",".join(CLASS_NAMES), score_threshold=threshold,
        teacher=(*settings.teacher, "python:tests.stages.oracle:build?name=two")[:teachers],
        eval_data="scenes:unlabeled?num=3&size=64&name=test&labels=1", boxes_per_image=4.0,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"(?s)3 of the 3 .*unlabeled/.*--allow_leakage=test\."):
        stages.run(leaky)
    assert not manifests.is_complete(files.join(settings.workdir, "pseudo"))
    # As in stage evaluate, the name is that of the evaluation data.
    with pytest.raises(UserError, match="--eval_data"):
        stages.run(dataclasses.replace(leaky, allow_leakage="unlabeled"))
    assert _num_labelled(dataclasses.replace(leaky, allow_leakage="test")) == NUM


def test_one_teacher_stops_at_the_first_shard_of_held_out_images(settings):
    leaky = dataclasses.replace(
        settings, unlabeled=(f"scenes:train?num={NUM}&size=64&name=own",), num_shards=NUM
    )
    slow = dataclasses.replace(
        leaky, teacher=("python:tests.stages.oracle:build_slow?name=all",), pseudo_batch_size=1
    )
    with pytest.raises(UserError, match="the validation data are also in the 1 images looked at"):
        stages.run(slow)
    found = files.list_folder(files.join(settings.workdir, "predictions", "all"))
    assert len([name for name in found if name.endswith(".tfrecord")]) < NUM


def test_check_of_a_finished_workdir_still_compares_new_evaluation_data(settings):
    stages.run(settings)
    own = "scenes:{}?num=3&size=64&name=test&labels=1"

    def check(**changes) -> None:
        preflight.check(Run(dataclasses.replace(settings, **changes), redo=True))

    check(eval_data="scenes:eval?num=3&size=64")
    for split in ("train", "unlabeled"):
        with pytest.raises(UserError, match="of the 3 images of --eval_data"):
            check(eval_data=own.format(split))
        check(eval_data=own.format(split), allow_leakage="test")
    # Labels of other images will be made anew.
    check(eval_data=own.format("unlabeled"), unlabeled=("scenes:eval?num=3&size=64",))
