"""Freed memory stays with a training process, so that the next step need not ask for it again."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COUNT = """
import resource, torch
from pointmap.training.loop.memory import keep_freed_memory
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
