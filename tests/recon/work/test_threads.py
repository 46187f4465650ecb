"""Independent work side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from recon.work.threads import in_threads


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_each_piece_has_one_thread(four_threads: None) -> None:
    # None of the four goes on before all are at work: they do work side by side.
    together = threading.Barrier(4, timeout=30)

    def work(item: int) -> tuple[int, int]:
        if item < 4:
            together.wait()
        return item, torch.get_num_threads()

    assert list(in_threads(work, range(50))) == [(item, 1) for item in range(50)]
    assert torch.get_num_threads() == 4


def test_items_are_taken_a_few_ahead_only(four_threads: None) -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = in_threads(abs, items())
    next(results)
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]
    assert torch.get_num_threads() == 4


def test_an_error_reaches_who_asked(four_threads: None) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda item: 1 / item, [2, 1, 0, 1]))


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_linear_algebra_has_one_thread_while_any_loop_is_on(four_threads: None) -> None:
    with threadpool_limits(3, user_api="blas"):
        first = in_threads(lambda item: blas_threads(), range(20))
        second = in_threads(lambda item: blas_threads(), range(20))
        assert blas_threads() == {3}
        assert next(first) == next(second) == {1}
        # The one that began first ends first.
        assert all(seen == {1} for seen in first)
        assert blas_threads() == {1}
        assert all(seen == {1} for seen in second)
        assert blas_threads() == {3}
