"""Freed memory stays with a training process for the next step; any other gives it back."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
    command = [sys.executable, "-c", _COUNT.format(keep=keep)]
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
    command = [sys.executable, "-c", _RESIDENT]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(answer.stdout) > 250
