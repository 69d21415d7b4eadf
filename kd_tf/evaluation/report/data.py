"""What the report shows: plain data, filled by `load.py`, drawn by `render.py`."""

import dataclasses

Metrics = dict
History = list[dict[str, float]]


@dataclasses.dataclass(frozen=True)
class StageFacts:
    """One stage of a run.

    Attributes:
        name: "teacher", "pseudo", ...
        seconds: How long it took; None where the manifest does not say.
        settings: The stage's identity: its flags and the hashes of its inputs.
        info: Commit, versions and whatever else the manifest keeps.
        seen, written: Images met, and kept.
        skipped: Reason -> images left out; `skipped_boxes` likewise for boxes.
        examples: Reason -> the first few, as a person would look for them.
        flags: The flagfile that replays it; may be empty.
    """

    name: str
    seconds: float | None = None
    settings: dict = dataclasses.field(default_factory=dict)
    info: dict = dataclasses.field(default_factory=dict)
    seen: int = 0
    written: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    skipped_boxes: dict[str, int] = dataclasses.field(default_factory=dict)
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    flags: str = ""


@dataclasses.dataclass(frozen=True)
class LabelFacts:
    """The pseudo labels of a run, beside people's labels of the same images.

    Attributes:
        num_images, num_empty: Images, and those without a single working label.
        num_boxes: Working labels.
        boxes_per_image: Number of boxes -> images.
        class_counts: Class -> working labels.
        scores: Class -> detections per twentieth of the score, those kept and those not.
        thresholds: Class -> the score from which a detection is a label; may be empty.
        num_truth_images: Images that people labelled as well; 0 leaves the rest empty.
        truth_boxes_per_image, truth_class_counts: Of people's labels in those images.
        num_compared: Working labels in those images.
        num_common: Those that people marked too (class and IoU >= 0.5).
        num_learned: Images that people labelled and a teacher learned from; in none of the above.
    """

    num_images: int
    num_empty: int
    num_boxes: int
    boxes_per_image: dict[int, int]
    class_counts: dict[str, int]
    scores: dict[str, list[int]]
    thresholds: dict[str, float]
    num_truth_images: int = 0
    truth_boxes_per_image: dict[int, int] = dataclasses.field(default_factory=dict)
    truth_class_counts: dict[str, int] = dataclasses.field(default_factory=dict)
    num_compared: int = 0
    num_common: int = 0
    num_learned: int = 0

    @property
    def precision(self) -> float | None:
        """Share of the labels that people marked too."""
        return self.num_common / self.num_compared if self.num_compared else None

    @property
    def recall(self) -> float | None:
        """Share of people's boxes that have a label."""
        total = sum(self.truth_class_counts.values())
        return self.num_common / total if total else None


@dataclasses.dataclass(frozen=True)
class Box:
    """One drawn box: xyxy pixels of the image, and what stands on it."""

    xyxy: tuple[float, float, float, float]
    class_index: int
    text: str
    faint: bool = False
    wrong: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """One view of an image: who speaks, and the boxes."""

    title: str
    boxes: tuple[Box, ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """One image of a gallery.

    Attributes:
        name: The image's identity or file name; untrusted text.
        width, height: Pixels of the image the boxes refer to.
        data_uri: The (reduced) image itself.
        panels: Views, side by side.
        note: One line on why it is here.
    """

    name: str
    width: int
    height: int
    data_uri: str
    panels: tuple[Panel, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Images chosen for one reason; `absent` says why there are none."""

    key: str
    title: str
    text: str
    examples: tuple[Example, ...] = ()
    absent: str = ""


@dataclasses.dataclass(frozen=True)
class RunData:
    """One workdir.

    Attributes:
        name: The workdir's last part; unique on the page.
        class_names: The run's class list; empty before anything was evaluated or labelled.
        stages: The finished stages.
        models: Name -> metrics, as in `metrics.json`.
        curves: Name -> curves, as in `curves.json`.
        histories: Training stage -> its rows, by step.
        labels: The pseudo labels; None where there are none.
        agreement: What `agreement.agreement` gave; None for fewer than two teachers.
        comparison: What `comparison.compare` gave for the run's models; None without the images.
        galleries: Images.
        absent: What could not be shown, and why.
    """

    name: str
    class_names: tuple[str, ...] = ()
    stages: tuple[StageFacts, ...] = ()
    models: dict[str, Metrics] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict] = dataclasses.field(default_factory=dict)
    histories: dict[str, History] = dataclasses.field(default_factory=dict)
    labels: LabelFacts | None = None
    agreement: dict | None = None
    comparison: dict | None = None
    galleries: tuple[Gallery, ...] = ()
    absent: tuple[str, ...] = ()

    def stage(self, name: str) -> StageFacts | None:
        """A finished stage by name, or None."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def student(self) -> str | None:
        """The model the run is about: finetune, else pretrain."""
        return next((name for name in ("finetune", "pretrain") if name in self.models), None)


@dataclasses.dataclass(frozen=True)
class ReportData:
    """A whole page.

    Attributes:
        title: Heading; untrusted text.
        runs: One for a report, several for a comparison of workdirs.
        comparison: Paired differences across runs; None for one run, or where the runs
            were not evaluated on the same images.
        made: When and by which version, for the foot of the page.
    """

    title: str
    runs: tuple[RunData, ...]
    comparison: dict | None = None
    made: str = ""
