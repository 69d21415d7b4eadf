"""Pictures with their boxes, on one sheet."""

import colorsys
import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from kd_tf.data.items import Labels

NUM_PICTURES = 9

_COLUMNS = 3
_CELL_PX = 320
_CAPTION_PX = 16
# Walking round the colour circle by the golden ratio keeps neighbouring classes apart.
_HUE_STEP = 0.618034


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One small picture and what is marked in it.

    Attributes:
        caption: The image's identity.
        pixels: [h, w, 3] uint8, at most 320 pixels a side.
        boxes: [N, 4] float32 xyxy in pixels of `pixels`.
        texts: [N] names of the boxes.
        colours: [N] RGB, by class.
        crowd: [N] bool; drawn thinner.
    """

    caption: str
    pixels: np.ndarray
    boxes: np.ndarray
    texts: list[str]
    colours: list[tuple[int, int, int]]
    crowd: np.ndarray

    @classmethod
    def reduced(
        cls, caption: str, pixels: np.ndarray, *, labels: Labels | None,
        class_names: tuple[str, ...],
    ) -> "Picture":  # fmt: skip
        """A picture of an image [H, W, 3] that fits its place on the sheet."""
        height, width = pixels.shape[:2]
        scale = min(_CELL_PX / height, _CELL_PX / width, 1.0)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
        if labels is None:
            return cls(caption, small, np.zeros((0, 4), np.float32), [], [], np.zeros(0, bool))
        return cls(
            caption,
            small,
            (labels.boxes * scale).astype(np.float32),
            [class_names[index] for index in labels.classes],
            [_colour(int(index)) for index in labels.classes],
            labels.is_crowd,
        )


def draw_sheet(pictures: list[Picture]) -> np.ndarray:
    """A sheet [H, W, 3] uint8 of up to nine pictures, three in a row, with boxes and names."""
    num_rows = -(-len(pictures) // _COLUMNS)
    cell_height = _CELL_PX + _CAPTION_PX
    sheet = Image.new("RGB", (_COLUMNS * _CELL_PX, num_rows * cell_height), (255, 255, 255))
    for rank, picture in enumerate(pictures):
        row, column = divmod(rank, _COLUMNS)
        sheet.paste(_draw(picture), (column * _CELL_PX, row * cell_height))
    return np.array(sheet)


def _draw(picture: Picture) -> Image.Image:
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX + _CAPTION_PX), (255, 255, 255))
    cell.paste(Image.fromarray(picture.pixels), (0, _CAPTION_PX))
    draw = ImageDraw.Draw(cell)
    caption = picture.caption.replace("\n", " ")
    draw.text((2, 2), _printable(caption[-50:]), fill=(0, 0, 0))
    rows = zip(picture.boxes, picture.texts, picture.colours, picture.crowd, strict=True)
    for box, text, colour, crowd in rows:
        x1, y1, x2, y2 = (box + np.array([0, _CAPTION_PX] * 2)).tolist()
        draw.rectangle(
            (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=1 if crowd else 2
        )
        place = (x1 + 2, y1 + 1)
        draw.rectangle(draw.textbbox(place, _printable(text)), fill=(0, 0, 0))
        draw.text(place, _printable(text), fill=colour)
    return cell


def _printable(text: str) -> str:
    """Pillow's built-in font knows Latin-1 only."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _colour(index: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(index * _HUE_STEP % 1.0, 1.0, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)
