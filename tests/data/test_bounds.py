"""Small files that unpack to gigabytes or cost minutes: bounded before anything is unpacked."""

import io
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kd_tf.data import bounds
from kd_tf.data.bounds import DecodingRoom, decode_gif, num_scans
from kd_tf.data.images import check_image, decode_upright
from kd_tf.errors import RejectedError
from tests.data import made
from tests.export.odd_files import many_scans


def _gif(pixels: np.ndarray, *, num_more: int = 0, place: tuple[int, int] = (0, 0), **options):
    """A GIF with further frames of one colour behind the first, which may lie off the corner."""
    encoded = made.encode(pixels, "GIF", mode="P", **options)
    if not num_more and place == (0, 0):
        return encoded
    start = _frame_of(encoded)
    left, top = place
    height, width = pixels.shape[:2]
    screen = (width + left).to_bytes(2, "little") + (height + top).to_bytes(2, "little")
    corner = left.to_bytes(2, "little") + top.to_bytes(2, "little")
    first = encoded[start : start + 1] + corner + encoded[start + 5 : -1]
    plain = made.encode(np.zeros_like(pixels), "GIF", mode="P")
    frame = plain[_frame_of(plain) : -1]
    return encoded[:6] + screen + encoded[10:start] + first + frame * num_more + b";"


def _frame_of(encoded: bytes) -> int:
    """Where the first frame of a GIF begins."""
    place = 13 + (3 * 2 ** (encoded[10] % 8 + 1) if encoded[10] >= 128 else 0)
    while encoded[place] == 0x21:
        place += 2
        while encoded[place]:
            place += 1 + encoded[place]
        place += 1
    return place


@pytest.mark.parametrize("limit", [bounds.MAX_PIXELS, 1000], ids=["whole", "cut"])
@pytest.mark.parametrize("num_more", [0, 5])
@pytest.mark.parametrize("options", [{}, {"comment": b"x" * 700}], ids=["plain", "comment"])
def test_decode_gif_gives_the_first_frame_cut_or_not(monkeypatch, limit, num_more, options):
    monkeypatch.setattr(bounds, "MAX_PIXELS", max(limit, 24 * 40))
    encoded = _gif(made.colours(), num_more=num_more, **options)
    found = decode_gif.python_function(tf.constant(encoded))
    expected = Image.open(io.BytesIO(encoded)).convert("RGB")
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_decode_gif_that_is_cut_keeps_a_frame_at_its_place(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_PIXELS", 24 * 40)
    encoded = _gif(made.colours(), num_more=3, place=(7, 5))
    found = decode_gif.python_function(tf.constant(encoded)).numpy()
    first = np.asarray(Image.open(io.BytesIO(made.encode(made.colours(), "GIF", mode="P"))))
    assert found.shape == (29, 47, 3)
    np.testing.assert_array_equal(found[5:, 7:], _rgb(made.colours()))
    assert not found[:5].any()
    assert first.shape == (24, 40)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    encoded = made.encode(pixels, "GIF", mode="P")
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_gif_first_frame_above_100_megapixels(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_PIXELS", 24 * 40 - 1)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_gif.python_function(tf.constant(_gif(made.colours())))


@pytest.mark.parametrize("length", [0, 3, 6, 10, 13, 14, 60, 800, 900])
def test_decode_gif_of_a_cut_file_is_refused(length):
    encoded = _gif(made.colours(), num_more=2)
    assert len(encoded) > 900
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_gif(tf.constant(encoded[:length]))


def test_decode_gif_of_mutated_files_ends():
    rng = np.random.default_rng(1)
    sound = _gif(made.colours(), num_more=2)
    for _ in range(200):
        encoded = bytearray(sound)
        for place in rng.integers(6, len(sound), size=4):
            encoded[place] = rng.choice([0, 0x21, 0x2C, 0xFF])
        try:
            pixels = decode_gif(tf.constant(bytes(encoded)))
        except tf.errors.OpError:
            continue
        assert pixels.shape[2] == 3


def test_jpeg_of_many_scans():
    # 10 scans by Pillow; 2e9 scanned pixels are allowed: 2,000 scans of 1,000 x 1,000 pixels.
    pixels = made.colours(1000, 1000)
    assert num_scans(tf.constant(many_scans(pixels, num_more=5))) == 15
    with pytest.raises(RejectedError, match="too many scans: 2001 of 1000x1000"):
        check_image(many_scans(pixels, num_more=1991))
    small = many_scans(made.colours(), num_more=1991)
    assert check_image(small).encoded == small


def test_images_above_16_megapixels_at_once():
    room, inside, most = DecodingRoom(100_000_000), [], []

    def work(pixels: int) -> None:
        with room.taken(pixels):
            inside.append(pixels)
            most.append(sum(size for size in inside if size > 16_000_000))
            time.sleep(0.02)
            inside.remove(pixels)

    sizes = [90_000_000, 60_000_000, 40_000_000, 100_000_000, 16_000_000, 16_000_000] * 3
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(most) == len(sizes)
    assert max(most) <= 100_000_000
    with room.taken(16_000_001), room.taken(16_000_000):
        assert max(most) == 100_000_000


_MEMORY = """
import concurrent.futures, io, resource, sys
import tensorflow as tf
from PIL import Image
from kd_tf.data.images import check_image
from kd_tf.export import decoding
from tests.data import made, test_bounds

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

for kind in ("GIF", "WEBP"):
    check_image(made.encode(made.colours(), kind))
decode = tf.function(lambda file: decoding.decode_rows(file, (32, 32)),
                     input_signature=[tf.TensorSpec([None], tf.string)])
decode(tf.constant([made.encode(made.colours(), "GIF")]))
before = memory()
if sys.argv[1] == "webp":
    files = [made.encode_picture(Image.new("RGB", (5000, 5000)), "WEBP", lossless=True)] * 4
else:
    pixels = made.colours(1, 1).repeat(2000, 0).repeat(2000, 1)
    files = [test_bounds._gif(pixels, num_more=400)]
before = memory()
if sys.argv[1] == "export":
    assert decode(tf.constant(files)).status.numpy().tolist() == [b"ok"]
else:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda file: check_image(file).format, files))
print("MB", round(memory() - before))
"""


@pytest.mark.parametrize(
    ("kind", "most_mb"),
    [
        # 401 frames of 4 megapixels are 1,604 MB, one byte a pixel.
        pytest.param("gif", 300, id="gif_of_400_frames"),
        pytest.param("export", 300, id="gif_of_400_frames_in_the_exported_graph"),
        # 4 of 25 megapixels: 23 bytes a pixel while decoded; without a bound 2,300 MB.
        pytest.param("webp", 2000, id="four_large_webp_at_once"),
    ],
)
def test_memory_of_small_files_that_unpack_to_much(kind, most_mb):
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, kind], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("MB")[1]) < most_mb


def test_animated_gif_keeps_its_bytes_and_training_decodes_the_first_frame():
    encoded = _gif(made.colours(), num_more=4)
    image = check_image(encoded)
    assert image.encoded == encoded
    np.testing.assert_array_equal(decode_upright(tf.constant(encoded)), _rgb(made.colours()))


def _png_with(kind: bytes, start: bytes) -> bytes:
    """A PNG with a chunk that unpacks to 50 MB, behind its header."""
    body = start + zlib.compress(b"a" * (50 << 20), 9)
    check = struct.pack(">I", zlib.crc32(kind + body))
    encoded = made.encode(made.colours())
    return encoded[:33] + struct.pack(">I", len(body)) + kind + body + check + encoded[33:]


@pytest.mark.parametrize(
    ("kind", "start"),
    [(b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")],
    ids=["text", "international_text", "profile"],
)
def test_png_text_or_profile_of_300_mb(kind, start):
    with pytest.raises(RejectedError, match="damaged image"):
        check_image(_png_with(kind, start))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_png_webp_tiff_of_60_pictures(kind):
    pictures = [Image.fromarray(np.full((60, 80, 3), 4 * i, np.uint8)) for i in range(60)]
    options = {"lossless": True} if kind == "WEBP" else {}
    encoded = made.encode_picture(
        pictures[0], kind, save_all=True, append_images=pictures[1:], **options
    )
    image = check_image(encoded)
    np.testing.assert_array_equal(image.pixels, np.zeros((60, 80, 3), np.uint8))
