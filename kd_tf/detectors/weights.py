"""Weights for a backbone from a file, with an account of what fitted and what did not."""

import dataclasses
import tempfile
from collections.abc import Collection, Sequence

import keras
import numpy as np
from absl import logging

from kd_tf import files
from kd_tf.detectors import kerascv_preset
from kd_tf.errors import UserError
from kd_tf.values import show

_SPARE_BYTES = 64 << 20
_PRESET = "kerascv:"
_MOST_NAMES_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """What a weights file gave.

    Attributes:
        loaded: Names of the weights that were set, `<layer>__<weight>`.
        missing: Weights of the network that the file does not have.
        unused: Names in the file, as they stand there, that the network has no use for.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(
            f"{len(names)} {what}{_some(names) if what != 'loaded' else ''}"
            for what, names in dataclasses.asdict(self).items()
        )


def load_backbone_weights(
    backbone: keras.Model, path: str, *, allow_missing: Sequence[str] = ()
) -> WeightsReport:
    """Sets a backbone's weights from a file; nothing is set if it does not fit.

    Weights behind the last pyramid level may be missing: no detector uses them.

    Args:
        backbone: With attribute `pyramid_level_inputs`.
        path: FILE.npz with arrays named `<layer>__<weight>`, FILE.weights.h5 as Keras 3
            saves one of the same backbone, or `kerascv:PRESET` (needs the network).
        allow_missing: Names of weights, or of layers, that may be missing; they stay
            random.

    Raises:
        UserError: Missing weights that are not allowed, another shape, a name in
            `allow_missing` that no weight has, or an unreadable file.
    """
    wanted = _names(backbone)
    found, unused = _find(backbone, path)
    missing = [name for name in wanted if name not in found]
    needed = [name for name in missing if name in _names(_used_part(backbone))]
    _check_names(path, needed=needed, known=wanted, allow_missing=allow_missing)
    _check_shapes(path, wanted=wanted, found=found)
    for name, array in found.items():
        wanted[name].assign(array)
    report = WeightsReport(tuple(found), tuple(missing), tuple(sorted(unused)))
    logging.info("Backbone weights from %s: %s.", path, report)
    return report


def _find(backbone: keras.Model, path: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays by weight name, and what the file holds besides."""
    if path.startswith(_PRESET):
        preset = kerascv_preset.load_preset_backbone(path.removeprefix(_PRESET))
        return _by_name(_saved(preset), _names_in_weights_file(backbone))
    if not path.endswith((".npz", ".weights.h5")):
        raise UserError(f"Weights must be FILE.npz or FILE.weights.h5, got {path!r}.")
    if not files.exists(path):
        raise UserError(f"There is no weights file at {path}.")
    needed = sum(4 * int(np.prod(weight.shape)) for weight in backbone.weights)
    try:
        # Files with a classifier hold up to twice as much.
        stored = files.read_arrays(path, max_bytes=4 * needed + _SPARE_BYTES)
    except files.BROKEN_ARCHIVE as error:
        raise UserError(
            f"{path} is not a file of plain arrays: {show(str(error), 300)}."
        ) from error
    if path.endswith(".npz"):
        return _by_name(stored, _spellings(backbone))
    return _by_name(stored, _names_in_weights_file(backbone))


def _by_name(
    stored: dict[str, np.ndarray], spellings: dict[str, str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    known = {spellings[key]: array for key, array in stored.items() if key in spellings}
    return known, [key for key in stored if key not in spellings]


def _used_part(backbone: keras.Model) -> keras.Model:
    levels = [backbone.pyramid_level_inputs[level] for level in ("P3", "P4", "P5")]
    return keras.Model(backbone.inputs, [backbone.get_layer(level).output for level in levels])


def _names(model: keras.Model) -> dict[str, keras.Variable]:
    """Weights by `<layer>__<weight>`."""
    return {weight.path.replace("/", "__"): weight for weight in model.weights}


def _spellings(backbone: keras.Model) -> dict[str, str]:
    """Names a .npz may use. Keras 2 said depthwise_kernel where Keras 3 says kernel."""
    names = {name: name for name in _names(backbone)}
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            names[f"{layer.name}__depthwise_kernel"] = f"{layer.name}__kernel"
    return names


def _names_in_weights_file(backbone: keras.Model) -> dict[str, str]:
    """Keys of Keras' weights file -> weight names.

    Keras numbers layers by type in such a file and tells nobody how. So every weight
    is filled with its own number, saved, and recognised by it; then restored.
    """
    weights = _names(backbone)
    before = [weight.numpy() for weight in weights.values()]
    try:
        for number, weight in enumerate(weights.values()):
            weight.assign(np.full(weight.shape, number, np.float32))
        numbered = _saved(backbone)
    finally:
        for weight, values in zip(weights.values(), before, strict=True):
            weight.assign(values)
    names = list(weights)
    return {
        key: names[int(array.flat[0])]
        for key, array in numbered.items()
        if array.dtype == np.float32 and array.size
    }


def _saved(model: keras.Model) -> dict[str, np.ndarray]:
    """What Keras writes into a weights file."""
    with tempfile.TemporaryDirectory() as folder:
        path = files.join(folder, "model.weights.h5")
        model.save_weights(path)
        return files.read_arrays(path, max_bytes=4 * files.size_bytes(path))


def _check_names(
    path: str, *, needed: list[str], known: Collection[str], allow_missing: Sequence[str]
) -> None:
    layers = {name.rpartition("__")[0] for name in known}
    unknown = sorted(set(allow_missing) - layers - set(known))
    if unknown:
        raise UserError(
            f"No weight or layer of the backbone is called{_some(unknown)}. "
            f"Its names look like{_some(list(known)[:2])}."
        )
    allowed = set(allow_missing)
    refused = [n for n in needed if n not in allowed and n.rpartition("__")[0] not in allowed]
    if refused:
        raise UserError(
            f"{path} lacks {len(refused)} of the {len(known)} weights of the backbone"
            f"{_some(refused)}. Give the file of this very backbone, or allow them by name "
            "(--allow_missing)."
        )


def _check_shapes(
    path: str, *, wanted: dict[str, keras.Variable], found: dict[str, np.ndarray]
) -> None:
    for name, array in found.items():
        if array.dtype.kind not in "fiu":
            raise UserError(f"{path}: {name} holds {array.dtype}, numbers are needed.")
        if tuple(wanted[name].shape) != array.shape:
            raise UserError(
                f"{path}: {name} has shape {list(array.shape)}, "
                f"the backbone wants {list(wanted[name].shape)}."
            )


def _some(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = len(names) - _MOST_NAMES_SHOWN
    shown = ", ".join(names[:_MOST_NAMES_SHOWN])
    return f": {shown}" + (f" and {more} more" if more > 0 else "")
