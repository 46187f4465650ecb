"""Does memory stay where it is? ``recon.reconstruct`` again and again in one process.

``python -m benchmarks.many_calls --calls 500``: two tiny photos each time; prints what the process
holds after every tenth of the calls: resident memory, threads, open descriptors.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image

PHOTOS = Path(__file__).parents[1] / "examples" / "courtyard" / "images"


@dataclass(frozen=True)
class Held:
    """What a process holds: resident ``memory_mb``, ``threads``, open ``descriptors``."""

    memory_mb: float
    threads: int
    descriptors: int


def held() -> Held:
    """Return what this process holds now."""
    process = psutil.Process()
    descriptors = process.num_fds() if os.name == "posix" else process.num_handles()
    return Held(process.memory_info().rss / 2**20, process.num_threads(), descriptors)


def calls(count: int, photos: Sequence[Path], *, weights: str | None = None) -> Iterator[Held]:
    """Reconstruct ``photos`` so many times, and say after each what the process holds."""
    import recon
    from recon.options import Options

    options = Options(depth_size=64, refine_depth=False, weights=weights)
    for _ in range(count):
        recon.reconstruct(list(map(str, photos)), options)
        yield held()


def tiny_photos(folder: Path) -> list[Path]:
    """Write two of the sample photos at 160 x 120 pixels."""
    paths = []
    for name in ("courtyard_00.jpg", "courtyard_01.jpg"):
        Image.open(PHOTOS / name).resize((160, 120)).save(folder / name, quality=95)  # noqa: TID251
        paths.append(folder / name)
    return paths


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_calls")
    parser.add_argument("--calls", type=int, default=500)
    given = parser.parse_args()
    print(f"{'calls':>6} {'MB':>8} {'threads':>8} {'descriptors':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for number, now in enumerate(calls(given.calls, tiny_photos(Path(folder))), start=1):
            if number % max(1, given.calls // 10) == 0 or number in (1, 10):
                line = f"{number:>6} {now.memory_mb:>8.1f} {now.threads:>8} {now.descriptors:>12}"
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
