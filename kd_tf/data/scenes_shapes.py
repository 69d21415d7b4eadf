"""The objects of a scene: what they look like, where they lie, how they are painted.

A class is a shape with, for two of them, a texture; colour, fill, size, aspect and
rotation say nothing about it. Arithmetic as in scenes_backdrop: exact on every machine.
"""

import dataclasses
import math

import numpy as np

from kd_tf.data.scenes_random import Draws

CLASS_NAMES = ("disc", "square", "triangle", "ring", "cross", "star", "target", "checker")

# Every box has at least this many pixels on its shorter side: smaller ones cannot be told apart.
MIN_SIDE_PX = 7
# Least part of an object's pixels that is inside the image, and that is to be seen there.
MIN_INSIDE = 0.75
MIN_VISIBLE = 0.6
_PLACE_TRIES = 6
# Directions as multiples of 1/4096: a last bit of cos that differs between C libraries
# cannot survive the rounding.
_TURNS = tuple(
    (
        round(math.cos(k * math.pi / 128) * 4096) / 4096,
        round(math.sin(k * math.pi / 128) * 4096) / 4096,
    )
    for k in range(256)
)
# Shapes with corners stand upright within 25 degrees, as things in photographs do.
_ROUND = ("disc", "ring", "target")
_TILT = 18
# Half-size of the shape in units of half the wanted box, and its farthest point from the centre.
_SCALE = {"square": 0.84, "checker": 0.84, "triangle": 1.13, "cross": 1.0}
_REACH = {"square": 1.4143, "checker": 1.4143, "cross": 1.06}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One object before it has a place; arrays are [K, K] float32 over its patch.

    Attributes:
        name: One of CLASS_NAMES.
        u, v: The shape's own coordinates, -1..1 across it.
        depth: Pixels inside the outline, negative outside.
        unit_px: Pixels per unit of u or v, the smaller of the two.
        cover: [K, K] bool, pixels that hide what lies below (a ring's hole counts as hidden).
    """

    name: str
    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    unit_px: float
    cover: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """One object in an image.

    Attributes:
        shape: What it is.
        window: Rows and columns of the image it touches.
        part: Rows and columns of the shape's patch that lie in the window.
        box: xyxy pixels around its pixels in the image, as if nothing covered it.
        area: Number of those pixels.
    """

    shape: Shape
    window: tuple[slice, slice]
    part: tuple[slice, slice]
    box: tuple[int, int, int, int]
    area: int


def place_objects(draws: Draws, *, size: int) -> list[Placed]:
    """Chooses and places the objects of one image, the uppermost first.

    A new object goes below those already there, so what stays visible of it is known at
    once; one without a place at which enough stays visible is left out.

    Args:
        draws: A stream of its own: nothing else may decide where objects lie.
        size: Side of the image in pixels.
    """
    hidden = np.zeros((size, size), bool)
    placed: list[Placed] = []
    wanted = 0 if draws.chance(0.04) else 1 + max(draws.integer(10), draws.integer(10))
    for _ in range(wanted):
        shape = make_shape(
            draws,
            name=draws.pick(CLASS_NAMES),
            side_px=_side_px(draws, size=size),
        )
        near = draws.pick(placed).box if placed and draws.chance(0.2) else None
        found = _find_place(draws, shape, hidden=hidden, near=near)
        if found is not None:
            hidden[found.window] |= shape.cover[found.part]
            placed.append(found)
    return placed


def make_shape(draws: Draws, *, name: str, side_px: float) -> Shape:
    """A shape of about `side_px` pixels on its longer side, turned and squeezed at random."""
    aspect = draws.uniform(1.0, 1.15 if side_px < 16 else 1.35)
    a = 0.5 * side_px * _SCALE.get(name, 1.0)
    b = a / aspect
    turn = draws.integer(256) if name in _ROUND else draws.integer(2 * _TILT + 1) - _TILT
    cosine, sine = _TURNS[turn]
    reach = math.ceil(a * _REACH.get(name, 1.0)) + 1
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    x, y = steps - draws.uniform(-0.5, 0.5), (steps - draws.uniform(-0.5, 0.5))[:, None]
    u = x * (cosine / a) + y * (sine / a)
    v = x * (-sine / b) + y * (cosine / b)
    depth = outline(name, u=u, v=v) * -b
    cover = depth if name != "ring" else outline("disc", u=u, v=v) * -b
    return Shape(name, u, v, depth, b, cover >= 0)


def outline(name: str, *, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a class's outline in units of its half-size; negative is inside."""
    if name in ("disc", "target"):
        return np.sqrt(u * u + v * v) - 1.0
    if name == "ring":
        return np.abs(np.sqrt(u * u + v * v) - 0.76) - 0.24
    if name in ("square", "checker"):
        return np.maximum(np.abs(u), np.abs(v)) - 1.0
    if name == "cross":
        wide, high = np.abs(u), np.abs(v)
        return np.maximum(np.minimum(wide, high) - 0.34, np.maximum(wide, high) - 1.0)
    if name == "triangle":
        # The tip is at v = -1, up; the inner circle of the unit triangle has radius 1/2.
        return np.maximum(v, np.abs(u) * 0.8660254 - v * 0.5) - 0.5
    return _star(u, v)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Inside a pentagram a point is behind at least four of its five lines; tips are cut."""
    largest = second = None
    for x, y in ((0.0, 1.0), (0.9510565, 0.309017), (0.5877853, -0.809017)):
        for side in (1.0,) if x == 0.0 else (1.0, -1.0):
            line = u * (x * side) - v * y
            if largest is None:
                largest, second = line, np.full_like(line, -9.0)
                continue
            second = np.maximum(second, np.minimum(largest, line))
            largest = np.maximum(largest, line)
    return np.maximum(second - 0.35, np.sqrt(u * u + v * v) - 1.0)


def _side_px(draws: Draws, *, size: int) -> float:
    """The wanted longer side: over a third of the objects small, a quarter large."""
    kind = draws.uniform(0.0, 1.0)
    largest = min(54.0, 0.34 * size)
    if kind < 0.37:
        return draws.uniform(11.0, 15.5)
    if kind < 0.74:
        return draws.uniform(17.0, min(36.0, largest))
    return draws.uniform(min(36.0, largest), largest)


def _find_place(
    draws: Draws, shape: Shape, *, hidden: np.ndarray, near: tuple[int, int, int, int] | None
) -> Placed | None:
    mask = shape.depth >= 0
    total = np.count_nonzero(mask)
    for _ in range(_PLACE_TRIES):
        row, column = _corner(draws, shape, size=len(hidden), near=near)
        placed = place_at(shape, mask, corner=(row, column), size=len(hidden))
        if placed is None:
            continue
        if placed.area < MIN_INSIDE * total:
            continue
        visible = mask[placed.part] & ~hidden[placed.window]
        if np.count_nonzero(visible) >= MIN_VISIBLE * total:
            return placed
    return None


def _corner(
    draws: Draws, shape: Shape, *, size: int, near: tuple[int, int, int, int] | None
) -> tuple[int, int]:
    """Row and column of the patch's corner: anywhere, or touching another object."""
    patch = len(shape.depth)
    if near is None:
        margin = patch // 6
        span = size - patch + 2 * margin
        return draws.integer(span) - margin, draws.integer(span) - margin
    middles = ((near[1] + near[3]) // 2, (near[0] + near[2]) // 2)
    reach = (near[2] - near[0] + near[3] - near[1] + 2 * patch) // 5
    row, column = (middle - patch // 2 + draws.integer(2 * reach + 1) - reach for middle in middles)
    return row, column


def place_at(
    shape: Shape, mask: np.ndarray, *, corner: tuple[int, int], size: int
) -> Placed | None:
    """The object with its patch's corner at a row and column; None where too little is inside."""
    spans = []
    for start in corner:
        low, high = max(start, 0), min(start + len(mask), size)
        if high - low < MIN_SIDE_PX:
            return None
        spans.append((low, high, start))
    window = tuple(slice(low, high) for low, high, _ in spans)
    part = tuple(slice(low - start, high - start) for low, high, start in spans)
    inside = mask[part]
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if min(_extent(rows), _extent(columns)) < MIN_SIDE_PX:
        return None
    top, left = spans[0][0], spans[1][0]
    box = (
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )
    return Placed(shape, window, part, box, int(np.count_nonzero(inside)))


def _extent(places: np.ndarray) -> int:
    return int(places[-1]) - int(places[0]) + 1 if len(places) else 0
