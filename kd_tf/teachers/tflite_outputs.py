"""Which outputs of a TFLite detector are its boxes, classes, scores and count."""

import dataclasses

import numpy as np

from kd_tf.errors import UserError
from kd_tf.specs import Spec
from kd_tf.teachers.tflite_metadata import TFLiteMetadata

_POST_PROCESS = "TFLite_Detection_PostProcess"
# Images on which the outputs are told apart where no name does it.
_NUM_PROBES = 8


@dataclasses.dataclass
class Outputs:
    """Details of the four outputs, as the interpreter describes them.

    Attributes:
        boxes: [1, N, 4].
        lists: Classes and scores, [1, N] both.
        scores: The place of the scores in `lists`; None while nothing has told it yet.
        count: One number.
    """

    boxes: dict
    lists: list[dict]
    scores: int | None
    count: dict


def find_outputs(spec: Spec, interpreter: object, metadata: TFLiteMetadata) -> Outputs:
    """Finds boxes, classes, scores and count, whatever their order.

    Boxes and count are told by their shape. Classes and scores have one shape; what tells them
    apart is, in this order: `scores=`, the operation TFLite_Detection_PostProcess, whose outputs
    have a fixed order, the metadata, the names of the outputs, and their values on random images.
    Where a detector sees nothing there, its first detections tell (`tell_scores`).
    """
    details = interpreter.get_output_details()
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
    scores = _named_scores(spec, lists)
    if scores is None:
        scores = _scores_of_operation(interpreter, lists)
    if scores is None and len(metadata.output_names) == len(details):
        described = dict(zip([d["index"] for d in details], metadata.output_names, strict=True))
        scores = _scores_by_names([described[d["index"]] for d in lists])
    if scores is None:
        scores = _scores_by_names([d["name"] for d in lists])
    if scores is None:
        probed = _probe(interpreter, lists)
        scores = (
            tell_scores(spec.text, probed, lists) if probed[0].any() or probed[1].any() else None
        )
    return Outputs(boxes[0], lists, scores, counts[0])


def tell_scores(text: str, values: list[np.ndarray], lists: list[dict]) -> int:
    """Tells scores, broken numbers of 0..1, from classes, whole numbers.

    Args:
        text: The spec, for the message.
        values: What the two outputs hold, each [..., N], some of it not 0.
        lists: Their details.

    Returns:
        0 or 1: which of them are the scores.

    Raises:
        UserError: Both or neither can be.
    """
    whole = [np.allclose(one, np.rint(one), rtol=0, atol=1e-4) for one in values]
    share = [bool((one >= 0).all() and (one <= 1).all()) for one in values]
    found = [index for index in (0, 1) if share[index] and whole[1 - index]]
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{text!r}: nothing tells which of its outputs {[d['name'] for d in lists]} holds the "
        "scores. Say so: ?scores=NAME."
    )


def read_output(interpreter: object, detail: dict) -> np.ndarray:
    """The values of an output as float32, dequantized."""
    values = interpreter.get_tensor(detail["index"])
    scale, zero_point = detail["quantization"]
    if values.dtype.kind in "iu" and scale:
        return (values.astype(np.float32) - zero_point) * np.float32(scale)
    return values.astype(np.float32)


def post_process(interpreter: object) -> list[dict]:
    """The post-processing operations of a graph, with the indices of their tensors."""
    # No public method lists operations; without this one nothing is known of them.
    operations = getattr(interpreter, "_get_ops_details", list)()
    return [one for one in operations if one["op_name"] == _POST_PROCESS]


def _named_scores(spec: Spec, lists: list[dict]) -> int | None:
    given = spec.options.get("scores")
    if given is None:
        return None
    found = [index for index, d in enumerate(lists) if d["name"] == given]
    if len(found) != 1:
        raise UserError(
            f"{spec.text!r}: scores={given} is not one of the outputs {[d['name'] for d in lists]}."
        )
    return found[0]


def _scores_of_operation(interpreter: object, lists: list[dict]) -> int | None:
    for one in post_process(interpreter):
        indices = [int(index) for index in one["outputs"]]
        ours = [int(d["index"]) for d in lists]
        if len(indices) == 4 and set(indices[1:3]) == set(ours):
            return ours.index(indices[2])
    return None


def _scores_by_names(names: list[str]) -> int | None:
    says_score = ["score" in name.lower() for name in names]
    says_class = ["class" in name.lower() or "categor" in name.lower() for name in names]
    if sum(says_score) == 1:
        return says_score.index(True)
    if sum(says_class) == 1:
        return says_class.index(False)
    return None


def _probe(interpreter: object, lists: list[dict]) -> list[np.ndarray]:
    """What the outputs hold for random images, from dark to bright, [_NUM_PROBES, N] each."""
    (detail,) = interpreter.get_input_details()
    rng = np.random.default_rng(0)
    held = [[], []]
    for number in range(_NUM_PROBES):
        pixels = rng.integers(0, 256, detail["shape"]) // 2 ** (number % 4)
        if detail["dtype"] == np.int8:
            pixels = pixels - 128
        elif detail["dtype"] != np.uint8:
            pixels = pixels / 127.5 - 1
        interpreter.set_tensor(detail["index"], pixels.astype(detail["dtype"]))
        interpreter.invoke()
        for values, one in zip(held, lists, strict=True):
            values.append(read_output(interpreter, one)[0])
    return [np.array(values) for values in held]
