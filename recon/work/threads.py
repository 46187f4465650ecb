"""Independent pieces of work side by side on the CPU, one thread each.

Bits must not depend on the number of cores: a piece is done by one thread from beginning to end,
and results come in the order of the pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], *, most: int | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` of all items in their order, as many at once as torch may use threads,
    but at most ``most``.

    Items are taken, and results made, only a few ahead of what is asked for: memory doesn't grow
    with their number. Torch works with one thread inside ``work``.
    """
    import torch

    threads = torch.get_num_threads()
    workers = min(threads, most or threads)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # Not by `with`, which would first finish what was begun after Ctrl-C.
        pool.shutdown(cancel_futures=True)
        # A worker's number became that of threads to come, too.
        torch.set_num_threads(threads)
