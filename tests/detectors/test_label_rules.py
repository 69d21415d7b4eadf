"""What labels mean for the loss: weights, ignored boxes, judged classes, in both families."""

import numpy as np
import pytest

from tests.detectors import cases

BIG, SMALL = [8.3, 10.3, 44.3, 50.3], [30.3, 20.3, 45.3, 31.3]


@pytest.fixture(params=["yolo", "retinanet"])
def loss(request):
    """labels -> (dict of floats, gradient of the class logits [2, A, 3])."""
    run = request.getfixturevalue(f"{request.param}_loss")
    outputs = request.getfixturevalue(f"{request.param}_outputs")

    def of(labels):
        sums, gradients = run(outputs, labels)
        return {name: float(value) for name, value in sums.items()}, gradients["classes"].numpy()

    return of


def test_all_weights_0_give_loss_0(loss):
    sums, gradient = loss(cases.CASES["all_weights_0"])
    assert set(sums.values()) == {0.0}
    assert not gradient.any()


def test_nobody_judged_teaches_nothing(loss):
    sums, gradient = loss(cases.CASES["nobody_judged"])
    assert set(sums.values()) == {0.0}
    assert not gradient.any()


def test_image_without_a_box_is_background(loss):
    sums, gradient = loss(cases.CASES["padding_only"])
    assert sums["class"] > 1.0
    assert (sums["box"], sums["normalizer"]) == (0.0, 0.0)
    # Every logit is pushed down.
    assert (gradient > 0).all()


def test_common_factor_of_the_weights_scales_the_sums_and_the_normalizer(loss):
    labels = cases.labels([(BIG, 0, 1.0), (SMALL, 1, 0.5)], [(BIG, 2, 0.8)])
    halved = dict(labels, weights=labels["weights"] / 2)
    whole, half = loss(labels)[0], loss(halved)[0]
    for name, value in whole.items():
        np.testing.assert_allclose(half[name], value / 2, rtol=1e-5, err_msg=name)


def test_unjudged_classes_get_no_negative_loss(loss):
    _, gradient = loss(cases.CASES["judged_in_part"])
    # Image 0 judged class 0 only, image 1 classes 0 and 1.
    assert not gradient[0, :, 2].any()
    assert (gradient[0, :, 0] != 0).mean() > 0.9
    assert (gradient[1, :, :2] != 0).mean() > 0.9
    # Their boxes of class 1 and 2 are learned all the same, on the few positive anchors.
    for learned in (gradient[0, :, 1], gradient[1, :, 2]):
        assert (learned < 0).any()
        assert np.count_nonzero(learned) < 40


def test_ignored_box_hides_its_own_class_only(loss):
    _, gradient = loss(cases.labels([(BIG, 1, 1.0, True)], []))
    hidden = gradient[0] == 0
    assert hidden[:, 1].any()
    assert not hidden[:, 1].all()
    assert not hidden[:, [0, 2]].any()
    assert not (gradient[1] == 0).any()


def test_positive_anchor_under_an_ignored_box_stays_positive(loss):
    alone, gradient = loss(cases.labels([(SMALL, 1)], []))
    under, hidden = loss(cases.labels([(SMALL, 1), (BIG, 1, 1.0, True)], []))
    assert (under["box"], under["normalizer"]) == (alone["box"], alone["normalizer"])
    positive = gradient[0, :, 1] < 0
    assert positive.any()
    np.testing.assert_array_equal(hidden[0, positive], gradient[0, positive])
    assert under["class"] < alone["class"]


def test_positive_anchor_does_not_learn_that_an_ignored_class_is_absent(loss):
    _, gradient = loss(cases.labels([(SMALL, 1)], []))
    _, unsure = loss(cases.labels([(SMALL, 1), (SMALL, 2, 1.0, True)], []))
    positive = gradient[0, :, 1] < 0
    assert positive.any() and (gradient[0, positive, 2] > 0).all()
    assert not unsure[0, positive, 2].any()
    np.testing.assert_array_equal(unsure[0, positive, :2], gradient[0, positive, :2])


def test_ignored_box_is_never_learned(loss):
    sums, gradient = loss(cases.labels([(BIG, 1, 1.0, True)], [(SMALL, 0, 0.9, True)]))
    assert (sums["box"], sums["normalizer"]) == (0.0, 0.0)
    assert (gradient >= 0).all()


def test_background_is_trusted_as_far_as_the_best_box(loss):
    full, _ = loss(cases.labels([], []))
    _, doubted = loss(cases.labels([(BIG, 1, 0.4), (SMALL, 1, 0.1)], []))
    _, trusted = loss(cases.labels([(BIG, 1, 1.0), (SMALL, 1, 0.1)], []))
    # A class without a box: background on every anchor, positives aside.
    anchors = trusted[0, :, 0] > 0
    assert anchors.any()
    background = doubted[0, anchors, 0] / trusted[0, anchors, 0]
    # Positives carry their box's weight (0.4, 0.1 or 1), all other anchors 0.4.
    assert np.isclose(np.median(background), 0.4, rtol=1e-4)
    assert full["class"] > 0.0
