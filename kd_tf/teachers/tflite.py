"""`tflite:FILE`: a TensorFlow Lite detector with the four standard outputs.

Runs on ai-edge-litert, the interpreter that tf.lite.Interpreter was moved to.
"""

import io
import os
import zipfile

import numpy as np
from absl import logging

from kd_tf import documents, files
from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.specs import Spec
from kd_tf.teachers.saved_model import resize_option

# The label lists of detectors begin with, and where COCO's ids have gaps contain, this.
PLACEHOLDER = "???"
_POST_PROCESS = "TFLite_Detection_PostProcess"
_COCO_NUM_CLASSES, _COCO_LAST_ID = 80, 90
_COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
# What float detectors of the Object Detection API expect of 0..255: mean and spread.
_FLOAT_MEAN, _FLOAT_SPREAD = 127.5, 127.5


def load_tflite(spec: Spec) -> "TFLiteTeacher":
    """Loads a TFLite file with outputs boxes, classes, scores, count.

    Class names come from `classes=FILE` (or a comma list), else from the file's own
    metadata. `label_offset=k` means that class c is called names[c + k]; by default 1 where
    the list begins with the placeholder "???", else 0. `ids=coco` puts COCO's 80 names at
    COCO's ids, which have gaps, as detectors of the Object Detection API number them.

    Raises:
        UserError: Not a TFLite detector, or its classes are not known.
    """
    from ai_edge_litert.interpreter import Interpreter

    content = files.read_bytes(spec.location)
    try:
        interpreter = Interpreter(model_content=content, num_threads=os.cpu_count() or 1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{spec.text!r} cannot be loaded as a TFLite file: {error}") from error
    return TFLiteTeacher(spec, interpreter, names=_class_names(spec, content))


class TFLiteTeacher:
    """Runs an interpreter image by image; implements `geometry.detections.Detector`."""

    def __init__(self, spec: Spec, interpreter: object, *, names: list[str]):
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
        self._outputs = _find_outputs(spec, interpreter)
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
        boxes_yxyx, classes, scores, count = (self._read(detail) for detail in self._outputs)
        count = round(float(count.reshape(-1)[0]))
        height, width = image.shape[:2]
        scale = np.array([width, height, width, height], np.float32)
        boxes = boxes_yxyx[0, :count][:, [1, 0, 3, 2]] * scale
        named = self._named(classes[0, :count])
        keep = named >= 0
        if not keep.all():
            logging.log_first_n(
                logging.WARNING, "%s: left out a detection of a class without a name.", 3,
                self._text,
            )  # fmt: skip
        return Detections(boxes[keep], scores[0, :count][keep], named[keep])

    def _to_input(self, image: np.ndarray) -> np.ndarray:
        if self._input["dtype"] == np.uint8:
            return image
        if self._input["dtype"] == np.int8:
            return (image.astype(np.int16) - 128).astype(np.int8)
        return (image.astype(np.float32) - _FLOAT_MEAN) / _FLOAT_SPREAD

    def _read(self, detail: dict) -> np.ndarray:
        values = self._interpreter.get_tensor(detail["index"])
        scale, zero_point = detail["quantization"]
        if values.dtype.kind in "iu" and scale:
            return (values.astype(np.float32) - zero_point) * np.float32(scale)
        return values.astype(np.float32)

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


def _find_outputs(spec: Spec, interpreter: object) -> list[dict]:
    """Details of boxes, classes, scores and count: by name where names say it, else by shape.

    TFLite_Detection_PostProcess, :1, :2, :3 are boxes, classes, scores, count in that order.
    Converters give other names and orders; then classes and scores, of one shape, are told
    apart by their names, or by which of them holds whole numbers for a grey image.
    """
    details = sorted(interpreter.get_output_details(), key=lambda d: d["name"])
    boxes = [d for d in details if len(d["shape"]) == 3 and d["shape"][-1] == 4]
    lists = [d for d in details if len(d["shape"]) == 2]
    counts = [d for d in details if len(d["shape"]) <= 1]
    if (len(boxes), len(lists), len(counts)) != (1, 2, 1):
        given = {d["name"]: d["shape"].tolist() for d in details}
        raise UserError(
            f"{spec.text!r} gives {given}; a tflite teacher has the four outputs boxes [1, N, 4], "
            "classes [1, N], scores [1, N], count [1]. For another form write a python: teacher "
            "(experiments/yolox_teacher is an example)."
        )
    scores = [d for d in lists if "score" in d["name"].lower()]
    classes = [d for d in lists if "class" in d["name"].lower()]
    if len(scores) == 1:
        lists = [next(d for d in lists if d is not scores[0]), scores[0]]
    elif len(classes) == 1:
        lists = [classes[0], next(d for d in lists if d is not classes[0])]
    elif _POST_PROCESS not in boxes[0]["name"]:
        lists = _by_values(interpreter, lists)
    return [boxes[0], *lists, counts[0]]


def _by_values(interpreter: object, lists: list[dict]) -> list[dict]:
    (detail,) = interpreter.get_input_details()
    grey = np.random.default_rng(0).integers(0, 255, detail["shape"]).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], grey)
    interpreter.invoke()
    whole = [
        np.array_equal(v, np.rint(v)) for v in (interpreter.get_tensor(d["index"]) for d in lists)
    ]
    return lists[::-1] if whole == [False, True] else lists


def _class_names(spec: Spec, content: bytes) -> list[str]:
    """Lines of the label list, placeholders included."""
    given = spec.options.get("classes")
    if given:
        text = documents.read_text(given) if files.exists(given) else given.replace(",", "\n")
        return _at_ids(spec, _lines(text))
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as attached:
            lists = [name for name in attached.namelist() if name.endswith(".txt")]
            labels = [name for name in lists if "label" in name.lower()] or lists
            if labels:
                return _lines(attached.read(labels[0]).decode("utf-8"))
    raise UserError(
        f"{spec.text!r} holds no class list in its metadata. Give ?classes=FILE, one name a line."
    )


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
    # No public method lists operations; without this one nothing is checked.
    operations = getattr(interpreter, "_get_ops_details", list)()
    for one in operations:
        if one["op_name"] == _POST_PROCESS and len(one["inputs"]) == 3:
            return int(shapes[one["inputs"][1]][-1])
    return None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def _offset(spec: Spec, names: list[str]) -> int:
    given = spec.options.get("label_offset")
    if given is None:
        return 1 if names[0] == PLACEHOLDER else 0
    try:
        return int(given)
    except ValueError as error:
        raise UserError(f"{spec.text!r}: label_offset={given} is not a whole number.") from error
