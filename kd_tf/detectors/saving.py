"""A network in one file: a zip of `spec.json` and `weights.npz`."""

import dataclasses
import io
import json
import zipfile

import keras
import numpy as np
import tensorflow as tf

from kd_tf import files
from kd_tf.detectors import zoo
from kd_tf.detectors.network import Network
from kd_tf.errors import UserError

FORMAT_VERSION = 1


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
    spec, arrays = _read(path)
    network = zoo.build(
        spec["name"],
        class_names=spec["class_names"],
        image_size=tuple(spec["image_size"]),
        precision=precision or spec["precision"],
    )
    weights = network.model.weights
    expected = {_key(i): tuple(w.shape) for i, w in enumerate(weights)}
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
    return _read(path, with_weights=False)[0]


def _read(path: str, *, with_weights: bool = True) -> tuple[dict, dict[str, np.ndarray]]:
    if not files.exists(path):
        raise UserError(f"There is no network at {path}.")
    try:
        with zipfile.ZipFile(io.BytesIO(files.read_bytes(path))) as archive:
            spec = json.loads(archive.read("spec.json"))
            content = archive.read("weights.npz") if with_weights else b""
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a network written by kd_tf ({error}). Teachers in other formats: "
            "saved_model:, tflite:, results: or python:."
        ) from error
    if spec.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {spec.get('format_version')!r}, "
            f"this version of kd_tf reads {FORMAT_VERSION}."
        )
    if not with_weights:
        return spec, {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return spec, {key: arrays[key] for key in arrays.files}


def _key(position: int) -> str:
    return f"w{position:05d}"
