"""`tflite:FILE`: a TensorFlow Lite detector with the four standard outputs.

Runs on ai-edge-litert, the interpreter that tf.lite.Interpreter was moved to.
"""

import os

import numpy as np
from absl import logging

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Needs, no_detections
from kd_tf.specs import Spec
from kd_tf.teachers.saved_model import resize_option
from kd_tf.teachers.tflite_metadata import TFLiteMetadata, read_label_list, read_metadata
from kd_tf.teachers.tflite_outputs import find_outputs, post_process, read_output, tell_scores
from kd_tf.values import to_number

# The label lists of detectors begin with, and where COCO's ids have gaps contain, this.
PLACEHOLDER = "???"
_COCO_NUM_CLASSES, _COCO_LAST_ID = 80, 90
_COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
# What float detectors of the Object Detection API expect of 0..255, where nothing says other.
_MEAN, _STD = (127.5,), (127.5,)


def load_tflite(spec: Spec) -> "TFLiteTeacher":
    """Loads a TFLite file with outputs boxes, classes, scores, count.

    Class names come from `classes=FILE` (or a comma list), else from the file's own
    metadata. `label_offset=k` means that class c is called names[c + k]; by default 1 where
    the list begins with the placeholder "???", else 0. `ids=coco` puts COCO's 80 names at
    COCO's ids, which have gaps, as detectors of the Object Detection API number them.

    A float detector is given (image - mean) / std: `mean=` and `std=` (one number, or three by
    commas), else the file's metadata, else 127.5 and 127.5. Which output holds the scores is
    read from the graph, the metadata or the names, else seen on random images; `scores=NAME`
    names it where none of these decides.

    Raises:
        UserError: Not a TFLite detector, or its classes are not known.
    """
    from ai_edge_litert.interpreter import Interpreter

    content = documents.read_bytes(spec.location, where=spec.text)
    try:
        interpreter = Interpreter(model_content=content, num_threads=os.cpu_count() or 1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{spec.text!r} cannot be loaded as a TFLite file: {error}") from error
    metadata = read_metadata(content, path=spec.location)
    names = _class_names(spec, content)
    return TFLiteTeacher(spec, interpreter, names=names, metadata=metadata)


class TFLiteTeacher:
    """Runs an interpreter image by image; implements `geometry.detections.Detector`."""

    def __init__(
        self, spec: Spec, interpreter: object, *, names: list[str], metadata: TFLiteMetadata
    ):
        self._text = spec.text
        self._interpreter = interpreter
        inputs = interpreter.get_input_details()
        shape = inputs[0]["shape"].tolist()
        if len(inputs) != 1 or len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
            raise UserError(
                f"{spec.text!r} takes {[d['shape'].tolist() for d in inputs]}; a teacher takes "
                "one image [1, H, W, 3]."
            )
        self._input = inputs[0]
        self._mean, self._std = _normalization(spec, metadata)
        self._outputs = find_outputs(spec, interpreter, metadata)
        self._offset = _offset(spec, names)
        _check_number(spec, interpreter, len(names) - self._offset)
        named = [name for name in names if name != PLACEHOLDER]
        # Index into the class list for each line of the label list; -1 for a placeholder.
        self._classes = np.array([-1 if n == PLACEHOLDER else named.index(n) for n in names])
        self._needs = Needs(
            tuple(named), shape[1], shape[2], resize_option(spec, default="stretch")
        )

    def needs(self) -> Needs:
        """Its classes and size; stretched, as such detectors are trained."""
        return self._needs

    def detect(self, images: np.ndarray) -> list[Detections]:
        """Finds objects in images [B, H, W, 3] uint8, one after the other."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        self._interpreter.set_tensor(self._input["index"], self._to_input(image)[None])
        self._interpreter.invoke()
        outputs = self._outputs
        lists = [read_output(self._interpreter, detail) for detail in outputs.lists]
        if not lists[0].any() and not lists[1].any():
            return no_detections()
        if outputs.scores is None:
            outputs.scores = tell_scores(self._text, lists, outputs.lists)
        scores, classes = lists[outputs.scores], lists[1 - outputs.scores]
        boxes_yxyx = read_output(self._interpreter, outputs.boxes)
        count = read_output(self._interpreter, outputs.count)
        number = float(count.reshape(-1)[0])
        if not 0 <= number <= len(scores[0]):
            raise UserError(
                f"{self._text!r} counts {number} detections in lists of {len(scores[0])}: its "
                "outputs are not boxes, classes, scores and count."
            )
        # Some files count their padding, which has a score of 0, too.
        found = np.flatnonzero(scores[0, : round(number)] > 0)
        boxes_yxyx, classes, scores = boxes_yxyx[0][found], classes[0][found], scores[0][found]
        height, width = image.shape[:2]
        scale = np.array([width, height, width, height], np.float32)
        boxes = boxes_yxyx[:, [1, 0, 3, 2]] * scale
        named = self._named(classes)
        keep = named >= 0
        if not keep.all():
            logging.log_first_n(
                logging.WARNING, "%s: left out a detection of a class without a name.", 3,
                self._text,
            )  # fmt: skip
        return Detections(boxes[keep], scores[keep], named[keep])

    def _to_input(self, image: np.ndarray) -> np.ndarray:
        if self._input["dtype"] == np.uint8:
            return image
        if self._input["dtype"] == np.int8:
            return (image.astype(np.int16) - 128).astype(np.int8)
        return (image.astype(np.float32) - self._mean) / self._std

    def _named(self, classes: np.ndarray) -> np.ndarray:
        lines = np.rint(classes).astype(np.int64) + self._offset
        if len(lines) and (lines.min() < 0 or lines.max() >= len(self._classes)):
            wrong = lines[(lines < 0) | (lines >= len(self._classes))][0] - self._offset
            raise UserError(
                f"{self._text!r}: class {wrong} is out of range: with label_offset="
                f"{self._offset} the label list names {-self._offset}.."
                f"{len(self._classes) - 1 - self._offset}. Give ?classes=FILE&label_offset=K."
            )
        return self._classes[lines] if len(lines) else lines


def _normalization(spec: Spec, metadata: TFLiteMetadata) -> tuple[np.ndarray, np.ndarray]:
    mean = _numbers(spec, "mean") or metadata.mean or _MEAN
    std = _numbers(spec, "std") or metadata.std or _STD
    if 0.0 in std:
        raise UserError(f"{spec.text!r}: std={spec.options['std']} divides by 0.")
    return np.array(mean, np.float32), np.array(std, np.float32)


def _numbers(spec: Spec, key: str) -> tuple[float, ...]:
    if key not in spec.options:
        return ()
    numbers = [to_number(part) for part in spec.options[key].split(",")]
    if len(numbers) not in (1, 3) or None in numbers:
        raise UserError(
            f"{spec.text!r}: {key}={spec.options[key]} is not one number, or three by commas."
        )
    return tuple(numbers)


def _class_names(spec: Spec, content: bytes) -> list[str]:
    """Lines of the label list, placeholders included."""
    given = spec.options.get("classes")
    if given:
        text = documents.read_text(given) if files.exists(given) else given.replace(",", "\n")
        return _at_ids(spec, _lines(text))
    names = _lines(read_label_list(content, path=spec.location))
    if not any(names):
        raise UserError(
            f"{spec.text!r} holds no class list in its metadata. Give ?classes=FILE, one name a "
            "line."
        )
    return names


def _at_ids(spec: Spec, names: list[str]) -> list[str]:
    """The names where their ids, less one, put them."""
    ids = spec.options.get("ids", "")
    if not ids:
        return names
    if ids != "coco" or len(names) != _COCO_NUM_CLASSES or PLACEHOLDER in names:
        raise UserError(
            f"{spec.text!r}: ids={ids} with {len(names)} names. Known is ids=coco, with COCO's "
            f"{_COCO_NUM_CLASSES} names in the order of their ids."
        )
    left = iter(names)
    numbers = range(1, _COCO_LAST_ID + 1)
    return [PLACEHOLDER if number in _COCO_GAPS else next(left) for number in numbers]


def _check_number(spec: Spec, interpreter: object, number: int) -> None:
    """Refuses another number of names than the network has classes: all would be shifted."""
    width = _num_scores(interpreter)
    # The scores may begin with that of the background.
    if width is None or number in (width - 1, width):
        return
    advice = f"Give a list of {width - 1} lines, {PLACEHOLDER} where a class has no name"
    if number == _COCO_NUM_CLASSES and width - 1 == _COCO_LAST_ID:
        advice += ", or ?classes=FILE&ids=coco for COCO's 80 names at COCO's ids, which have gaps"
    raise UserError(
        f"{spec.text!r}: the list names {number} classes, and the network scores {width} (with "
        f"the background, where it knows one). {advice}."
    )


def _num_scores(interpreter: object) -> int | None:
    """How many scores an anchor has, where the standard post-processing reads them."""
    shapes = {one["index"]: one["shape"] for one in interpreter.get_tensor_details()}
    for one in post_process(interpreter):
        if len(one["inputs"]) == 3:
            return int(shapes[one["inputs"][1]][-1])
    return None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in documents.split_lines(text.strip())]


def _offset(spec: Spec, names: list[str]) -> int:
    given = spec.options.get("label_offset")
    if given is None:
        return 1 if names[0] == PLACEHOLDER else 0
    try:
        return int(given)
    except ValueError as error:
        raise UserError(f"{spec.text!r}: label_offset={given} is not a whole number.") from error
