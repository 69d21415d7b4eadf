import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from experiments import figure


@pytest.fixture
def axes():
    drawing, found = plt.subplots()
    yield found
    plt.close(drawing)


def _drawn(axes):
    """(x, y) of the lines and dots."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_a_line_joins_means_of_the_seeds_that_all_points_have(axes):
    points = [(576, {0: 0.6}), (144, {0: 0.5, 1: 0.25}), (1152, {0: 0.75, 1: 0.25})]
    told = figure._draw_line(axes, "student", points)
    assert told == "lines: seed 0 at every point; dots: means of all seeds"
    joined, dots = _drawn(axes)[:2]
    # The means of both seeds, .375 and .5, are no ends of a line through .6.
    assert joined == ([144, 576, 1152], [0.5, 0.6, 0.75])
    assert dots == ([144, 1152], [0.375, 0.5])


def test_a_line_of_the_same_seeds_at_all_points_joins_their_means(axes):
    points = [(144, {0: 0.5, 1: 0.25}), (1152, {0: 0.75, 1: 0.25})]
    assert figure._draw_line(axes, "student", points) == ""
    assert _drawn(axes)[0] == ([144, 1152], [0.375, 0.5])
