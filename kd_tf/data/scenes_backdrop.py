"""What the objects of a scene lie on: textured ground made from a bank of noise tiles.

All arithmetic is + - * / sqrt, floor, minimum and maximum on float32 and integers,
each correctly rounded by IEEE 754, so the pixels are the same on every machine.
"""

import functools
import math

import numpy as np

from kd_tf.data.scenes_random import Draws

_SIDE = 256
# Seeds of the bank, far from any image's stream.
_BANK_SPLIT = 1 << 32

# Texture, dark colour, light colour (RGB).
_MATERIALS = (
    ("grain", (52, 86, 38), (122, 158, 82)),
    ("grain", (76, 78, 84), (128, 130, 134)),
    ("clouds", (172, 146, 104), (222, 202, 164)),
    ("streaks", (104, 68, 40), (180, 132, 86)),
    ("streaks", (38, 78, 108), (112, 152, 176)),
    ("bricks", (116, 58, 46), (188, 116, 96)),
    ("bricks", (112, 112, 108), (178, 176, 168)),
    ("pebbles", (84, 80, 76), (186, 180, 170)),
    ("pebbles", (70, 62, 44), (150, 136, 98)),
    ("weave", (60, 58, 92), (128, 124, 164)),
    ("weave", (128, 108, 84), (196, 178, 148)),
    ("clouds", (188, 196, 208), (246, 247, 250)),
    ("clouds", (104, 136, 182), (196, 212, 230)),
)


def draw_backdrop(draws: Draws, *, size: int) -> np.ndarray:
    """A ground of one or two materials with uneven light.

    Returns:
        [3, size, size] float32, RGB planes, about 0..255 (not clipped).
    """
    canvas = _material(draws, size=size)
    if draws.chance(0.45):
        # Into a second ground beyond a slanted edge: a pavement, a shore, a horizon.
        other = _material(draws, size=size)
        mask = np.clip(_plane(draws, size=size) + draws.uniform(-40.0, 40.0), 0.0, 1.0)
        other -= canvas
        other *= mask
        canvas += other
    light = _plane(draws, size=size)
    light *= draws.uniform(0.0, 0.5) / size
    light += draws.uniform(0.85, 1.05)
    canvas *= light
    return canvas


def crop_tile(draws: Draws, name: str, *, size: int) -> np.ndarray:
    """A piece [size, size] float32 in [0, 1] of a tile, turned and shifted at random."""
    row, column = draws.integer(_SIDE), draws.integer(_SIDE)
    down, across = draws.pick((1, -1)), draws.pick((1, -1))
    repeated = _repeated(name, 1 - (-size // _SIDE))
    piece = repeated[row : row + size, column : column + size][::down, ::across]
    return piece.T if draws.chance(0.5) else piece


@functools.lru_cache(maxsize=32)
def _repeated(name: str, times: int) -> np.ndarray:
    return np.tile(tiles()[name], (times, times))


@functools.lru_cache(maxsize=1)
def tiles() -> dict[str, np.ndarray]:
    """The bank of periodic textures: name -> [256, 256] float32 in [0, 1]."""
    grain = _stretch(_noise(1, 64, 64) + _noise(2, 128, 128) + _noise(3, 256, 256))
    clouds = _stretch(8 * _noise(4, 4, 4) + 4 * _noise(5, 8, 8) + 2 * _noise(6, 16, 16) + grain)
    streaks = _stretch(
        3 * _noise(7, 64, 4) + 2 * _noise(8, 128, 8) + _noise(9, 256, 16) + 2 * _noise(10, 8, 2)
    )
    return {
        "grain": grain,
        "clouds": clouds,
        "streaks": streaks,
        "bricks": _stretch(_bricks() + 0.35 * grain),
        "pebbles": _stretch(_pebbles() + 0.25 * grain),
        "splash": _stretch(2 * _noise(13, 32, 32) + _noise(14, 64, 64)),
        "weave": _stretch(_weave() + 0.5 * grain + 0.3 * clouds),
    }


def _material(draws: Draws, *, size: int) -> np.ndarray:
    name, dark, light = draws.pick(_MATERIALS)
    texture = crop_tile(draws, name, size=size) * draws.uniform(0.55, 0.95)
    texture += crop_tile(draws, "clouds", size=size) * draws.uniform(0.1, 0.4)
    low, high = (_faded(colour) for colour in (dark, light))
    low += np.array([draws.integer(25) - 12 for _ in range(3)], np.float32)
    # Weaker than the tile's own contrast: ground is to be seen, not to compete with objects.
    low += 0.2 * (high - low)
    span = (high - low) * 0.75
    canvas = texture * span[:, None, None]
    canvas += low[:, None, None]
    return canvas


def _faded(colour: tuple[int, int, int]) -> np.ndarray:
    """A colour with its distance from grey reduced."""
    planes = np.array(colour, np.float32)
    return planes + 0.35 * (sum(colour) / 3 - planes)


def _plane(draws: Draws, *, size: int) -> np.ndarray:
    """[size, size] float32: signed distance in pixels from a random line through the middle."""
    x, y = draws.uniform(-1.0, 1.0), draws.uniform(-1.0, 1.0)
    norm = max(math.sqrt(x * x + y * y), 0.1)
    offsets = np.arange(size, dtype=np.float32) - size / 2
    return offsets * (x / norm) + (offsets * (y / norm))[:, None]


def _noise(number: int, rows: int, columns: int) -> np.ndarray:
    """Periodic value noise in [0, 1] with a lattice of rows x columns, smoothly joined."""
    draws = Draws(seed=0, split=_BANK_SPLIT, index=number, purpose=0)
    lattice = draws.octets(rows * columns).reshape(rows, columns).astype(np.float32) / 255
    return _widen(_widen(lattice).T).T


def _widen(lattice: np.ndarray) -> np.ndarray:
    """Interpolates the first axis of a periodic lattice to the side of a tile."""
    places = np.arange(_SIDE, dtype=np.float32) * (len(lattice) / _SIDE)
    start = np.floor(places)
    part = (places - start)[:, None]
    part = part * part * (3 - 2 * part)
    first = start.astype(np.int64)
    low, high = lattice[first], lattice[(first + 1) % len(lattice)]
    return low + (high - low) * part


def _bricks() -> np.ndarray:
    """Courses of 16 x 32 pixel bricks, each with its own shade, in dark mortar."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    row = y // 16
    shifted = (x + 16 * (row % 2)) % _SIDE
    shades = _noise(11, 16, 8)[row * 16, shifted // 32 * 32]
    mortar = (y % 16 < 2) | (shifted % 32 < 2)
    return np.where(mortar, np.float32(0), 0.5 + 0.5 * shades)


def _pebbles() -> np.ndarray:
    """Cells around 400 jittered points, dark where two cells meet."""
    draws = Draws(seed=0, split=_BANK_SPLIT, index=12, purpose=0)
    offsets = np.arange(_SIDE, dtype=np.float32)
    nearest = np.full((_SIDE, _SIDE), 1e6, np.float32)
    second, shades = nearest.copy(), nearest.copy()
    for number in range(400):
        column, row = divmod(number, 20)
        dx, dy = (
            np.abs(offsets - (12.8 * place + draws.uniform(0.0, 11.0))) for place in (column, row)
        )
        dx, dy = np.minimum(dx, _SIDE - dx), np.minimum(dy, _SIDE - dy)
        distance = np.sqrt(dx * dx + (dy * dy)[:, None])
        second = np.minimum(second, np.maximum(nearest, distance))
        shades = np.where(distance < nearest, np.float32(draws.uniform(0.0, 0.5)), shades)
        nearest = np.minimum(nearest, distance)
    return np.minimum((second - nearest) / 5, 1) * 0.6 + shades


def _weave() -> np.ndarray:
    """Threads over and under each other every four pixels."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    over = (x // 4 + y // 4) % 2 == 0
    across = np.where(over, x % 4, y % 4)
    bright = np.array([0.2, 0.9, 1.0, 0.5], np.float32)[across]
    return np.where(over, bright, bright * np.float32(0.75))


def _stretch(texture: np.ndarray) -> np.ndarray:
    """The texture with its range made [0, 1]."""
    low, high = texture.min(), texture.max()
    return ((texture - low) / (high - low)).astype(np.float32)
