"""Freed memory stays with a training process for the next step; any other gives it back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pointmap import freed_memory

_COUNT = """
import resource, torch
from pointmap.freed_memory import keep_freed_memory
{keep}
def step():
    for _ in range(5):
        torch.ones(48 << 20, dtype=torch.uint8)
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(keep: str) -> int:
    return _printed(_COUNT.format(keep=keep))


def _printed(program: str) -> int:
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return int(answer.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory, that is Linux")
def test_a_second_step_asks_for_no_new_pages() -> None:
    asked = _page_faults("")
    if asked < 1000:
        pytest.skip("this C library keeps freed memory by itself")
    assert _page_faults("keep_freed_memory()") < asked / 20


_RESIDENT = """
import numpy as np
from pointmap.freed_memory import return_freed_memory
def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
first = [np.ones(4 << 20)]  # 32 MB, freed: from now on smaller ones come from the heap
first.clear()
kept, freed = [], []
for _ in range(300):
    freed.append(np.ones(1 << 17))
    kept.append(np.ones(1 << 7))
before = resident_mb()
freed.clear()
return_freed_memory()
print(int(before - resident_mb()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory, that is Linux")
def test_what_is_free_between_what_is_in_use_goes_back() -> None:
    assert _printed(_RESIDENT) > 250


def test_looking_often_gives_back_only_what_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = iter([100, 100, 200, 400, 150, 190, 500, 350])
    given: list[int] = []
    monkeypatch.setattr(freed_memory, "_GROWN", 200)
    monkeypatch.setattr(freed_memory, "_resident_bytes", lambda: next(resident))
    monkeypatch.setattr(freed_memory, "return_freed_memory", lambda: given.append(1))
    memory = freed_memory.Growth()
    counts = []
    for _ in range(6):
        memory.look()
        counts.append(len(given))
    # At 100, 100 and 200 there is no reason; 400 has grown; so has 500, from 150.
    assert counts == [0, 0, 0, 1, 1, 2]
