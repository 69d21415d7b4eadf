"""Command line: `python -m kd_tf.predict --model=FILE_OR_FOLDER images...`."""

import colorsys
import dataclasses
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw, ImageFont

from kd_tf.errors import PathError, RejectedError, UserError
from kd_tf.flags import asks_for_help
from kd_tf.geometry.detections import Detections, Detector

_USAGE = """Shows what a detector finds in images.

python -m kd_tf.predict --model=WORKDIR photo.jpg more/*.jpg

--model: a run's folder, its export folder, a SavedModel, or a .tflite, .onnx or .keras file.
Draws each image with its boxes to --output and prints one line of JSON for it. Exit status: 0
if every image was read, 2 if some were not (their lines say why), 1 for any other error."""

_EXIT_SOME_UNREADABLE = 2
# Where a SavedModel lies, seen from the folders a person would name.
_INSIDE = ("", "saved_model", "export/saved_model")


@dataclasses.dataclass(frozen=True)
class Model:
    """A detector and what is worth showing of it.

    Attributes:
        detector: Finds the objects.
        class_names: In the order of its class indices.
        score_thresholds: [C] float32, lowest score shown of each class.
    """

    detector: Detector
    class_names: tuple[str, ...]
    score_thresholds: np.ndarray

    def shown(self, found: Detections) -> Detections:
        """The detections at or above their class's threshold."""
        return found[found.scores >= self.score_thresholds[found.classes]]


def load_model(path: str, *, score_threshold: float | None = None) -> Model:
    """Loads what `--model` names.

    Args:
        path: As in the usage text.
        score_threshold: For all classes, instead of those stored with the model.

    Raises:
        UserError: Nothing there, or nothing that can be loaded.
    """
    from kd_tf import files
    from kd_tf.export import formats

    if path.endswith(".keras"):
        detector, stored = _load_keras(path)
    else:
        folders = [files.join(path, inside) if inside else path for inside in _INSIDE]
        found = [folder for folder in folders if files.exists(f"{folder}/saved_model.pb")]
        detector = formats.load_detector(found[0] if found else path)
        stored = detector.meta.score_thresholds
    names = detector.needs().class_names
    if score_threshold is not None:
        stored = [score_threshold] * len(names)
    return Model(detector, names, np.asarray(stored, np.float32))


def _load_keras(path: str) -> tuple[Detector, Sequence[float]]:
    from kd_tf import files
    from kd_tf.detectors.network_detector import NetworkDetector
    from kd_tf.detectors.saving import load_network
    from kd_tf.geometry.detections import DEFAULT_THRESHOLD

    if files.is_folder(path) or files.is_special(path):
        raise UserError(f"{path} is a folder or a pipe; a .keras file is needed.")
    network = load_network(path)
    default = [DEFAULT_THRESHOLD] * len(network.class_names)
    return NetworkDetector(network, batch_size=1), network.meta.get("score_thresholds", default)


def find_images(arguments: Sequence[str]) -> list[str]:
    """The image files that the arguments name: files, globs, or folders (not those inside).

    A name that matches nothing is kept: it gets a line that says so.
    """
    from kd_tf import files
    from kd_tf.data.sources.reading import is_image_name

    paths: list[str] = []
    for argument in arguments:
        if files.is_folder(argument):
            names = [name for name in files.list_folder(argument) if is_image_name(name)]
            paths += [files.join(argument, name) for name in names]
        else:
            paths += files.find(argument) or [argument]
    return list(dict.fromkeys(paths))


def predict_files(model: Model, paths: Sequence[str], *, output: str) -> Iterator[dict]:
    """Finds objects in image files and draws them, one after another.

    Args:
        model: What finds them.
        paths: Image files.
        output: Folder for the drawings; "" draws none.

    Yields:
        One JSON object per file: "image" and "status"; where that is "ok" also "height",
        "width", "detections" (best first: "class", "score", "box_xyxy_px" in pixels of the
        upright image) and "drawing", the path of the picture.
    """
    from kd_tf import files
    from kd_tf.data.predict import predict

    if output and files.exists(output) and not files.is_folder(output):
        raise UserError(f"--output={output} is a file; give a folder, or --output= for none.")
    source = _source_of(paths)
    names = _drawing_names(paths)
    for seen in predict(model.detector, source, batch_size=1, name="--model"):
        path = paths[seen.row]
        if seen.reject:
            detail = f": {seen.reject.detail}" if seen.reject.detail else ""
            yield {"image": path, "status": seen.reject.reason + detail}
            continue
        found = model.shown(seen.detections)
        line = {"image": path, "status": "ok", "height": seen.height, "width": seen.width}
        line["detections"] = [
            {
                "class": model.class_names[label],
                "score": round(float(score), 5),
                "box_xyxy_px": [round(float(value), 2) for value in box],
            }
            for box, score, label in zip(found.boxes, found.scores, found.classes, strict=True)
        ]
        if output:
            line["drawing"] = _write_drawing(
                path, found, model=model, target=files.join(output, names[path])
            )
        yield line


def _source_of(paths: Sequence[str]):
    from kd_tf import documents, files
    from kd_tf.data.items import Item, Source

    def read(item: Item) -> bytes:
        if not files.exists(item.location) or files.is_folder(item.location):
            raise RejectedError("no such file", item.location)
        try:
            return documents.read_bytes(item.location)
        except UserError as error:
            raise RejectedError("cannot be read", str(error)) from error

    items = [Item(i, path, path) for i, path in enumerate(paths, start=1)]
    return Source("files", (), items, read, None, (), "")


def _write_drawing(path: str, found: Detections, *, model: Model, target: str) -> str:

    from kd_tf import files
    from kd_tf.data.images import check_image

    picture = Image.fromarray(check_image(files.read_bytes(path)).pixels)
    content = io.BytesIO()
    draw(picture, found, class_names=model.class_names).save(content, "PNG")
    try:
        files.write_bytes(target, content.getvalue())
    except PathError as error:
        raise UserError(f"--output cannot be written: {error}") from error
    return target


def _drawing_names(paths: Sequence[str]) -> dict[str, str]:
    """A file name for each image's drawing; equal stems from several folders get a number."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem = os.path.splitext(os.path.basename(path))[0]
        name, number = f"{stem}.png", 2
        while name in taken:
            name, number = f"{stem}-{number}.png", number + 1
        taken.add(name)
        names[path] = name
    return names


def draw(picture: Image.Image, found: Detections, *, class_names: Sequence[str]) -> Image.Image:
    """A copy of a picture with boxes, each with its class and score; the best lie on top."""
    picture = picture.copy()
    canvas = ImageDraw.Draw(picture)
    # Readable at any size: a line is 1/300 of the picture, a letter 1/45.
    longest = max(picture.size)
    line_px, font = max(longest // 300, 1), ImageFont.load_default(max(longest // 45, 10))
    for row in reversed(range(len(found))):
        colour = class_colour(int(found.classes[row]))
        x1, y1, x2, y2 = (float(value) for value in found.boxes[row])
        canvas.rectangle([x1, y1, x2, y2], outline=colour, width=line_px)
        text = f"{class_names[found.classes[row]]} {found.scores[row]:.2f}"
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        # Above the box where there is room, else inside it.
        y = y1 - bottom - line_px if y1 >= bottom + line_px else y1 + line_px
        canvas.rectangle([x1 + left, y + top, x1 + right, y + bottom], fill=colour)
        canvas.text((x1, y), text, fill="black", font=font)
    return picture


def class_colour(index: int) -> tuple[int, int, int]:
    """A bright RGB colour for a class; steps of the golden ratio keep neighbours apart."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.65, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("model", None, "What finds the objects; see above.", required=True)
    flags.DEFINE_string("output", "predictions", "Folder for the drawings; empty draws none.")
    flags.DEFINE_float(
        "score_threshold",
        None,
        "Lowest score shown; default: the model's own working thresholds.",
        lower_bound=0.0,
        upper_bound=1.0,
    )


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    values = flags.FLAGS
    try:
        if len(argv) < 2:
            raise UserError("name at least one image, a glob or a folder behind the flags.")
        model = load_model(values.model, score_threshold=values.score_threshold)
        paths = find_images(argv[1:])
        if not paths:
            raise UserError(f"no images in {', '.join(argv[1:])}.")
        num_unreadable = 0
        for line in predict_files(model, paths, output=values.output):
            print(json.dumps(line, ensure_ascii=False), flush=True)
            num_unreadable += line["status"] != "ok"
    except UserError as error:
        print(f"kd_tf.predict: error: {error}", file=sys.stderr)
        return 1
    if num_unreadable:
        print(f"kd_tf.predict: {num_unreadable} of {len(paths)} unreadable.", file=sys.stderr)
    return _EXIT_SOME_UNREADABLE if num_unreadable else 0


def entry_point() -> None:
    """Runs the command line; also the `kd-tf-predict` script."""
    sys.modules["__main__"].__doc__ = _USAGE
    define_flags()
    try:
        app.run(main)
    except SystemExit as stop:
        if asks_for_help(sys.argv[1:]) and stop.code == 1:
            raise SystemExit(0) from None
        raise


if __name__ == "__main__":
    entry_point()
