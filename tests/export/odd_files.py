"""Odd but well-formed files, byte by byte: BMP of every kind, JPEG with bytes between segments."""

import struct

import numpy as np

from tests.export import images

WIDTH, HEIGHT = 13, 6
# Entry i is red i * 9, green 250 - i, blue i * 5, each modulo 251.
_PALETTE = np.array([[i * 9, 250 - i, i * 5] for i in range(256)]) % 251


def bmp(
    bits: int,
    *,
    top_down: bool = False,
    old: bool = False,
    num_colours: int = 0,
    compression: int = 0,
    data: bytes | None = None,
    header_bytes: int = 40,
    masks: tuple[int, ...] = (),
    gap: int = 0,
) -> bytes:
    """A BMP file of 13x6 pixels of the palette above, or of levels that grow by one.

    With `masks` it has bit fields. `gap` are bytes before the pixels.
    """
    indices = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % (num_colours or 2 ** min(bits, 7))
    entry = 3 if old else 4
    colours = b""
    if bits <= 8:
        table = _PALETTE[: num_colours or 2**bits, ::-1].astype(np.uint8)
        colours = np.pad(table, [(0, 0), (0, entry - 3)]).tobytes()
    if masks and header_bytes == 40:
        colours = struct.pack("<3I", *masks)
    rows = indices if top_down else indices[::-1]
    body = b"".join(_bmp_row(row, bits) for row in rows) if data is None else data
    height = -HEIGHT if top_down else HEIGHT
    if old:
        info = struct.pack("<IHHHH", 12, WIDTH, height, 1, bits)
    else:
        info = struct.pack(
            "<IiiHHIIiiII", header_bytes, WIDTH, height, 1, bits, 3 if masks else compression,
            len(body), 0, 0, num_colours, 0,
        )  # fmt: skip
        more = struct.pack(f"<{len(masks)}I", *masks) if header_bytes > 40 else b""
        info += more.ljust(header_bytes - 40, b"\0")
    offset = 14 + len(info) + len(colours) + gap
    start = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
    return start + info + colours + b"\0" * gap + body


def _bmp_row(values: np.ndarray, bits: int) -> bytes:
    if bits < 8:
        text = "".join(format(value, f"0{bits}b") for value in values)
        text += "0" * (-len(text) % 8)
        row = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    elif bits == 16:
        row = b"".join(struct.pack("<H", int(v) * 401 % 32768) for v in values)
    else:
        row = b"".join(bytes([v] * (bits // 8)) for v in values)
    return row + b"\0" * (-len(row) % 4)


def palette_pixels(bits: int, *, num_colours: int = 0) -> np.ndarray:
    """The pixels of `bmp(bits)` of up to 8 bits."""
    indices = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % (num_colours or 2 ** min(bits, 7))
    return _PALETTE[indices].astype(np.uint8)


def jpeg_between(stray: bytes, *, orientation: int = 6, everywhere: bool = True) -> bytes:
    """A JPEG with bytes in front of every segment behind the first, or of the second alone."""
    parts = _segments(images.jpeg(images.pixels(16, 24), orientation=orientation))
    before = [stray if everywhere or number == 1 else b"" for number in range(len(parts))]
    return (
        b"\xff\xd8"
        + parts[0]
        + b"".join(
            stray_bytes + part for stray_bytes, part in zip(before[1:], parts[1:], strict=True)
        )
    )


def jpeg_patched(position_in_frame: int, value: int) -> bytes:
    """A JPEG with another byte in its frame header: 1 is its kind, 4 its bits a sample."""
    encoded = bytearray(images.jpeg(images.pixels(16, 24)))
    encoded[encoded.index(b"\xff\xc0\x00\x11") + position_in_frame] = value
    return bytes(encoded)


def _segments(encoded: bytes) -> list[bytes]:
    """The segments behind the start of the image; the last one holds the pixels too."""
    found, position = [], 2
    while encoded[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
        found.append(encoded[position:end])
        position = end
    return [*found, encoded[position:]]


def many_scans(pixels: np.ndarray, *, num_more: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    encoded = images.encode(pixels, "JPEG", progressive=True)
    last = encoded.rindex(b"\xff\xda")
    return encoded[:-2] + encoded[last:-2] * num_more + b"\xff\xd9"
