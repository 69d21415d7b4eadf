"""A network in one file: a zip of `spec.json` and `weights.npz`."""

import dataclasses
import io
import json
import zipfile

import keras
import numpy as np
import tensorflow as tf

from kd_tf import documents, files
from kd_tf.detectors import zoo
from kd_tf.detectors.network import Network
from kd_tf.errors import UserError
from kd_tf.names import NAMES
from kd_tf.values import show

FORMAT_VERSION = 1
_MAX_SPEC_BYTES, _SPARE_BYTES = 64 << 20, 4 << 20
_MAX_CLASSES, _MAX_SIDE_PX = 100_000, 8192


def save_network(network: Network, path: str, *, meta: dict | None = None) -> None:
    """Writes a network, every weight and moving statistic of it, whole or not at all.

    Args:
        network: Any network of the zoo.
        path: By convention FILE.keras; any place `files` can write.
        meta: To be remembered with it (JSON), added to `network.meta`.
    """
    spec = {
        "format_version": FORMAT_VERSION,
        "name": network.name,
        "class_names": list(network.class_names),
        "image_size": list(network.image_size),
        "precision": network.precision,
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        "meta": {**network.meta, **(meta or {})},
    }
    arrays = io.BytesIO()
    np.savez(arrays, **{_key(i): w.numpy() for i, w in enumerate(network.model.weights)})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("spec.json", json.dumps(spec, indent=2, allow_nan=False))
        archive.writestr("weights.npz", arrays.getvalue())
    files.write_bytes(path, content.getvalue())


def load_network(path: str, *, precision: str | None = None) -> Network:
    """Builds the network that a file describes, with its weights.

    Args:
        path: As `save_network` wrote it.
        precision: Keras' policy of the layers instead of the one it was trained in; weights are
            float32 in every one.

    Raises:
        UserError: No such file, another format, or weights that are not those of the
            network it names.
    """
    spec = read_spec(path)
    network = zoo.build(
        spec["name"],
        class_names=spec["class_names"],
        image_size=tuple(spec["image_size"]),
        precision=precision or spec["precision"],
    )
    weights = network.model.weights
    expected = {_key(i): tuple(w.shape) for i, w in enumerate(weights)}
    arrays = _read_weights(path, max_bytes=sum(4 * int(np.prod(w.shape)) for w in weights))
    stored = {key: array.shape for key, array in arrays.items()}
    if stored != expected:
        wrong = sorted(expected.keys() ^ stored.keys()) or sorted(
            key for key in expected if expected[key] != stored[key]
        )
        raise UserError(
            f"{path} holds other weights than {spec['name']} of this version has: "
            f"{len(stored)} arrays for {len(expected)}, the first that differs is {wrong[0]}. "
            "Load it with the version of kd_tf that wrote it."
        )
    for i, weight in enumerate(weights):
        weight.assign(arrays[_key(i)])
    return dataclasses.replace(network, meta=spec["meta"])


def read_spec(path: str) -> dict:
    """What a network's file says about it, weights left alone; same errors as loading."""
    if not files.is_file(path):
        raise UserError(f"There is no network at {path}.")
    spec = documents.parse_json(_member(path, "spec.json", max_bytes=_MAX_SPEC_BYTES), path=path)
    version = spec.get("format_version") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {show(version)}, this version of kd_tf reads "
            f"{FORMAT_VERSION}."
        )
    _check_spec(spec, path)
    return spec


def _check_spec(spec: dict, path: str) -> None:
    size = spec.get("image_size")
    names = spec.get("class_names")
    good = {
        "name": spec.get("name") in NAMES,
        "class_names": isinstance(names, list)
        and 0 < len(names) <= _MAX_CLASSES
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names),
        "image_size": isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and 0 < side <= _MAX_SIDE_PX for side in size),
        "precision": spec.get("precision") in ("float32", "bfloat16", "mixed_bfloat16"),
        "meta": isinstance(spec.get("meta"), dict),
    }
    wrong = [name for name, fits in good.items() if not fits]
    if wrong:
        raise UserError(
            f"{path} is damaged: its {wrong[0]} is {show(spec.get(wrong[0]))}. Train the network "
            "again, or take another copy of the file."
        )


def _read_weights(path: str, *, max_bytes: int) -> dict[str, np.ndarray]:
    # A header and a directory entry for each array.
    limit = max_bytes + (max_bytes >> 3) + _SPARE_BYTES
    content = _member(path, "weights.npz", max_bytes=limit)
    try:
        return files.unpack_arrays(io.BytesIO(content), max_bytes=limit)
    except files.BROKEN_ARCHIVE as error:
        raise UserError(
            f"{path} is damaged: weights.npz cannot be read ({show(str(error), 300)})."
        ) from error


def _member(path: str, name: str, *, max_bytes: int) -> bytes:
    """A file of the archive, which is not unpacked where it is larger than it can be."""
    try:
        with zipfile.ZipFile(io.BytesIO(files.read_bytes(path))) as archive:
            size = archive.getinfo(name).file_size
            if size > max_bytes:
                raise ValueError(f"{name} unpacks to {size} bytes, at most {max_bytes} are needed")
            return archive.read(name)
    except files.BROKEN_ARCHIVE as error:
        raise UserError(
            f"{path} is not a network written by kd_tf ({show(str(error), 300)}). Teachers in "
            "other formats: saved_model:, tflite:, results: or python:."
        ) from error


def _key(position: int) -> str:
    return f"w{position:05d}"
