"""Work on photo after photo, on all cores, with few results ahead of who takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield ``work(item)`` of all items, in their order.

    One item per thread: numpy, OpenCV and torch let go of Python's lock, and what one thread
    computes has the same bits on any number of cores. At most two results per thread wait to be
    taken, so that memory doesn't grow with the number of items.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Not by `with`, which would first finish what waits after Ctrl-C.
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
