"""Items are worked on by several threads, taken in order, few ahead of who takes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from recon.parallel import each


def test_results_come_in_order_and_few_ahead() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    threads = torch.get_num_threads()
    results = each(lambda number: number**2, items())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(asked) <= 3 + 2 * threads + 1
    assert list(results) == [number**2 for number in range(3, 100)]
    assert torch.get_num_threads() == threads


def test_an_error_reaches_who_takes_the_results() -> None:
    with pytest.raises(ZeroDivisionError):
        list(each(lambda number: 1 // number, [1, 0, 2]))
