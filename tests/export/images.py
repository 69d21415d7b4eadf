"""Image files for tests: every orientation, format and kind of damage."""

import io
import struct

import numpy as np
from PIL import Image

_ORIENTATION, _MAKE = 0x0112, 0x010F


def pixels(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Smooth colours [height, width, 3] uint8 that no turn or flip leaves as they are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (4, 5, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encode(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """The bytes of an image file that Pillow writes."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def exif(orientation: int, *, order: str = "II") -> bytes:
    """An EXIF block with another tag before the orientation; order II (little) or MM (big)."""
    sign = "<" if order == "II" else ">"
    return b"".join(
        [
            b"Exif\0\0",
            order.encode(),
            struct.pack(f"{sign}HI", 42, 8),
            struct.pack(f"{sign}H", 2),
            struct.pack(f"{sign}HHI4s", _MAKE, 2, 4, b"abc\0"),
            struct.pack(f"{sign}HHIHH", _ORIENTATION, 3, 1, orientation, 0),
            struct.pack(f"{sign}I", 0),
        ]
    )


def jpeg(
    image: np.ndarray, *, orientation: int | None = None, order: str = "II", jfif: bool = True
) -> bytes:
    """A JPEG file; Pillow puts APP0 (JFIF) before APP1 (EXIF), `jfif=False` cuts APP0 out."""
    options = {} if orientation is None else {"exif": exif(orientation, order=order)}
    content = encode(image, "JPEG", quality=95, subsampling=0, **options)
    if jfif:
        return content
    assert content[2:4] == b"\xff\xe0"
    length = int.from_bytes(content[4:6], "big")
    return content[:2] + content[4 + length :]
