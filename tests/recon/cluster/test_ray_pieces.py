"""What goes out together, and how much may be on its way: without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_ray import ray

from recon.cluster.ray_pieces import _sizes, _Tasks
from recon.cluster.worker import Done
from recon.work.pieces import Needs


@given(st.integers(1, 3000), st.integers(1, 20), st.integers(1, 64))
def test_tasks_get_smaller_towards_the_end(count: int, most: int, cores: int) -> None:
    sizes = _sizes(count, most, cores)
    assert sum(sizes) == count and all(0 < size <= most for size in sizes)
    assert all(later <= earlier for earlier, later in pairwise(sizes))
    # Each core has its share, and none waits for more than that of the last ones.
    assert len(sizes) >= min(count, cores) and all(size == 1 for size in sizes[-cores:][1:])


def test_few_results_wait_however_late_the_first_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is out ends before what is waited for."""
    tasks = _Tasks(range(2000), Needs("a test", memory_mb=1, per_task=8), cores=2)
    done = {"process": "", "cpu_seconds": 0.0, "peak_mb": 0.0}
    none = {"failure": None, "files": [], "warned": [], "input_error": None}
    monkeypatch.setattr(ray, "wait", lambda out, num_returns: ([max(out)], None))
    monkeypatch.setattr(ray, "get", lambda reference: Done([*reference], **none, **done))

    def send(places: Sequence[int]) -> Any:
        return tuple(places)

    results, most = list[int](), 0
    while not tasks.finished:
        while tasks.may_submit:
            tasks.submit(send)
        most = max(most, len(tasks._ready) + sum(map(len, tasks._out.values())))
        list(tasks.ended())
        results += tasks.results()
    assert results == list(range(2000))
    # Two tasks for each core are out, and the results of twice as many wait: of eight pieces each.
    assert most <= 3 * 4 * 8
