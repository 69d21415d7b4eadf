"""What is drawn for each image: shares, ranges, and the colour matrix."""

import dataclasses

import numpy as np
import pytest

from kd_tf.data.augment_plan import AugmentSettings, _color_matrix, draw_plan
from kd_tf.data.order import random_stream
from kd_tf.errors import UserError

NO_COLOR = np.eye(3, 4).ravel()


@pytest.mark.parametrize(
    ("amounts", "pixel", "expected"),
    [
        pytest.param([0, 0, 0, 0], [10, 20, 30], [10, 20, 30], id="none"),
        pytest.param([0.5, 0, 0, 0], [10, 20, 30], [50, 60, 70], id="brightness_80_at_full"),
        pytest.param([0, 1, 0, 0], [127.5] * 3, [127.5] * 3, id="contrast_keeps_middle_grey"),
        pytest.param([0, 1, 0, 0], [100, 50, 200], [86.25, 11.25, 236.25], id="contrast_1.5"),
        # 0.8 * -1.25 = -1: grey, of luma 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82.05
        pytest.param([0, 0, -1.25, 0], [100, 50, 200], [82.05] * 3, id="no_saturation_is_luma"),
        pytest.param([0, 0, 0, 1], [90, 90, 90], [90, 90, 90], id="grey_has_no_hue"),
        pytest.param([0, 0, 0, 25], [100, 50, 200], [100, 50, 200], id="hue_once_around"),
    ],
)
def test_color_matrix(amounts, pixel, expected):
    matrix = _color_matrix(np.array(amounts, float))
    got = matrix[:, :3] @ np.array(pixel, float) + matrix[:, 3]
    # YIQ's coefficients are rounded to three digits, so grey keeps a trace of colour.
    np.testing.assert_allclose(got, expected, atol=0.2)


EVERYTHING = AugmentSettings(flip=0.5, scale_jitter=(0.5, 2.0), color=1.0, mosaic=0.5, mixup=0.3)


def test_draw_plan_without_augmentation_is_the_identity():
    plan = draw_plan(AugmentSettings(), stream=random_stream(0, epoch=0, number=0))
    assert plan.num_tiles == 1 and len(plan.partners) == 0
    np.testing.assert_array_equal(plan.tiles, [[1.0, 0.5, 0.5, 0.0, *NO_COLOR]])


def test_draw_plan_shares_and_ranges():
    plans = [
        draw_plan(EVERYTHING, stream=random_stream(0, epoch=0, number=number))
        for number in range(2000)
    ]
    sizes = np.array([plan.num_tiles for plan in plans])
    zooms = np.concatenate([plan.tiles[:, 0] for plan in plans])
    flips = np.concatenate([plan.tiles[:, 3] for plan in plans])
    layouts = np.stack([plan.layout for plan in plans])
    # Standard errors at 2,000: 0.011 and 0.010.
    assert abs(np.mean(sizes >= 4) - 0.5) < 0.04
    assert abs(np.mean(sizes % 3 == 2) - 0.3) < 0.04
    assert abs(flips.mean() - 0.5) < 0.04
    assert 0.5 <= zooms.min() < 0.51 and 1.98 < zooms.max() <= 2.0
    assert abs(np.median(zooms) - 1.0) < 0.05  # even on a log scale
    assert layouts[:, :2].min() >= 0.3 and layouts[:, :2].max() <= 0.7
    assert layouts[:, 2].min() >= 0.4 and layouts[:, 2].max() <= 0.6


def test_draw_plan_one_switch_leaves_the_rest():
    without = dataclasses.replace(EVERYTHING, flip=0.0)
    for number in range(20):
        both = [
            draw_plan(one, stream=random_stream(0, epoch=0, number=number))
            for one in (EVERYTHING, without)
        ]
        np.testing.assert_array_equal(both[0].layout, both[1].layout)
        np.testing.assert_array_equal(both[0].tiles[:, [0, 1, 2]], both[1].tiles[:, [0, 1, 2]])
        assert not both[1].tiles[:, 3].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"flip": 1.1}, "flip must be in", id="share"),
        pytest.param({"scale_jitter": (2.0, 1.0)}, "low <= high", id="order"),
        pytest.param({"scale_jitter": (0.0, 1.0)}, "0.1 <= low", id="zero"),
    ],
)
def test_augment_settings_wrong_say_so(settings, message):
    with pytest.raises(UserError, match=message):
        AugmentSettings(**settings)
