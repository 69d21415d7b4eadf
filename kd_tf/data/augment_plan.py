"""Draws what happens to an image: every random number of the augmentation, and no pixel."""

import dataclasses

import numpy as np

from kd_tf.errors import UserError

# Ranges of the colour changes at strength 1, drawn evenly. Little hue: a blood cell must not
# change its dye.
_BRIGHTNESS = 80.0  # grey levels up or down
_CONTRAST = 0.5
_SATURATION = 0.8
_HUE_TURNS = 0.04
# Where the four images of a mosaic meet, as a share of height and width.
_CENTRE = (0.3, 0.7)
# Both images of a mixup stay visible enough that all boxes count in full.
_MIX = (0.4, 0.6)
MAX_TILES = 5

# Luma of ITU-R BT.601 and the two colour axes of NTSC.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_GREY = np.tile(_TO_YIQ[0], (3, 1))


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """How images are varied; the defaults change nothing.

    Attributes:
        flip: Share of images mirrored left to right.
        scale_jitter: (low, high) zoom, drawn evenly on a log scale; above 1 the image is cut
            at random, below 1 it lies at random on grey.
        color: Strength in [0, 1] of changes of brightness, contrast, saturation and hue.
        mosaic: Share of images made of four.
        mixup: Share of images blended with another one.
    """

    flip: float = 0.0
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    color: float = 0.0
    mosaic: float = 0.0
    mixup: float = 0.0

    def __post_init__(self):
        for name in ("flip", "color", "mosaic", "mixup"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name} must be in [0, 1], got {getattr(self, name)}.")
        low, high = self.scale_jitter
        if not 0.1 <= low <= high <= 10.0:
            raise UserError(f"scale_jitter needs 0.1 <= low <= high <= 10, got {low}, {high}.")

    @property
    def num_tiles(self) -> int:
        """Most images that one output image is made of."""
        return (4 if self.mosaic else 1) + (1 if self.mixup else 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What happens to one output image.

    Attributes:
        num_tiles: 1, or 4 for a mosaic; one more where another image is mixed in.
        layout: [3] float32: the mosaic's centre (x, y) as shares, and how much of the mix
            is the image itself.
        tiles: [num_tiles, 16] float32, what happens to each image: zoom, place_x, place_y,
            flip (0 or 1), and 12 numbers of a colour matrix [3, 4] for pixels in 0..255.
        partners: [num_tiles - 1] float64 in [0, 1): which other images.
    """

    num_tiles: int
    layout: np.ndarray
    tiles: np.ndarray
    partners: np.ndarray


def draw_plan(settings: AugmentSettings, *, stream: np.random.Generator) -> Plan:
    """Draws a plan.

    The same numbers are drawn whatever the settings, so switching one thing off
    leaves the rest as it was.
    """
    head = stream.random(5 + MAX_TILES - 1)
    each = stream.random((MAX_TILES, 8))
    mosaic, mixup = head[0] < settings.mosaic, head[1] < settings.mixup
    num_tiles = (4 if mosaic else 1) + (1 if mixup else 0)
    return Plan(
        num_tiles=num_tiles,
        layout=np.array([*_between(head[2:4], _CENTRE), _between(head[4], _MIX)], np.float32),
        tiles=np.stack([_tile(settings, numbers) for numbers in each[:num_tiles]]),
        partners=head[5 : 5 + num_tiles - 1],
    )


def _between(value: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return limits[0] + value * (limits[1] - limits[0])


def _tile(settings: AugmentSettings, numbers: np.ndarray) -> np.ndarray:
    low, high = settings.scale_jitter
    fixed = low == high == 1.0
    zoom = 1.0 if fixed else np.exp(_between(numbers[0], (np.log(low), np.log(high))))
    place = np.array([0.5, 0.5]) if fixed else numbers[1:3]
    flip = numbers[3] < settings.flip
    matrix = _color_matrix(settings.color * (2.0 * numbers[4:8] - 1.0))
    return np.array([zoom, *place, flip, *matrix.ravel()], np.float32)


def _color_matrix(amounts: np.ndarray) -> np.ndarray:
    """[3, 4] of brightness, contrast, saturation and hue changes, each in [-1, 1]; 0 is exact.

    All four are linear in the pixel, so they are one matrix: out = m[:, :3] @ rgb + m[:, 3].
    Saturation and hue act around the grey axis.
    """
    brightness, contrast, saturation, hue = amounts
    angle = hue * _HUE_TURNS * 2.0 * np.pi
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    # Written as identity plus change, so that no change is the identity to the last bit.
    turned = np.eye(3) + _FROM_YIQ @ (turn - np.eye(3)) @ _TO_YIQ
    mixed = np.eye(3) + saturation * _SATURATION * (np.eye(3) - _GREY)
    gain = 1.0 + contrast * _CONTRAST
    # Contrast turns about middle grey, 127.5.
    shift = np.full((3, 1), brightness * _BRIGHTNESS + 127.5 * (1.0 - gain))
    return np.concatenate([gain * mixed @ turned, shift], axis=1)
