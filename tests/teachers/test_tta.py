"""Looking several times: mirrored, scaled, in tiles; boxes come back where they were."""

import numpy as np
import pytest

from kd_tf.errors import UserError
from kd_tf.geometry.detections import Detections, Needs
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.tta import FlippedToo, Scaled, Tiled, tile_starts

NMS = FusionSettings("nms", 0.5)
WBF = FusionSettings("wbf", 0.5)


class Spots:
    """Finds white rectangles that lie apart, and nothing narrower than 3 px."""

    def __init__(self, size: int = 64):
        self._size = size
        self.num_images = 0

    def needs(self) -> Needs:
        return Needs(("spot",), self._size, self._size, "stretch", pad_value=0)

    def detect(self, images: np.ndarray) -> list[Detections]:
        assert images.shape[1:] == (self._size, self._size, 3)
        self.num_images += len(images)
        return [self._detect(image[..., 0] > 127) for image in images]

    @staticmethod
    def _detect(mask: np.ndarray) -> Detections:
        boxes = []
        mask = mask.copy()
        while mask.any():
            y, x = np.argwhere(mask)[0]
            x2 = x + int(np.argmin(np.append(mask[y, x:], False)))
            y2 = y + int(np.argmin(np.append(mask[y:, x], False)))
            mask[y:y2, x:x2] = False
            if min(x2 - x, y2 - y) >= 3:
                boxes.append([x, y, x2, y2])
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return Detections(boxes, np.full(len(boxes), 0.8), np.zeros(len(boxes), np.int32))


def _image(height: int, width: int, *boxes) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return image


def test_flipped_too_both_views_agree():
    (found,) = FlippedToo(Spots(), fusion=WBF).detect(_image(64, 64, (5, 10, 20, 30))[None])
    np.testing.assert_allclose(found.boxes, [[5, 10, 20, 30]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.8], atol=1e-6)


def test_flipped_too_what_one_view_sees_alone_is_trusted_less():
    class LeftOnly(Spots):
        def detect(self, images):
            return [f[f.boxes[:, 0] < 32] for f in super().detect(images)]

    (found,) = FlippedToo(LeftOnly(), fusion=WBF).detect(_image(64, 64, (5, 10, 20, 30))[None])
    np.testing.assert_allclose(found.scores, [0.4], atol=1e-6)


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        pytest.param(64, 64, 0.25, [0], id="exact"),
        pytest.param(10, 64, 0.25, [0], id="smaller"),
        pytest.param(65, 64, 0.25, [0, 1], id="one_more"),
        pytest.param(160, 64, 0.0, [0, 48, 96], id="even_spread"),
        pytest.param(128, 64, 0.5, [0, 32, 64], id="half_overlap"),
    ],
)
def test_tile_starts(length, tile, overlap, starts):
    assert tile_starts(length, tile, overlap=overlap) == starts


def test_tiled_finds_small_and_cut_objects_where_they_are():
    # Tiles begin at 0, 48, 96 (and 0, 36 downwards); the second box crosses x = 64.
    boxes = [(3, 3, 13, 12), (55, 50, 75, 66), (140, 80, 158, 99)]
    detector = Spots()
    (found,) = Tiled(detector, fusion=NMS, whole=False).detect(_image(100, 160, *boxes)[None])
    np.testing.assert_allclose(sorted(found.boxes.tolist()), sorted(boxes))
    assert detector.num_images == 6


def test_tiled_whole_sees_what_no_tile_holds():
    box = (10, 10, 150, 150)
    (found,) = Tiled(Spots(), fusion=NMS, whole=True).detect(_image(160, 160, box)[None])
    np.testing.assert_allclose(found.boxes, [box], atol=3)
    (cut,) = Tiled(Spots(), fusion=NMS, whole=False).detect(_image(160, 160, box)[None])
    assert len(cut) == 0


def test_tiled_image_smaller_than_a_tile_is_seen_once():
    detector = Spots()
    (found,) = Tiled(detector, fusion=NMS).detect(_image(20, 30, (5, 5, 15, 12))[None])
    np.testing.assert_allclose(found.boxes, [[5, 5, 15, 12]])
    assert detector.num_images == 1
    assert Tiled(detector, fusion=NMS).needs().resize == "none"


def test_scaled_sees_small_objects_at_the_larger_scale():
    # 4 px of the doubled input are 2 px at scale 1: too narrow for the detector.
    image = _image(128, 128, (20, 20, 24, 26), (60, 60, 100, 90))[None]
    (once,) = Scaled(Spots(), scales=(1.0,), fusion=NMS).detect(image[:, ::2, ::2])
    assert len(once) == 1
    both = Scaled(Spots(), scales=(1.0, 2.0), fusion=NMS)
    assert (both.needs().height, both.needs().width) == (128, 128)
    (found,) = both.detect(image)
    np.testing.assert_allclose(
        sorted(found.boxes.tolist()), [[20, 20, 24, 26], [60, 60, 100, 90]], atol=1.5
    )


def test_wrappers_refuse_what_cannot_work():
    with pytest.raises(UserError, match="Scales must lie"):
        Scaled(Spots(), scales=(9.0,), fusion=NMS)
    with pytest.raises(UserError, match="overlap"):
        Tiled(Spots(), fusion=NMS, overlap=0.95)
    with pytest.raises(UserError, match="input size"):
        Tiled(Tiled(Spots(), fusion=NMS), fusion=NMS)
