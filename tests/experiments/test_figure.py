import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from experiments import figure

BOTH = {"student": [(1152, {0: 0.75, 1: 0.25}), (144, {0: 0.5, 1: 0.25})]}
LEVELS = {"teacher": {0: 0.875, 1: 0.625}}


@pytest.fixture
def axes():
    drawing, found = plt.subplots()
    yield found
    plt.close(drawing)


def _drawn(axes):
    """(x, y) of the lines and dots."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def _bars(axes):
    """Lower and upper ends of the bars."""
    segments = [one for bars in axes.collections for one in bars.get_segments()]
    return [(float(one[0][1]), float(one[1][1])) for one in segments]


def test_a_line_of_the_same_seeds_at_all_points_joins_their_means(axes):
    assert figure._draw_lines(axes, BOTH, LEVELS) == ""
    drawn = _drawn(axes)
    assert drawn[0] == ([144, 1152], [0.375, 0.5])
    assert drawn[-1] == ([0, 1], [0.75, 0.75])
    assert _bars(axes)[0] == pytest.approx((0.375 - 0.125 * 2**0.5, 0.375 + 0.125 * 2**0.5))


def test_where_a_point_has_fewer_seeds_lines_and_levels_are_of_these(axes):
    lines = {"student": [*BOTH["student"], (576, {0: 0.6})]}
    told = figure._draw_lines(axes, lines, LEVELS)
    assert told == "\nlines: seed 0; dots: means of all seeds"
    drawn = _drawn(axes)
    # The means of both seeds, .375 and .5, are no ends of a line through .6.
    assert drawn[0] == ([144, 576, 1152], [0.5, 0.6, 0.75])
    assert axes.get_xlim()[0] < 144 and axes.get_ylim()[0] < 0.25
    assert drawn[1] == ([144, 1152], [0.375, 0.5])
    assert drawn[-1] == ([0, 1], [0.875, 0.875])


def test_points_without_a_common_seed_are_not_joined(axes):
    lines = {"student": [(144, {0: 0.5}), (576, {1: 0.75})]}
    assert figure._draw_lines(axes, lines, LEVELS) == "\nmeans of all seeds"
    assert _drawn(axes)[:2] == [([], []), ([144, 576], [0.5, 0.75])]
