"""Puts colour on a scene: objects, and clutter that is no object.

Arithmetic as in scenes_backdrop: exact on every machine.
"""

import numpy as np

from kd_tf.data.scenes_backdrop import crop_tile, tiles
from kd_tf.data.scenes_random import Draws
from kd_tf.data.scenes_shapes import Placed, Shape

Colour = tuple[float, float, float]

# Least sum of the three channels' differences between an object and what it lies on, and
# between the two colours of a texture that makes a class.
_GROUND_CONTRAST = 180
_TEXTURE_CONTRAST = 190
_COLOUR_TRIES = 16


def paint_object(canvas: np.ndarray, placed: Placed, *, draws: Draws) -> None:
    """Paints one object into [3, H, W] float32 planes, in place, with smooth edges."""
    region = canvas[(slice(None), *placed.window)]
    ground = _middle_colour(region)
    colour = _colour(draws, away_from=[(ground, _GROUND_CONTRAST)])
    if placed.shape.name in ("target", "checker"):
        # A target's middle that looked like the ground would make it a ring.
        apart = [(ground, _GROUND_CONTRAST), (colour, _TEXTURE_CONTRAST)]
        second = _colour(draws, away_from=apart)
    else:
        second = _shade(draws, colour)
    mix = _mix(draws, placed.shape)
    shade = 1.0 + placed.shape.u * draws.uniform(-0.15, 0.15)
    shade += placed.shape.v * draws.uniform(-0.15, 0.15)
    depth = placed.shape.depth
    if placed.shape.unit_px > 7 and draws.chance(0.35):
        # A darker or lighter rim.
        rim = np.clip(depth - draws.uniform(0.8, 2.2), 0.0, 1.0)
        shade *= 1.0 + (rim - 1.0) * draws.uniform(-0.3, 0.5)
    part = placed.part
    fill = mix[part] * _planes([b - a for a, b in zip(colour, second, strict=True)])
    fill += _planes(colour)
    fill *= shade[part]
    _blend(region, fill, alpha=np.clip(depth[part] + 0.5, 0.0, 1.0))


def paint_clutter(canvas: np.ndarray, *, draws: Draws) -> None:
    """Paints lines, patches and stains into [3, H, W] float32 planes, in place.

    None of them is a class, none has a box: a detector must learn to leave them.
    """
    for _ in range(draws.integer(5)):
        kind = draws.integer(4)
        if kind < 2:
            _paint_line(canvas, draws=draws)
        elif kind == 2:
            _paint_patch(canvas, draws=draws)
        else:
            _paint_stain(canvas, draws=draws)


def _mix(draws: Draws, shape: Shape) -> np.ndarray:
    """[K, K] float32: 0 where an object has its first colour, 1 where it has its second."""
    u, v, sharp = shape.u, shape.v, shape.unit_px
    if shape.name == "target":
        return np.clip((0.55 - np.sqrt(u * u + v * v)) * sharp + 0.5, 0.0, 1.0)
    if shape.name == "checker":
        # Three cells across; where exactly one of the two waves is high, the second colour.
        across, down = _wave(u * 0.75, sharp), _wave(v * 0.75, sharp)
        return across * (1.0 - 2.0 * down) + down
    kind = draws.integer(10)
    if kind < 4:
        return np.zeros_like(u)
    if kind < 8:
        return np.clip(0.5 + 0.5 * u, 0.0, 1.0)
    if kind < 9:
        # At least three pixels to a stripe.
        count = draws.uniform(1.0, max(1.1, min(3.0, sharp / 3.0)))
        return _wave((u if draws.chance(0.5) else v) * count * 0.5, sharp / count)
    row, column = draws.integer(256 - len(u)), draws.integer(256 - len(u))
    grain = tiles()["grain" if sharp > 10 else "clouds"]
    return grain[row : row + len(u), column : column + len(u)]


def _wave(places: np.ndarray, sharp: float) -> np.ndarray:
    """A square wave of period 1 between 0 and 1, its edges about a pixel wide."""
    part = places - np.floor(places)
    return np.clip((np.abs(part - 0.5) - 0.25) * (1.5 * sharp) + 0.5, 0.0, 1.0)


def _paint_line(canvas: np.ndarray, *, draws: Draws) -> None:
    size = canvas.shape[1]
    start = (draws.uniform(0, size), draws.uniform(0, size))
    step = (draws.uniform(-55, 55), draws.uniform(-55, 55))
    width = draws.uniform(0.5, 1.8)
    window, x, y = _grid(
        [min(start[k], start[k] + step[k]) - 3 for k in (0, 1)],
        [max(start[k], start[k] + step[k]) + 3 for k in (0, 1)],
        size=size,
    )
    x, y = x - start[0], y - start[1]
    length2 = max(step[0] * step[0] + step[1] * step[1], 1.0)
    along = np.clip(x * (step[0] / length2) + y * (step[1] / length2), 0.0, 1.0)
    x, y = x - along * step[0], y - along * step[1]
    alpha = np.clip(width + 0.5 - np.sqrt(x * x + y * y), 0.0, 1.0)
    _blend(canvas[window], _planes(_dull_colour(draws)), alpha=alpha * draws.uniform(0.5, 1.0))


def _paint_patch(canvas: np.ndarray, *, draws: Draws) -> None:
    """A ragged splash, like no class's outline: the level set of a spot plus coarse noise."""
    size = canvas.shape[1]
    middle = (draws.uniform(0, size), draws.uniform(0, size))
    radius = draws.uniform(5.0, 18.0)
    window, x, y = _grid([m - radius for m in middle], [m + radius for m in middle], size=size)
    noise = crop_tile(draws, "splash", size=size)[window[1:]]
    x, y = x - middle[0], y - middle[1]
    field = noise - 0.42 - (x * x + y * y) * (0.45 / (radius * radius))
    alpha = np.clip(field * 24.0, 0.0, 1.0)
    _blend(canvas[window], _planes(_dull_colour(draws)), alpha=alpha * draws.uniform(0.6, 1.0))


def _paint_stain(canvas: np.ndarray, *, draws: Draws) -> None:
    """A soft light or dark spot without an edge."""
    size = canvas.shape[1]
    middle = (draws.uniform(0, size), draws.uniform(0, size))
    radius = draws.uniform(8.0, 30.0)
    window, x, y = _grid([m - radius for m in middle], [m + radius for m in middle], size=size)
    x, y = x - middle[0], y - middle[1]
    soft = np.clip(1.0 - (x * x + y * y) * (1.0 / (radius * radius)), 0.0, 1.0)
    level = draws.pick((15.0, 240.0))
    _blend(canvas[window], level, alpha=soft * soft * draws.uniform(0.2, 0.6))


def _grid(
    low: list[float], high: list[float], *, size: int
) -> tuple[tuple[slice, slice, slice], np.ndarray, np.ndarray]:
    """The window of an image between two corners (x, y), and its x [1, W] and y [H, 1]."""
    x0, y0 = (min(max(int(c), 0), size) for c in low)
    x1, y1 = (min(max(int(c) + 1, 0), size) for c in high)
    x = np.arange(x0, x1, dtype=np.float32)[None, :]
    y = np.arange(y0, y1, dtype=np.float32)[:, None]
    return (slice(None), slice(y0, y1), slice(x0, x1)), x, y


def _blend(region: np.ndarray, fill: np.ndarray | float, *, alpha: np.ndarray) -> None:
    difference = fill - region
    difference *= alpha
    region += difference


def _planes(colour: Colour | list[float]) -> np.ndarray:
    return np.array(colour, np.float32)[:, None, None]


def _middle_colour(region: np.ndarray) -> Colour:
    """The mean colour of a region; summed as integers, so that the order does not matter."""
    sample = region[:, ::2, ::2].astype(np.int64)
    count = sample.shape[1] * sample.shape[2]
    red, green, blue = (int(total) / count for total in sample.sum(axis=(1, 2)))
    return red, green, blue


def _colour(draws: Draws, *, away_from: list[tuple[Colour, float]]) -> Colour:
    """A random colour that differs from others by at least a sum over the channels each.

    Where tries run out it is the one that came nearest to that.
    """
    best, best_margin = None, 0.0
    for _ in range(_COLOUR_TRIES):
        colour = _random_colour(draws)
        margin = min(
            sum(abs(a - b) for a, b in zip(colour, other, strict=True)) - least
            for other, least in away_from
        )
        if margin >= 0:
            return colour
        if best is None or margin > best_margin:
            best, best_margin = colour, margin
    return best


def _random_colour(draws: Draws) -> Colour:
    """A colour of any hue, often saturated, sometimes grey."""
    # The colour wheel without sines: each channel is a trapezoid of the hue.
    hue, value = draws.uniform(0.0, 6.0), draws.uniform(60.0, 250.0)
    saturation = 0.0 if draws.chance(0.12) else draws.uniform(0.5, 1.0)
    red, green, blue = (
        value * (1.0 - saturation * min(max(abs((hue + turn) % 6.0 - 3.0) - 1.0, 0.0), 1.0))
        for turn in (0.0, 2.0, 4.0)
    )
    return red, green, blue


def _shade(draws: Draws, colour: Colour) -> Colour:
    """A darker or lighter tone of a colour, so that a fill does not hide the outline."""
    towards, part = draws.pick((0.0, 250.0)), draws.uniform(0.25, 0.55)
    red, green, blue = (channel + (towards - channel) * part for channel in colour)
    return red, green, blue


def _dull_colour(draws: Draws) -> Colour:
    """A greyish colour, as ground and clutter have."""
    grey = draws.uniform(30.0, 220.0)
    red, green, blue = (grey + draws.uniform(-25.0, 25.0) for _ in range(3))
    return red, green, blue
