"""What the numbers of a YOLO label line mean: a box, a polygon, a pose, a track.

Only the data set as a whole can tell: a line of seven numbers is a triangle in one data set and
a tracked box in another. So lines are kept as all readings they allow until all are read.
"""

import array
import dataclasses
import math

import numpy as np

from kd_tf.errors import RejectedError, UserError
from kd_tf.values import show

TASKS = ("detect", "segment", "pose", "obb", "track")
# Boxes may stick out of the image, but a value beyond this was meant in pixels.
_MAX_UNIT = 2.0
# How far a keypoint may lie outside its box by rounding.
_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One label line, as far as any task needs it.

    Attributes:
        class_id: As given.
        num_values: How many numbers follow the class.
        first: The first four of them: centre, width, height, or two corners.
        around: [x1, y1, x2, y2] of all of them as corners; NaN where one is no number.
    """

    class_id: int
    num_values: int
    first: tuple[float, float, float, float]
    around: tuple[float, float, float, float]


def parse_line(line: str, *, num_classes: int) -> tuple[int, list[float]]:
    """The class and the numbers that follow it.

    Raises:
        RejectedError: "bad label line" or "class id out of range".
    """
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError as error:
        raise RejectedError("bad label line", f"{show(line)}: {error}") from error
    if len(numbers) < 5:
        raise RejectedError(
            "bad label line",
            f"{show(line)} has {len(numbers)} numbers; needed are class x y width height",
        )
    if not 0 <= numbers[0] < num_classes or numbers[0] != int(numbers[0]):
        raise RejectedError(
            "class id out of range", f"{numbers[0]:g}; ids are 0 to {num_classes - 1}"
        )
    return int(numbers[0]), numbers[1:]


def reduce_line(class_id: int, values: list[float]) -> Line:
    """What has to be kept of a line of any length."""
    corners = values[: len(values) - len(values) % 2]
    xs, ys = corners[::2], corners[1::2]
    # One corner that is no number makes the box none: min and max would pass it over.
    good = all(map(math.isfinite, corners))
    around = (min(xs), min(ys), max(xs), max(ys)) if good else (math.nan,) * 4
    return Line(class_id, len(values), (values[0], values[1], values[2], values[3]), around)


def box_of(line: Line, *, task: str, keypoints: tuple[int, int] | None) -> list[float]:
    """The box [x1, y1, x2, y2], as fractions of the image, of a line of a known task.

    Raises:
        RejectedError: "bad label line": not as many numbers as the task has; or
            "box not normalised".
    """
    num = line.num_values
    if task == "pose":
        points = keypoints[0] * keypoints[1] if keypoints else 0
        allowed = num in (4, 4 + points, 5 + points) or not keypoints
        wanted = f"4 and {points} for keypoints"
    elif task == "obb":
        allowed, wanted = num in (8, 9), "four corners"
    elif task == "segment":
        allowed, wanted = num == 4 or num >= 6, "4, or three corners and more"
    else:
        allowed, wanted = num <= 6, "4, and at most a confidence and a track id"
    if not allowed:
        raise RejectedError(
            "bad label line", f"{num} numbers follow the class; {task} has {wanted}"
        )
    corners = line.around if task in ("segment", "obb") and num > 4 else line.first
    if any(abs(value) > _MAX_UNIT for value in corners if math.isfinite(value)):
        raise RejectedError("box not normalised", f"{list(corners)}: fractions are at most 1")
    if corners is line.around:
        return list(corners)
    x, y, width, height = corners
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


class TaskFinder:
    """Finds out what the lines of a data set are, from all of them."""

    def __init__(self):
        self._counts: dict[int, int] = {}
        self._first: dict[int, str] = {}
        self._track_like = array.array("b")
        self._pose_like: dict[int, bool] = {}

    def add(self, values: list[float], text: str) -> None:
        """Takes note of the numbers behind a class."""
        num = len(values)
        self._counts[num] = self._counts.get(num, 0) + 1
        self._first.setdefault(num, text)
        if num == 6:
            self._track_like.append(_track_likeness(values))
        if num >= 8:
            fits = self._pose_like.get(num, True)
            self._pose_like[num] = fits and _may_be_pose(values)

    def task(self, *, where: str) -> str:
        """The task that fits all lines.

        Raises:
            UserError: Several do; names the option that decides.
        """
        if set(self._counts) <= {4, 5}:
            return "detect"
        likeness = np.frombuffer(self._track_like, np.int8)
        if self._counts.get(6) and not set(self._counts) - {4, 5, 6}:
            # A triangle ends with a fraction, a track with a whole number that grows.
            if (likeness == _TRACK).any() and not (likeness == _TRIANGLE).any():
                return "track"
            if not (likeness == _TRIANGLE).any():
                raise self._unclear(6, ("track", "segment"), where=where)
        if (likeness == _TRACK).any():
            raise self._unclear(6, ("track", "segment"), where=where)
        long = [num for num in self._counts if num >= 8]
        if len(long) == 1 and not set(self._counts) - {4, *long} and self._pose_like[long[0]]:
            raise self._unclear(long[0], ("pose", "segment"), where=where)
        return "segment"

    def _unclear(self, num: int, tasks: tuple[str, str], *, where: str) -> UserError:
        return UserError(
            f"{where}: {self._counts[num]} label lines have {num + 1} numbers, such as "
            f"{show(self._first[num])}, which may be {tasks[0]} or {tasks[1]}. Give "
            f"&task={tasks[0]} or &task={tasks[1]} in the spec"
            + (", or kpt_shape in the YAML file." if "pose" in tasks else ".")
        )


_EITHER, _TRIANGLE, _TRACK = 0, 1, 2


def _track_likeness(values: list[float]) -> int:
    """Whether `x y w h conf id`, `x y x y x y`, or either."""
    confidence, last = values[4], values[5]
    if not 0.0 <= confidence <= 1.0 or last != math.floor(last if math.isfinite(last) else 0.5):
        return _TRIANGLE
    return _TRACK if last > 1 else _EITHER


def _may_be_pose(values: list[float]) -> bool:
    """Whether what follows the first four are points in the box that they give."""
    if not all(map(math.isfinite, values)):
        return False
    x, y, width, height = values[:4]
    rest = values[4:]
    for step in (2, 3):
        if len(rest) % step:
            continue
        xs, ys = rest[::step], rest[1::step]
        seen = rest[2::3] if step == 3 else []
        inside = all(
            (abs(px - x) <= width / 2 + _ROUNDING and abs(py - y) <= height / 2 + _ROUNDING)
            or (px == 0 and py == 0)
            for px, py in zip(xs, ys, strict=True)
        )
        if inside and all(flag in (0, 1, 2) for flag in seen):
            return True
    return False
