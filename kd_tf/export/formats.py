"""The export formats by name: write them, load them again, and judge what each one costs."""

import dataclasses
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.export.meta import FILE_NAME as META_FILE
from kd_tf.export.meta import ExportMeta
from kd_tf.geometry.detections import Detector

if TYPE_CHECKING:
    from kd_tf.export.raw_network import ExportableNetwork


@dataclasses.dataclass(frozen=True)
class Format:
    """One way to write a network.

    Attributes:
        file_name: Of the file, or of the folder, inside the export folder.
        max_ap_drop: COCO AP (0..1) it may lose against the Keras network. Float formats repeat
            the same arithmetic in another order; 8 bits cost something, and not much.
    """

    file_name: str
    max_ap_drop: float


FORMATS: dict[str, Format] = {
    "saved_model": Format("saved_model", 0.002),
    "tflite_float32": Format("detector_float32.tflite", 0.002),
    "tflite_float16": Format("detector_float16.tflite", 0.002),
    "tflite_int8": Format("detector_int8.tflite", 0.02),
    "onnx": Format("detector.onnx", 0.002),
}


@dataclasses.dataclass(frozen=True)
class Artefact:
    """Something that was exported.

    Attributes:
        format: One of `FORMATS`.
        path: The file or folder.
        size_bytes: Of the file, or of all files in the folder.
    """

    format: str
    path: str
    size_bytes: int

    def load(self) -> Detector:
        """The artefact as a detector, read back from its files."""
        return load_detector(self.path)


def check_packages(names: Sequence[str]) -> None:
    """Raises UserError where a format's optional package is not installed."""
    if "onnx" in names:
        _require("tf2onnx")


def export(
    network: "ExportableNetwork",
    folder: str,
    *,
    formats: Sequence[str],
    meta: ExportMeta,
    representative: Callable[[], Iterable[np.ndarray]] | None = None,
) -> list[Artefact]:
    """Writes a network in each of the formats.

    Args:
        network: With its final weights (the averaged ones where averaging was on).
        folder: Where to; each format has a name of its own in it.
        formats: Names of `FORMATS`.
        meta: Goes into every artefact.
        representative: For tflite_int8: gives upright uint8 RGB images of any sizes.

    Raises:
        UserError: tflite_int8 without representative images, or onnx without its packages.
    """
    check_packages(formats)
    artefacts = []
    for name in formats:
        path = files.join(folder, FORMATS[name].file_name)
        _write(network, path, name=name, meta=meta, representative=representative or tuple)
        artefacts.append(Artefact(name, path, _size_bytes(path)))
    return artefacts


def _write(
    network: "ExportableNetwork",
    path: str,
    *,
    name: str,
    meta: ExportMeta,
    representative: Callable[[], Iterable[np.ndarray]],
) -> None:
    # Imported where they are used: the converters are slow to import, and onnx is optional.
    if name == "saved_model":
        from kd_tf.export.saved_model import export_saved_model

        export_saved_model(network, path, meta=meta)
    elif name == "onnx":
        from kd_tf.export.onnx_file import export_onnx

        export_onnx(network, path, meta=meta)
    else:
        from kd_tf.export.tflite import export_tflite

        precision = name.removeprefix("tflite_")
        images = representative() if precision == "int8" else ()
        export_tflite(network, path, meta=meta, precision=precision, representative=images)


def paths(folder: str) -> tuple[str, ...]:
    """Where each format lies in an export folder, if it was written; in the order of `FORMATS`."""
    return tuple(files.join(folder, one.file_name) for one in FORMATS.values())


def is_exported_tflite(path: str) -> bool:
    """Whether a path is a .tflite file that `export` wrote."""
    if not files.is_file(path):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(files.read_bytes(path))) as archive:
            return META_FILE in archive.namelist()
    except zipfile.BadZipFile:
        return False


def stored_thresholds(path: str) -> tuple[float, ...] | None:
    """The working thresholds of an artefact, per class; None of what `export` did not write."""
    from kd_tf.export.exported import read_export_meta
    from kd_tf.export.tflite_runner import read_tflite_meta

    if files.exists(files.join(path, "assets", META_FILE)):
        return read_export_meta(path).score_thresholds
    if is_exported_tflite(path):
        return read_tflite_meta(files.read_bytes(path)).score_thresholds
    return None


def load_detector(path: str) -> Detector:
    """Loads an artefact by what its path ends with: a SavedModel folder, .tflite or .onnx.

    Raises:
        UserError: Nothing there, not ours, or the package that runs it is not installed.
    """
    if not files.exists(path):
        raise UserError(f"There is nothing at {path}.")
    if path.endswith(".tflite"):
        _require("ai_edge_litert")
        from kd_tf.export.tflite_runner import load_tflite

        return load_tflite(documents.read_bytes(path))
    if path.endswith(".onnx"):
        _require("onnxruntime")
        from kd_tf.export.onnx_runner import load_onnx

        return load_onnx(documents.read_bytes(path))
    from kd_tf.export.exported import load_exported

    return load_exported(path)


def check_ap_drop(
    artefact: Artefact, *, keras_ap: float, ap: float, max_drop: float | None = None
) -> float:
    """How much AP an artefact lost against the Keras network, if that is tolerable.

    Args:
        artefact: What was measured.
        keras_ap, ap: COCO AP in 0..1 of the Keras network and of the artefact, same images.
        max_drop: Most that may be lost; None takes the format's own limit.

    Returns:
        keras_ap - ap; negative where the artefact is better.

    Raises:
        UserError: The drop is greater than allowed, or either AP is no number.
    """
    limit = FORMATS[artefact.format].max_ap_drop if max_drop is None else max_drop
    drop = keras_ap - ap
    # Written so that NaN fails too.
    if not drop <= limit:
        raise UserError(
            f"{artefact.format} reaches AP {ap:.4f}, the Keras network {keras_ap:.4f}: the drop "
            f"of {drop:.4f} is above {limit}. {artefact.path} is kept to be looked at. "
            "Instead of tflite_int8, --export_formats=tflite_float16 is half the size of float32; "
            "to accept the drop, raise --max_export_ap_drop."
        )
    return drop


def _require(package: str) -> None:
    """Turns a missing optional package into an instruction."""
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        extra = " (the extra kd-tf[onnx] has all that ONNX needs)" if "onnx" in name else ""
        raise UserError(f"This format needs the package {name}: pip install {name}{extra}.")


def _size_bytes(path: str) -> int:
    inside = list(files.walk(path)) if files.is_folder(path) else [path]
    return sum(files.size_bytes(file) for file in inside)
