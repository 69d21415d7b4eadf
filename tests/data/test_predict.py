"""Any detector over any source: geometry there and back, order, rejects, bad detectors."""

import io

import numpy as np
import pytest
from PIL import Image

from kd_tf.data.items import Item, Source
from kd_tf.data.predict import predict
from kd_tf.errors import RejectedError, UserError
from kd_tf.geometry.detections import Detections, Needs


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def source_of(encoded: list[bytes]) -> Source:
    def read(item: Item) -> bytes:
        content = encoded[int(item.location)]
        if content == b"missing":
            raise RejectedError("missing file", item.location)
        return content

    items = [Item(i + 10, f"{i}.png", str(i)) for i in range(len(encoded))]
    return Source("made", (), items, read, None, (), "0" * 64)


def _spot(height: int, width: int, *, box: tuple[int, int, int, int]) -> bytes:
    """A black image with a white rectangle."""
    pixels = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 255
    return _png(pixels)


class Brightest:
    """A detector that finds the extent of what is white, by looking."""

    def __init__(self, resize: str, *, channels: str = "rgb", size: int | None = 64):
        self._needs = Needs(("spot",), size, size, resize, pad_value=0, channels=channels)
        self.batches: list[tuple[int, ...]] = []

    def needs(self) -> Needs:
        return self._needs

    def detect(self, images: np.ndarray) -> list[Detections]:
        self.batches.append(images.shape)
        return [self._one(image) for image in images]

    @staticmethod
    def _one(image: np.ndarray) -> Detections:
        rows, columns = np.nonzero(image[..., 0] > 127)
        if not len(rows):
            return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Detections(np.array([box], np.float32), np.array([0.5]), np.array([0]))


@pytest.mark.parametrize("resize", ["letterbox", "letterbox_top_left", "stretch", "none"])
def test_predict_boxes_come_back_in_original_pixels(resize):
    boxes = [(40, 20, 80, 60), (0, 0, 60, 40), (120, 40, 200, 100)]
    source = source_of([_spot(100, 200, box=box) for box in boxes])
    detector = Brightest(resize, size=None if resize == "none" else 64)

    found = list(predict(detector, source, batch_size=2))

    # 200 px become 64, so a bound in the input is within 200/64/2 px of the truth, plus the ramp.
    for predicted, box in zip(found, boxes, strict=True):
        np.testing.assert_allclose(predicted.detections.boxes, [box], atol=3.2)
        assert (predicted.height, predicted.width) == (100, 200)
    if resize == "none":
        assert detector.batches == [(1, 100, 200, 3)] * 3
        np.testing.assert_array_equal(found[0].detections.boxes, [boxes[0]])
    else:
        assert detector.batches == [(2, 64, 64, 3), (1, 64, 64, 3)]


def test_predict_rows_keep_their_order_and_facts():
    encoded = [_spot(20, 20 + i, box=(0, 0, 5, 5)) for i in range(17)]
    found = list(predict(Brightest("stretch"), source_of(encoded), batch_size=4, rows=[16, 3, 9]))
    assert [p.row for p in found] == [16, 3, 9]
    assert [p.width for p in found] == [36, 23, 29]
    assert [p.item.image_id for p in found] == [26, 13, 19]
    assert len({p.sha256 for p in found}) == 3
    assert {(p.format, p.reencoded) for p in found} == {("png", False)}


def test_predict_bad_images_come_back_as_rejects():
    good = _spot(32, 32, box=(0, 0, 8, 8))
    found = list(
        predict(Brightest("stretch"), source_of([good, b"", b"missing", good]), batch_size=2)
    )
    assert [p.reject and p.reject.reason for p in found] == [
        None, "empty file", "missing file", None,
    ]  # fmt: skip
    assert found[2].reject.what == "made/2.png"
    assert [len(p.detections) for p in found] == [1, 0, 0, 1]


def test_predict_no_rows_gives_nothing():
    assert list(predict(Brightest("stretch"), source_of([]), batch_size=2)) == []


def test_predict_bgr_swaps_channels():
    class FirstChannel(Brightest):
        def detect(self, images):
            return [
                Detections(np.array([[0, 0, 9, 9]]), np.array([i[0, 0, 0] / 255]), np.array([0]))
                for i in images
            ]

    red = _png(np.full((8, 8, 3), (255, 0, 51), np.uint8))
    found = next(
        iter(predict(FirstChannel("stretch", channels="bgr"), source_of([red]), batch_size=1))
    )
    np.testing.assert_allclose(found.detections.scores, [0.2])


def _answers(boxes, scores, classes, *, fail_at: int = -1):
    class Fixed(Brightest):
        def detect(self, images):
            if fail_at >= 0 and any(image[0, 0, 0] == fail_at for image in images):
                raise KeyError("no such layer")
            return [Detections(np.array(boxes), np.array(scores), np.array(classes))] * len(images)

    return Fixed("stretch")


BOX = [[1.0, 2.0, 30.0, 40.0]]


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        pytest.param(_answers(BOX, [np.nan], [0]), "a score is NaN", id="nan_score"),
        pytest.param(_answers([[1, 2, np.inf, 4]], [0.5], [0]), "a box is NaN", id="infinite_box"),
        pytest.param(_answers(BOX, [87.0], [0]), "logits or percent", id="percent_score"),
        pytest.param(_answers(BOX, [0.5], [1]), "class 1 is out of range", id="class_too_high"),
        pytest.param(_answers(BOX, [0.5], [-1]), "class -1 is out of range", id="class_negative"),
        pytest.param(_answers(BOX, [0.5], [0.5]), "whole numbers", id="class_fraction"),
        pytest.param(_answers([[30, 2, 1, 4]], [0.5], [0]), "ends before", id="inverted"),
        pytest.param(_answers([[1, 2, 640, 480]], [0.5], [0]), "far outside", id="outside"),
        pytest.param(_answers([[0.1, 0.2, 0.3, 0.4]] * 5, [0.5] * 5, [0] * 5), "0..1", id="unit"),
        pytest.param(_answers(BOX, [0.5, 0.5], [0]), "expected boxes", id="shape"),
        pytest.param(_answers(BOX, [0.5], [0], fail_at=77), "no such layer", id="raises"),
    ],
)  # fmt: skip
def test_predict_bad_detector_names_teacher_and_image(detector, message):
    encoded = [_png(np.full((64, 64, 3), value, np.uint8)) for value in (0, 1, 77, 3)]
    source = source_of(encoded)
    with pytest.raises(UserError, match=message) as caught:
        list(predict(detector, source, batch_size=4, name="broken"))
    assert "'broken'" in str(caught.value)
    image = "made/2.png" if message == "no such layer" else "made/0.png"
    assert image in str(caught.value)


def test_predict_wrong_number_of_results_is_refused():
    class Short(Brightest):
        def detect(self, images):
            return super().detect(images)[:1]

    source = source_of([_spot(16, 16, box=(0, 0, 4, 4))] * 3)
    with pytest.raises(UserError, match="gave 1 results for a batch of 3"):
        list(predict(Short("stretch"), source, batch_size=3))


def test_predict_error_of_the_source_keeps_its_type():
    def broken(_: Item) -> bytes:
        raise UserError("the disk is gone")

    source = source_of([b""])
    source = Source("made", (), source.items, broken, None, (), "0" * 64)
    with pytest.raises(UserError, match="the disk is gone"):
        list(predict(Brightest("stretch"), source, batch_size=1))


def test_predict_recaller_is_asked_by_item():
    class Known:
        def needs(self):
            return Needs(("spot",), None, None, "none")

        def recall(self, item):
            box = [[-5.0, 0.0, 10.0, item.image_id]]
            return Detections(np.array(box), np.array([0.9]), np.array([0]))

    source = source_of([_spot(32, 48, box=(0, 0, 4, 4)), b""])
    found = list(predict(Known(), source, batch_size=1))
    np.testing.assert_array_equal(found[0].detections.boxes, [[0, 0, 10, 10]])
    assert found[1].reject.reason == "empty file"


def test_predict_boxes_in_the_padding_are_counted():
    # 32x64 letterboxed to 64x64 lies in rows 16..48, so this box is all padding.
    detector = _answers([[0, 0, 64, 10], [0, 20, 10, 30]], [0.9, 0.8], [0, 0])
    detector._needs = Needs(("spot",), 64, 64, "letterbox")
    found = next(
        iter(predict(detector, source_of([_spot(32, 64, box=(0, 0, 4, 4))]), batch_size=1))
    )
    assert found.num_outside == 1
    np.testing.assert_allclose(found.detections.boxes, [[0, 4, 10, 14]])
