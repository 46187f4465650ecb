"""Where networks run, in which precision, and how much at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from pointmap.errors import InputError

Item = TypeVar("Item")


def choose_device(name: str | None = None) -> torch.device:
    """Return the device called ``name``, or the best one here: cuda, then mps, then cpu."""
    found = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    found["mps"] = int(torch.backends.mps.is_available())
    if name is None:
        return torch.device("cuda" if found["cuda"] else "mps" if found["mps"] else "cpu")
    here = ", ".join(kind for kind, count in found.items() if count)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is not a device; this machine has {here}") from error
    if (device.index or 0) >= found.get(device.type, 0):
        raise InputError(f"device {name!r} is not available; this machine has {here}")
    return device


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return torch.bfloat16 if fast else torch.float32


@functools.lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    """Instruction sets of this CPU, as Linux lists them; nothing elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def precision(
    device: torch.device, dtype: torch.dtype
) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a network runs in ``dtype``."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def batch_size_of(device: torch.device) -> int:
    """Photos or predictions at once: what fills the device without needing much memory."""
    return 4 if device.type == "cpu" else 8


def in_batches(
    items: Sequence[Item], key: Callable[[Item], Hashable], batch_size: int
) -> Iterator[list[Item]]:
    """Yield the items in lists of equal key and at most ``batch_size``, in order of first key."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]
