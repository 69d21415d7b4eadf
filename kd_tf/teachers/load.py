"""From a teacher's spec to a detector, whatever the kind."""

import dataclasses
import importlib.util
from collections.abc import Callable

import tensorflow as tf

from kd_tf import files, manifests
from kd_tf.data.predict import Recaller
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detector
from kd_tf.specs import Spec


@dataclasses.dataclass(frozen=True, slots=True)
class LoadSettings:
    """What every kind of teacher is told.

    Attributes:
        batch_size: Images it will be given at once.
        score_floor: Detections below it need not be given.
        max_detections: Most detections of one image that are of use.
        strategy: Whose replicas a network of Keras runs on; other kinds place themselves.
    """

    batch_size: int = 16
    score_floor: float = 0.01
    max_detections: int = 100
    strategy: tf.distribute.Strategy | None = None


def load_teacher(spec: Spec, *, settings: LoadSettings | None = None) -> Detector | Recaller:
    """Loads a teacher of any kind in `specs.TEACHER_KINDS`.

    Args:
        spec: Parsed with that table.
        settings: Batch size and limits.

    Returns:
        A detector for `data.predict.predict`; for a results file a `Recaller`.

    Raises:
        UserError: The file is missing or is not what the kind says; names the spec.
    """
    return _LOADERS[spec.kind](spec, settings or LoadSettings())


def content_hash(spec: Spec) -> str:
    """Hex sha256 of what decides a teacher's answers: its options and its files' content.

    Where files lie does not matter. Of a `python:` teacher the factory's own file counts, not
    what it imports; of a `kerascv:` preset only the name.
    """
    options = {k: _content(v) for k, v in spec.options.items() if k != "name"}
    location = _content(spec.location)
    if spec.kind == "python":
        location = [location, _module_content(spec.location.partition(":")[0])]
    return manifests.content_hash([spec.kind, location, options])


def _content(value: str) -> str | list[str]:
    """The hashes of the files at a path; a value that is no path stays as it is."""
    if not value or not files.exists(value):
        return value
    return [
        files.sha256(file) for file in (files.walk(value) if files.is_folder(value) else [value])
    ]


def _module_content(name: str) -> str:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return name
    return files.sha256(found.origin) if found and found.origin else name


def need(spec: Spec, path: str) -> str:
    """The path, if something is there. Raises UserError that names the spec."""
    if not path or not files.exists(path):
        raise UserError(f"{spec.text!r}: there is nothing at {path!r}. Check the path.")
    return path


def known_classes(spec: Spec) -> tuple[str, ...] | None:
    """The classes of a teacher that its file tells without the network being loaded.

    Returns:
        None for a plug-in or a preset, which tell only when they are loaded.

    Raises:
        UserError: The file is missing, or does not say what it should.
    """
    if spec.kind in ("python", "kerascv"):
        return None
    need(spec, spec.location)
    if spec.kind == "keras":
        from kd_tf.detectors.saving import read_spec

        return tuple(read_spec(spec.location)["class_names"])
    if spec.kind == "saved_model":
        from kd_tf.teachers.saved_model import class_names

        return class_names(spec)
    return load_teacher(spec).needs().class_names


def _load_keras(spec: Spec, settings: LoadSettings) -> Detector:
    from kd_tf.detectors import replicas
    from kd_tf.detectors.network_detector import NetworkDetector
    from kd_tf.detectors.saving import load_network

    with replicas.scope(settings.strategy):
        network = load_network(need(spec, spec.location))
    return NetworkDetector(
        network,
        batch_size=settings.batch_size,
        score_floor=settings.score_floor,
        max_detections=settings.max_detections,
        strategy=settings.strategy,
    )


def _load_kerascv(spec: Spec, settings: LoadSettings) -> Detector:
    from kd_tf.detectors.kerascv_preset import load_preset

    return load_preset(
        spec.location,
        weights=spec.options.get("weights"),
        batch_size=settings.batch_size,
        score_floor=settings.score_floor,
        max_detections=settings.max_detections,
        strategy=settings.strategy,
    )


def _load_saved_model(spec: Spec, settings: LoadSettings) -> Detector:
    from kd_tf.teachers.saved_model import load_saved_model

    need(spec, spec.location)
    return load_saved_model(spec)


def _load_tflite(spec: Spec, settings: LoadSettings) -> Detector:
    from kd_tf.teachers.tflite import load_tflite

    need(spec, spec.location)
    return load_tflite(spec)


def _load_results(spec: Spec, settings: LoadSettings) -> Recaller:
    from kd_tf.teachers.results import load_results

    need(spec, spec.location)
    return load_results(spec)


def _load_python(spec: Spec, settings: LoadSettings) -> Detector:
    from kd_tf.teachers.plugin import load_plugin

    return load_plugin(spec)


_LOADERS: dict[str, Callable[[Spec, LoadSettings], Detector | Recaller]] = {
    "keras": _load_keras,
    "kerascv": _load_kerascv,
    "saved_model": _load_saved_model,
    "tflite": _load_tflite,
    "results": _load_results,
    "python": _load_python,
}
