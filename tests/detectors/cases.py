"""Labels that have gone wrong in detectors before, all of one shape: B = 2, M = 5, C = 3."""

import numpy as np

SIZE = (64, 64)
NUM_CLASSES = 3
MAX_BOXES = 5


def labels(*images, judged=None):
    """A batch from lists of (box, class[, weight[, ignore]])."""
    made = {
        # Junk under the padding: it must be known by its class, not by its coordinates.
        "boxes": np.full((2, MAX_BOXES, 4), [5, 5, 40, 40], np.float32),
        "classes": np.full((2, MAX_BOXES), -1, np.int32),
        "weights": np.ones((2, MAX_BOXES), np.float32),
        "ignore": np.zeros((2, MAX_BOXES), bool),
        "judged": np.ones((2, NUM_CLASSES), bool),
    }
    for i, image in enumerate(images):
        for m, (box, cls, *rest) in enumerate(image):
            made["boxes"][i, m], made["classes"][i, m] = box, cls
            made["weights"][i, m] = rest[0] if rest else 1.0
            made["ignore"][i, m] = rest[1] if len(rest) > 1 else False
    if judged is not None:
        made["judged"] = np.array(judged, bool)
    return made


def _random():
    rng = np.random.default_rng(5)

    def box():
        x, y = rng.uniform(0, 50, 2)
        return [x, y, x + rng.uniform(4, 40), y + rng.uniform(4, 40)]

    return labels(
        *([(box(), rng.integers(3), rng.uniform(0.2, 1)) for _ in range(4)] for _ in "ab")
    )


# Edges at a third of a pixel: no anchor is covered by exactly half, up to rounding.
_BIG, _SMALL = [8.3, 10.3, 44.3, 50.3], [30.3, 20.3, 45.3, 31.3]
CASES = {
    "random": _random(),
    "padding_only": labels([], []),
    "one_image_without_a_box": labels([(_BIG, 0)], []),
    "one_box": labels([(_BIG, 1)], []),
    # Between the points at 12 and 20, inside no cell's centre.
    "smaller_than_a_stride": labels([([14, 14, 17, 17], 2)], [([0, 0, 2, 2], 1)]),
    "two_boxes_with_one_centre": labels([([20, 20, 40, 40], 0), ([10, 26, 50, 34], 1)], []),
    "the_same_box_twice": labels([(_SMALL, 0), (_SMALL, 1), (_SMALL, 0)], []),
    "tiny_boxes_side_by_side": labels(
        [([15, 15, 17, 17], 0), ([15, 16, 17, 18], 1), ([14, 14, 18, 18], 2)], []
    ),
    "on_the_border": labels([([0, 0, 20, 64], 0), ([50, 50, 64, 64], 1)], [([0, 0, 64, 64], 2)]),
    "outside_the_image": labels([([-20, -8, 15, 22], 0), ([-30, -30, -5, -5], 1)], []),
    "no_area": labels([([20, 20, 20, 20], 0), ([30, 5, 30, 50], 1)], []),
    "all_weights_0": labels([(_BIG, 0, 0.0), (_SMALL, 1, 0.0)], [(_BIG, 2, 0.0)]),
    "weights": labels([(_BIG, 0, 0.3), (_SMALL, 1, 0.9)], [(_BIG, 2, 0.5)]),
    "ignored_boxes": labels(
        [(_BIG, 0, 1.0, True), (_SMALL, 0), (_SMALL, 1, 1.0, True)], [(_BIG, 2, 0.4, True)]
    ),
    "judged_in_part": labels([(_BIG, 0), (_SMALL, 1)], [(_BIG, 2)], judged=[[1, 0, 0], [1, 1, 0]]),
    "nobody_judged": labels([], [], judged=[[0, 0, 0], [0, 0, 0]]),
}
