"""Order of the records: permutations by (seed, epoch), parts by worker."""

import numpy as np
import pytest

from kd_tf.data.order import Order, random_stream, worker_position
from kd_tf.errors import UserError


@pytest.mark.parametrize("num", [1, 2, 7, 100])
def test_order_each_epoch_has_every_row_once(num):
    rows = np.arange(num) * 3 + 5
    order = Order(rows, seed=4)
    for epoch in range(3):
        seen = [order.at(epoch * num + place) for place in range(num)]
        assert {one for one, _ in seen} == {epoch}
        assert sorted(row for _, row in seen) == rows.tolist()


def test_order_differs_by_epoch_and_seed_and_repeats():
    def epoch(seed, number):
        order = Order(np.arange(50), seed=seed)
        return [order.at(number * 50 + place)[1] for place in range(50)]

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)
    assert epoch(0, 0) != list(range(50))


def test_order_far_position_needs_no_replay():
    near, far = Order(np.arange(10), seed=1), Order(np.arange(10), seed=1)
    for place in range(30):
        near.at(place)
    assert far.at(10_000_000_007) == near.at(10_000_000_007)
    assert far.at(10_000_000_007)[0] == 1_000_000_000


def test_order_without_rows_is_refused():
    with pytest.raises(UserError, match="no record to train on"):
        Order(np.zeros(0, int), seed=0)


@pytest.mark.parametrize("num_workers", [1, 2, 3, 6])
def test_worker_positions_join_to_the_global_sequence(num_workers):
    batch_size, steps = 6, 4
    share = batch_size // num_workers
    joined = [
        worker_position(
            step * share + place,
            batch_size=batch_size,
            worker_index=worker,
            num_workers=num_workers,
        )
        for step in range(steps)
        for worker in range(num_workers)
        for place in range(share)
    ]
    assert joined == list(range(batch_size * steps))


def test_random_stream_depends_on_each_of_its_keys():
    def drawn(seed, epoch, number):
        return tuple(random_stream(seed, epoch=epoch, number=number).random(4))

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0)]
    assert len({drawn(*key) for key in keys}) == len(keys)
    assert drawn(0, 1, 2) == drawn(0, 1, 2)
