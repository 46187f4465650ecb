"""Photos are gone through so that a small cache serves most of what they need."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from recon.work.visiting_order import visiting_order


def read_anew(order: list[int], needed: list[list[int]], cached: int) -> float:
    """Return how many photos are read per photo, with a cache of the last ones."""
    cache: OrderedDict[int, None] = OrderedDict()
    read = 0
    for photo in order:
        for other in (photo, *needed[photo]):
            read += other not in cache
            cache[other] = None
            cache.move_to_end(other)
            if len(cache) > cached:
                cache.popitem(last=False)
    return read / len(order)


@pytest.mark.parametrize("crossings", [0, 30])
def test_of_a_walk_in_any_order_of_names_each_photo_is_read_about_once(crossings: int) -> None:
    rng = np.random.default_rng(0)
    walk = rng.permutation(400)
    place = np.argsort(walk)
    needed = [[int(walk[(place[i] + step) % 400]) for step in (-2, -1, 1, 2)] for i in range(400)]
    for photo, other in rng.integers(0, 400, (crossings, 2)):
        needed[photo].append(int(other))
    order = visiting_order(needed)
    assert sorted(order) == list(range(400))
    assert read_anew(list(range(400)), needed, 50) > 3.5
    assert read_anew(order, needed, 50) < 1.2


def test_photos_that_nothing_relates_keep_their_order() -> None:
    assert visiting_order([[], [], []]) == [0, 1, 2]
    assert visiting_order([]) == []
