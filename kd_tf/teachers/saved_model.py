"""`saved_model:DIR?label_map=FILE`: a TensorFlow Object Detection API model, or our own export."""

import re

import numpy as np
import tensorflow as tf

from kd_tf import documents, files
from kd_tf.data import label_map
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.specs import Spec
from kd_tf.values import show, to_whole

# Written by --stage=export into the model's assets; read here as a file, not as code.
_OWN_ASSET = "kd_tf_export.json"
_OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


def load_saved_model(spec: Spec) -> "SavedModelTeacher":
    """Loads a SavedModel with the Object Detection API's outputs.

    Class names come from `label_map=` (a .pbtxt, or a file of names, one a line), else from
    what our export keeps. `signature=` chooses one by name; `input_size=HxW` and `resize=`
    give it images of one size, so that they can be batched.

    Raises:
        UserError: No SavedModel, no fitting signature, other outputs, or no class names.
    """
    labels, own_size = _labels(spec)
    try:
        with files.local_to_read(spec.location) as local:
            module = tf.saved_model.load(local)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"{spec.text!r} cannot be loaded as a SavedModel: {error}") from error
    return SavedModelTeacher(spec, module, labels=labels, own_size=own_size)


class SavedModelTeacher:
    """Runs one signature of a SavedModel; implements `geometry.detections.Detector`."""

    def __init__(
        self,
        spec: Spec,
        module: tf.Module,
        *,
        labels: dict[int, str],
        own_size: tuple[int, int] | None,
    ):
        self._text = spec.text
        # The signature dies with the module that owns its variables.
        self._module = module
        self._run = _signature(spec, module)
        self._argument = _image_argument(spec, self._run)
        missing = [name for name in _OUTPUTS if name not in self._run.structured_outputs]
        if missing:
            raise UserError(
                f"{spec.text!r}: the signature gives {sorted(self._run.structured_outputs)}, not "
                f"{missing}. A teacher needs the Object Detection API's outputs: boxes as "
                "ymin, xmin, ymax, xmax in 0..1, scores, classes from 1, num_detections."
            )
        self._ids = np.full(max(labels) + 1, -1, np.int32)
        self._ids[list(labels)] = np.arange(len(labels))
        self._needs = _needs(spec, tuple(labels.values()), own_size)

    def needs(self) -> Needs:
        """Its classes and size; without a size images come as they are, one at a time."""
        return self._needs

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in images [B, H, W, 3] uint8.

        Raises:
            UserError: A label that the label map does not name.
        """
        wanted = self._run.structured_input_signature[1][self._argument].dtype
        outputs = self._run(**{self._argument: tf.cast(images, wanted)})
        boxes_yxyx, scores, labels, counts = (outputs[name].numpy() for name in _OUTPUTS)
        height, width = images.shape[1:3]
        scale = np.array([width, height, width, height], np.float32)
        found = []
        for row, count in enumerate(np.asarray(counts).reshape(-1).astype(int)):
            boxes = boxes_yxyx[row, :count][:, [1, 0, 3, 2]] * scale
            found.append(Detections(boxes, scores[row, :count], self._classes(labels[row, :count])))
        return found

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        labels = labels.astype(np.int64)
        inside = (labels >= 0) & (labels < len(self._ids))
        classes = np.where(inside, self._ids[np.clip(labels, 0, len(self._ids) - 1)], -1)
        if (classes < 0).any():
            raise UserError(
                f"{self._text!r}: class {labels[classes < 0][0]} is out of range: the label map "
                f"names {len(self._needs.class_names)} labels up to {len(self._ids) - 1}. Give "
                "the label map the model was trained with."
            )
        return classes


def class_names(spec: Spec) -> tuple[str, ...]:
    """Its classes, by the label map or our own export's note; the network is not loaded."""
    return tuple(_labels(spec)[0].values())


def _labels(spec: Spec) -> tuple[dict[int, str], tuple[int, int] | None]:
    """Names by label, from 1, and the input size that our own export states."""
    own = files.join(spec.location, "assets", _OWN_ASSET)
    names, size = _own_labels(own) if files.exists(own) else (None, None)
    given = spec.options.get("label_map")
    if given and files.exists(given):
        text = documents.read_text(given, where=spec.text)
        if "item" in text and "{" in text:
            return label_map.read(given), size
        return dict(enumerate(documents.read_lines(given), start=1)), size
    if given or names is None:
        raise UserError(
            f"{spec.text!r}: the names of its classes are not known"
            + (f", {given} is not there" if given else "")
            + ". Give them with ?label_map=FILE (.pbtxt, or one name a line)."
        )
    return dict(enumerate(names, start=1)), size


def _own_labels(path: str) -> tuple[list[str], tuple[int, int]]:
    """The class names and the input size that our own export states."""
    content = documents.read_json(path)
    meta = content if isinstance(content, dict) else {}
    names, size = meta.get("class_names"), meta.get("image_size")
    sides = [to_whole(side) for side in size] if isinstance(size, list) else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: class_names is {show(names)}, a list of names is needed.")
    if len(sides) != 2 or not all(side and side > 0 for side in sides):
        raise UserError(f"{path}: image_size is {show(size)}, [height, width] is needed.")
    return [str(name) for name in names], (sides[0] or 0, sides[1] or 0)


def _signature(spec: Spec, module: tf.Module) -> tf.types.experimental.ConcreteFunction:
    signatures = getattr(module, "signatures", {})
    if not len(signatures):
        raise UserError(
            f"{spec.text!r}: this SavedModel has no signature, so it cannot be called. Save it "
            "with tf.saved_model.save(model, folder, signatures=...)."
        )
    wanted = spec.options.get("signature")
    names = [wanted] if wanted else ["image_tensor", "serving_default", *signatures]
    for name in names:
        if name in signatures:
            return signatures[name]
    raise UserError(
        f"{spec.text!r} has no signature {wanted!r}. It has: {', '.join(sorted(signatures))}."
    )


def _image_argument(spec: Spec, run: tf.types.experimental.ConcreteFunction) -> str:
    arguments = run.structured_input_signature[1]
    images = [n for n, t in arguments.items() if t.dtype in (tf.uint8, tf.float32)]
    if len(arguments) != 1 or len(images) != 1:
        raise UserError(
            f"{spec.text!r}: the signature takes {dict(arguments)}; a teacher needs one that takes "
            "images [B, H, W, 3], uint8 or float32 in 0..255. Choose with ?signature=NAME."
        )
    return images[0]


def _needs(spec: Spec, class_names: tuple[str, ...], own_size: tuple[int, int] | None) -> Needs:
    given = spec.options.get("input_size")
    if given and not re.fullmatch(r"\d+x\d+", given):
        raise UserError(f"{spec.text!r}: input_size={given} needs the form HxW, such as 640x640.")
    size = tuple(map(int, given.split("x"))) if given else own_size
    if size is None:
        return Needs(class_names, None, None, "none")
    return Needs(class_names, *size, resize_option(spec, default="letterbox"))


def resize_option(spec: Spec, *, default: str) -> str:
    """The `resize=` option, checked."""
    resize = spec.options.get("resize", default)
    if resize not in ("letterbox", "letterbox_top_left", "stretch"):
        raise UserError(
            f"{spec.text!r}: resize={resize} is not one of letterbox, letterbox_top_left, stretch."
        )
    return resize
