"""Every setting, once: name, type, default, help, allowed values, and the stages that own it.

The absl flags are made from this table (kd_tf/flags.py). A setting that owns a
stage is part of that stage's identity: changing it means doing the stage again.
"""

import dataclasses

from kd_tf import setting
from kd_tf.names import NAMES
from kd_tf.setting import STUDENT, TRAINING

_run, _data, _labels, _train = setting.run, setting.data, setting.labels, setting.train

STAGES = (
    "all",
    "teacher",
    "pseudo",
    "pretrain",
    "finetune",
    "baseline",
    "evaluate",
    "export",
    "report",
    "probe",
    "compare",
)
# Stages with their own form of a training setting (--pretrain_flip); the baseline takes pretrain's.
OVERRIDING = ("teacher", "pretrain", "finetune")
_SCENES = {"labeled": ("scenes:train",), "eval_data": "scenes:eval"}


@dataclasses.dataclass(frozen=True)
class Config:
    """One run's settings. Values in `overrides` win over the common ones of their stage."""

    stage: str = _run("all", "What to do.", choices=STAGES)
    workdir: str = _run(
        "runs/default", "Folder of the run; every stage has its own inside.", path=True
    )
    overwrite: bool = _run(
        False,
        "Do a stage again, or with --stage=all those whose settings changed; the old folder is "
        "kept, and teachers' answers. For one process only.",
    )
    dry_run: bool = _run(False, "Say what would be done and why, and stop.")
    verify: bool = _run(False, "Check the records of WORKDIR (sha256, counts) instead of a stage.")
    seed: int = _run(0, "Of splits, initial weights and data order.", stages=(*TRAINING, "labeled"))
    strategy: str = _run(
        "one",
        "Devices: one, all of this host, several hosts (TF_CONFIG), a TPU.",
        choices=("one", "mirrored", "multi_worker", "tpu"),
    )
    tpu: str = _run("local", "TPU address for --strategy=tpu.")
    precision: str = _run(
        "float32",
        "Of the networks' inner layers; outputs and losses stay float32.",
        stages=TRAINING,
        choices=("float32", "bfloat16"),
    )
    jit_compile: bool = _run(False, "Compile the training step with XLA.")
    workdirs: str = _run("", "Finished runs, comma separated, for --stage=compare.")

    labeled: tuple = _data(
        (), "Labelled data; repeatable. Default: the embedded scenes.", "labeled"
    )
    classes: str = _data(
        "",
        "Class names: a file, one a line, or a comma list.",
        "labeled",
        "pseudo",
        "evaluate",
        path=True,
    )
    drop_classes: str = _data("", "Classes of the data to leave out, comma separated.", "labeled")
    val_data: str = _data("", "Validation data: chooses checkpoints and thresholds.", "labeled")
    val_fraction: float = _data(
        0.1, "Share of --labeled kept for validation.", "labeled", above=0.0, high=0.9
    )
    teacher_label_fraction: float = _data(
        1.0, "Share of the labels the teacher learns from.", "teacher", above=0.0, high=1.0
    )
    label_fraction: float = _data(
        1.0,
        "Share of the labels for finetune and baseline.",
        "finetune",
        "baseline",
        above=0.0,
        high=1.0,
    )
    num_labels: int = _data(
        0,
        "Number of labelled images for finetune and baseline; 0: by share.",
        "finetune",
        "baseline",
        low=0,
    )
    label_ids: str = _data(
        "",
        "File of image ids, one a line, instead of a share.",
        "finetune",
        "baseline",
        path=True,
    )
    unlabeled: tuple = _data(
        (), "Images to pseudo-label; repeatable. Default: those of --labeled.", "pseudo"
    )
    eval_data: str = _data("", "Held-out data, to score on and never learn from.", "evaluate")
    allow_leakage: str = _data(
        "", "Data sets, by name, that may share images with validation or evaluation data."
    )
    image_size: str = _data("160x160", "HxW of the networks' input, multiples of 32.", *TRAINING)
    max_bad_fraction: float = _data(
        0.01, "A stage stops when a greater share of images is unusable.", low=0.0, high=1.0
    )

    teacher: tuple = _labels(
        (),
        "Teacher spec; repeatable. Default: stage teacher's.",
        stages=("pseudo", "evaluate"),
    )
    score_threshold: str = _labels(
        "",
        "Lowest score of a pseudo label: a number, a file (JSON), or auto. Default: auto where "
        "there is labelled data, else 0.5.",
        path=True,
    )
    ignore_threshold: float = _labels(
        0.25, "Scores from here to the threshold: neither object nor background.", low=0.0, high=1.0
    )
    fusion: str = _labels(
        "wbf",
        "How several teachers' boxes become one set.",
        choices=("nms", "soft_nms", "wbf", "vote"),
    )
    thresholds_for: str = _labels(
        "f1", "What --score_threshold=auto seeks with labels: f1, or a precision such as 0.8."
    )
    boxes_per_image: float = _labels(
        0.0, "Labels an image should have on average, for auto without --labeled.", low=0.0
    )
    calibration: str = _labels(
        "isotonic",
        "How the scores of several teachers are made comparable, where there are labels.",
        choices=("isotonic", "temperature", "none"),
    )
    class_map: str = _labels(
        "",
        "Rules for teachers' classes, text or file: car=vehicle,truck=vehicle,bird=-.",
        stages=("pseudo", "evaluate"),
        path=True,
    )
    drop_unknown_classes: bool = _labels(
        False,
        "Leave out teachers' classes that the run does not have, instead of refusing.",
        stages=("pseudo", "evaluate"),
    )
    teacher_weights: str = _labels(
        "",
        "How much teachers count in fusion: big=2,small=1. Default: by their AP on the validation "
        "images, all the same without labels.",
    )
    fusion_iou: float = _labels(0.55, "Overlap from which boxes are one.", above=0.0, high=1.0)
    tta_flip: bool = _labels(
        False, "Teachers also see every image mirrored.", stages=("predictions", "evaluate")
    )
    tta_scales: str = _labels(
        "",
        "Teachers see every image at these scales, for example 1,2.",
        stages=("predictions", "evaluate"),
    )
    tta_tiles: bool = _labels(
        False,
        "Teachers see large images in tiles of their own input size.",
        stages=("predictions", "evaluate"),
    )
    max_detections: int = _labels(
        100,
        "Most detections of an image that are kept; more for dense images. COCO AP counts 100.",
        low=1,
        high=10_000,
        stages=("pseudo", "predictions"),
    )
    min_teacher_ap: float = _labels(0.0, "No teacher below this AP may label.", low=0.0, high=1.0)
    also_write: str = _labels("", "Write the labels also in these formats.", parts=("coco", "yolo"))
    num_shards: int = _labels(
        8, "Files the pseudo labels are written to.", low=1, stages=("pseudo", "predictions")
    )
    worker_index: int = _labels(0, "Which worker this is.", low=0, stages=())
    num_workers: int = _labels(1, "How many workers label together.", low=1, stages=())
    pseudo_batch_size: int = _labels(16, "Images at once, over all devices.", low=1, stages=())

    teacher_model: str = _train(
        "yolov8_xs", "Network of stage teacher.", stages=("teacher",), choices=NAMES
    )
    student: str = _train("yolov8_tiny", "Network of the student.", stages=STUDENT, choices=NAMES)
    backbone_weights: str = _train(
        "",
        "Backbone weights (.weights.h5 or .npz) to start from.",
        per_stage=("teacher", "pretrain"),
        path=True,
    )
    allow_missing: str = _train("", "Layers, comma separated, that may lack weights in that file.")
    teacher_steps: int = _train(300, "Steps of stage teacher.", stages=("teacher",), low=1)
    pretrain_steps: int = _train(
        300, "Steps on pseudo labels.", stages=("pretrain", "baseline"), low=1
    )
    finetune_steps: int = _train(
        500, "Steps on human labels.", stages=("finetune", "baseline"), low=1
    )
    batch_size: int = _train(8, "Images a step, over all devices.", low=1, per_stage=True)
    learning_rate: float = _train(0.0, "Peak rate; 0: the network's.", low=0.0, per_stage=True)
    optimizer: str = _train("adamw", "Update rule.", choices=("adamw", "sgd"), per_stage=True)
    weight_decay: float = _train(
        0.0005, "Decoupled weight decay.", low=0.0, high=1.0, per_stage=True
    )
    warmup_fraction: float = _train(
        0.03, "Share of the steps with linear warm-up.", low=0.0, high=0.9, per_stage=True
    )
    decay_fraction: float = _train(
        0.2, "Share of the steps, the last ones, with decay.", above=0.0, high=1.0, per_stage=True
    )
    clip_norm: float = _train(1.0, "Global gradient norm is clipped here; 0: never.", low=0.0)
    ema_decay: float = _train(
        0.998, "Of the averaged weights that are validated and kept; 0: off.", low=0.0, below=1.0
    )
    accumulate: int = _train(1, "Micro-batches a step; BatchNorm sees one.", low=1, per_stage=True)
    freeze_batch_norm: bool = _train(
        False, "Keep BatchNorm as it comes, for networks that have learned before.", per_stage=True
    )
    steps_per_call: int = _train(10, "Steps per call of the device.", stages=(), low=1)
    eval_every: int = _train(250, "Steps between validations.", low=1, per_stage=True)
    checkpoint_every: int = _train(100, "Steps between checkpoints.", stages=(), low=1)
    max_boxes: int = _train(100, "Most boxes of an image that a step sees.", low=1)
    flip: float = _train(0.5, "Share of images mirrored.", low=0.0, high=1.0, per_stage=True)
    scale_jitter: str = _train("0.8,1.25", "Range of random zoom; 1,1: none.", per_stage=True)
    color_jitter: float = _train(
        0.3, "Strength of colour changes.", low=0.0, high=1.0, per_stage=True
    )
    mosaic: float = _train(0.0, "Share of images made of four.", low=0.0, high=1.0, per_stage=True)
    mixup: float = _train(
        0.0, "Share of images blended with another.", low=0.0, high=1.0, per_stage=True
    )
    score_weighting: str = _train(
        "none",
        "Weight of a pseudo label in the loss, from its score.",
        stages=("pretrain",),
        choices=("none", "linear", "power"),
    )

    export_formats: str = setting.setting(
        "saved_model",
        "What stage export writes.",
        stages=("export",),
        group="export",
        parts=("saved_model", "tflite_float32", "tflite_float16", "tflite_int8", "onnx"),
    )
    max_export_ap_drop: float = setting.setting(
        -1.0,
        "Export fails where a format loses more AP; negative: 0.002, and 0.02 for int8.",
        group="export",
        high=1.0,
    )
    overrides: tuple = ()

    def of(self, stage: str, name: str):
        """The value of a setting in a stage: its own form (--pretrain_NAME) where one was given."""
        own = "pretrain" if stage == "baseline" else stage
        return dict(self.overrides).get(f"{own}_{name}", getattr(self, name))

    def identity(self, stage: str) -> dict[str, object]:
        """The settings a stage's result depends on, as flat JSON values."""
        owned = {
            field.name: self.of(stage, field.name)
            for field in fields()
            if stage in field.metadata["stages"]
        }
        return {k: list(v) if isinstance(v, tuple) else v for k, v in owned.items()}

    def size(self) -> tuple[int, int]:
        """(height, width) of the networks' input in pixels."""
        height, width = self.image_size.lower().split("x")
        return int(height), int(width)


def with_defaults(settings: Config) -> Config:
    """The scenes where no data is given; automatic thresholds where there are labels."""
    given = (settings.labeled, settings.unlabeled, settings.val_data, settings.eval_data)
    if not any(given):
        settings = dataclasses.replace(settings, **_SCENES)
    if settings.score_threshold:
        return settings
    return dataclasses.replace(settings, score_threshold="auto" if settings.labeled else "0.5")


def fields() -> tuple[dataclasses.Field, ...]:
    """The settings in the order they are defined, without `overrides`."""
    return tuple(field for field in dataclasses.fields(Config) if field.name != "overrides")


def paths() -> tuple[str, ...]:
    """Names of the settings that name, or may name, a file or folder."""
    return tuple(field.name for field in fields() if field.metadata.get("path"))


def override_stages(field: dataclasses.Field) -> tuple[str, ...]:
    """Stages with a form of their own of this setting."""
    per_stage = field.metadata.get("per_stage", ())
    return OVERRIDING if per_stage is True else tuple(per_stage)
