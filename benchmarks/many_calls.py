"""Does memory stay where it is? ``recon.reconstruct`` again and again in one process.

``python -m benchmarks.many_calls --calls 500``: two tiny photos and a tiny network each time. It
prints what the process holds after every tenth of the calls: memory, threads, descriptors.
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


def calls(count: int, photos: Sequence[Path], weights: Path) -> Iterator[Held]:
    """Reconstruct ``photos`` so many times, and say after each what the process holds."""
    import recon
    from recon.options import Options

    options = Options(depth_size=64, refine_depth=False, weights=str(weights))
    for _ in range(count):
        recon.reconstruct(list(map(str, photos)), options)
        yield held()


def tiny_network(folder: Path) -> Path:
    """Write the smallest network there is, which knows nothing."""
    from pointmap import save_checkpoint
    from pointmap.network import DUSt3RConfig, build_network

    one_block = dict.fromkeys(("enc_depth", "dec_depth"), 1)
    widths = dict.fromkeys(("enc_embed_dim", "dec_embed_dim"), 16)
    heads = dict.fromkeys(("enc_num_heads", "dec_num_heads"), 2)
    config = DUSt3RConfig(img_size=(64, 64), **one_block, **widths, **heads)
    save_checkpoint(build_network(config), folder / "tiny.safetensors", card={})
    return folder / "tiny.safetensors"


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
        place = Path(folder)
        held_after = calls(given.calls, tiny_photos(place), tiny_network(place))
        for number, now in enumerate(held_after, start=1):
            if number % max(1, given.calls // 10) == 0 or number in (1, 10):
                line = f"{number:>6} {now.memory_mb:>8.1f} {now.threads:>8} {now.descriptors:>12}"
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
