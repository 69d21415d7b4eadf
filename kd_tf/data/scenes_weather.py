"""The domains: the same scene by day, by night and in fog.

Arithmetic as in scenes_backdrop: exact on every machine.
"""

import numpy as np

from kd_tf.data.scenes_backdrop import crop_tile
from kd_tf.data.scenes_random import Draws

DOMAINS = ("clear", "night", "fog")


def apply_weather(canvas: np.ndarray, *, domain: str, draws: Draws) -> np.ndarray:
    """What the camera sees of [3, H, W] float32 RGB planes (about 0..255) in a domain.

    May work in place; the result is not clipped.
    """
    if domain == "night":
        return _night(canvas, draws=draws)
    if domain == "fog":
        return _fog(canvas, draws=draws)
    return canvas


def _night(canvas: np.ndarray, *, draws: Draws) -> np.ndarray:
    """Little bluish light, one to three lamps that light their surroundings and glare, noise."""
    size = canvas.shape[1]
    tint = (draws.uniform(0.75, 0.9), draws.uniform(0.85, 0.95), draws.uniform(1.05, 1.25))
    ambient = draws.uniform(0.30, 0.48)
    canvas *= np.array([ambient * t for t in tint], np.float32)[:, None, None]
    for _ in range(1 + draws.integer(3)):
        near = _falloff(
            size,
            middle=(draws.uniform(0, size), draws.uniform(0, size)),
            radius=draws.uniform(0.05, 0.13) * size,
        )
        warmth = draws.uniform(0.35, 0.85)
        # Each lamp brightens what is around it and veils it with its own light.
        canvas *= near * draws.uniform(0.4, 1.4) + 1.0
        glare = near * near
        glare *= draws.uniform(60.0, 230.0)
        for plane, share in zip(canvas, (1.0, 0.5 + 0.5 * warmth, warmth), strict=True):
            plane += glare * share
    canvas += _sensor_noise(draws, shape=canvas.shape, amplitude=draws.uniform(8.0, 20.0))
    return canvas


def _fog(canvas: np.ndarray, *, draws: Draws) -> np.ndarray:
    """A pale veil, thicker to one side and in swathes, over a softened image."""
    size = canvas.shape[1]
    canvas = _soften(canvas)
    slope = draws.uniform(0.1, 0.35) * draws.pick((1, 1, 1, -1))
    rows = np.arange(size, dtype=np.float32)[:, None] * (-slope / size)
    veil = crop_tile(draws, "clouds", size=size) * draws.uniform(0.1, 0.3) + rows
    veil += draws.uniform(0.40, 0.55) + 0.5 * slope
    np.clip(veil, 0.0, 0.88, out=veil)
    level = draws.uniform(185.0, 235.0)
    colour = (level - draws.uniform(0.0, 8.0), level, level + draws.uniform(0.0, 10.0))
    for plane, white in zip(canvas, colour, strict=True):
        plane += (white - plane) * veil
    return canvas


def _falloff(size: int, *, middle: tuple[float, float], radius: float) -> np.ndarray:
    """[size, size] float32: 1 at the lamp, 1/2 at `radius`, then falling with distance squared."""
    places = np.arange(size, dtype=np.float32)
    x, y = ((places - m) * (1.0 / radius) for m in middle)
    return 1.0 / (1.0 + x * x + (y * y)[:, None])


def _soften(canvas: np.ndarray) -> np.ndarray:
    """Binomial blur [1 2 1] / 4 along rows and columns; the border rows stay."""
    blurred = canvas.copy()
    blurred[:, 1:-1] = canvas[:, :-2] * 0.25 + canvas[:, 1:-1] * 0.5 + canvas[:, 2:] * 0.25
    result = blurred.copy()
    result[:, :, 1:-1] = (
        blurred[:, :, :-2] * 0.25 + blurred[:, :, 1:-1] * 0.5 + blurred[:, :, 2:] * 0.25
    )
    return result


def _sensor_noise(draws: Draws, *, shape: tuple[int, int, int], amplitude: float) -> np.ndarray:
    """Noise between -amplitude and amplitude, small values likelier than large ones."""
    count = shape[0] * shape[1] * shape[2]
    pairs = draws.octets(2 * count).reshape(2, *shape).astype(np.float32)
    noise = pairs[0] - pairs[1]
    noise *= amplitude / 255.0
    return noise
