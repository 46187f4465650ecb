"""Independent pieces of work side by side on the CPU, one thread each.

Bits must not depend on the number of cores: a piece is done by one thread from beginning to end,
and results come in the order of the pieces.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from pointmap.freed_memory import return_if_grown

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], *, most: int | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` of all items in their order, as many at once as torch may use threads,
    but at most ``most``.

    Items are taken, and results made, only a few ahead of what is asked for: memory doesn't grow
    with their number. Torch and numpy's linear algebra work with one thread inside ``work``.
    """
    import torch

    threads = torch.get_num_threads()
    workers = min(threads, most or threads)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    ahead: deque[Future[Result]] = deque()
    try:
        with _ALONE.on():
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
                    return_if_grown()
            while ahead:
                yield ahead.popleft().result()
    finally:
        # Not by `with`, which would first finish what was begun after Ctrl-C.
        pool.shutdown(cancel_futures=True)
        # A worker's number became that of threads to come, too.
        torch.set_num_threads(threads)


class _BlasAlone:
    """Holds numpy's linear algebra to one thread while loops are on: its own threads would spin
    beside those of the loops, a fifth of fusion's CPU seconds on two cores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loops = 0
        self._before: list[int] = []

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count one loop more meanwhile; they may begin and end in any order."""
        pools = _pools().lib_controllers
        with self._lock:
            self._loops += 1
            if self._loops == 1:
                self._before = [pool.get_num_threads() for pool in pools]
                for pool in pools:
                    pool.set_num_threads(1)
        try:
            yield
        finally:
            with self._lock:
                self._loops -= 1
                if self._loops == 0:
                    for pool, threads in zip(pools, self._before, strict=True):
                        pool.set_num_threads(threads)


_ALONE = _BlasAlone()


@cache
def _pools() -> ThreadpoolController:
    """Return the threads of numpy's and scipy's linear algebra: finding them takes a while."""
    import scipy.linalg  # noqa: F401 (brings its own)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
