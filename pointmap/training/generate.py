"""Render training scenes to shards: python -m pointmap.training.generate --out DIR.

Shards that exist are skipped, so that the command goes on where it was stopped; it may run beside
a trainer that reads the folder.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp

from pointmap.commands import run_command
from pointmap.errors import InputError
from pointmap.saved_scene import refuse_saved_scene
from pointmap.training.batches.shards import save_shard
from pointmap.training.rendering.render_views import HELD_OUT_SEED, render_synthetic_scene
from pointmap.training.scenes.textures import TextureBank, make_texture_bank
from pointmap.version import VERSION_LINE

_log = logging.getLogger(__name__)

SCENES_PER_SHARD = 48
_SEEDS_PER_RUN = 1_000_000
_SIZES = ("384x288", "384x256", "320x320", "288x384")
_PATCH = 32


def write_shard(
    path: Path, seeds: Sequence[int], *, textures: TextureBank, size: tuple[int, int], views: int
) -> None:
    """Render the scenes of one shard, size (height, width), and put it in place in one step."""
    scenes = []
    for seed in seeds:
        difficulty = float(np.random.default_rng([seed, 3]).uniform(0.1, 1.0))
        scenes.append(
            render_synthetic_scene(
                seed, textures=textures, size=size, views=views, difficulty=difficulty
            )
        )
    shard = {
        "images": torch.stack([s.images for s in scenes]).cpu(),
        "depth": torch.stack([s.depth for s in scenes]).half().cpu(),
        "intrinsics": torch.stack([s.intrinsics for s in scenes]).cpu(),
        "cam_to_world": torch.stack([s.cam_to_world for s in scenes]).cpu(),
        "overlap": torch.stack([s.overlap for s in scenes]),
        "seeds": torch.tensor(list(seeds)),
    }
    save_shard(path, shard)


@dataclass(frozen=True)
class Plan:
    """The shards that a command is to write; ``sizes``: (height, width), in turn."""

    out: Path
    scenes: int
    seed: int
    sizes: tuple[tuple[int, int], ...]
    views: int
    textures: Path | None
    device: str
    held_out: bool
    workers: int
    shard_scenes: int

    @property
    def _start_seed(self) -> int:
        return self.seed * _SEEDS_PER_RUN + (HELD_OUT_SEED if self.held_out else 0)

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.out / f"shard-{self.seed}-{number:05d}.pt"

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not there yet."""
        shards = (self.scenes + self.shard_scenes - 1) // self.shard_scenes
        return [number for number in range(shards) if not self.path(number).exists()]

    def bank(self) -> TextureBank:
        """Return the textures of all scenes."""
        return make_texture_bank(self._start_seed, folder=self.textures, device=self.device)

    def write(self, number: int, bank: TextureBank, path: Path) -> None:
        """Write a shard to ``path``, and log how long it took."""
        start = time.monotonic()
        first = self._start_seed + number * self.shard_scenes
        height, width = self.sizes[number % len(self.sizes)]
        write_shard(
            path,
            range(first, first + self.shard_scenes),
            textures=bank,
            size=(height, width),
            views=self.views,
        )
        rate = self.shard_scenes * self.views / (time.monotonic() - start)
        _log.info("%s: %dx%d, %.1f views/s", path.name, width, height, rate)


def _work(worker: int, plan: Plan) -> None:
    """Write the missing shards of one worker: every so-many-th."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if plan.workers > 1:
        torch.set_num_threads(1)
    missing = [number for number in plan.missing() if number % plan.workers == worker]
    if not missing:
        return
    bank = plan.bank()
    for number in missing:
        plan.write(number, bank, plan.path(number))


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "WxH", in multiples of the largest patch of the networks here."""
    parts = text.split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) and int(p) % _PATCH == 0 for p in parts):
        raise InputError(f"--size {text} is no WxH in multiples of {_PATCH}, as 384x288 is")
    return int(parts[1]), int(parts[0])


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Return what reads the options of the command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION_LINE)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--scenes", type=int, default=4000, help="number of scenes (4000)")
    parser.add_argument("--seed", type=int, default=1, help="shards of different seeds differ (1)")
    parser.add_argument(
        "--size", nargs="+", default=list(_SIZES), metavar="WxH",
        help=f"sizes of the photos, one drawn for each shard ({' '.join(_SIZES)})",
    )  # fmt: skip
    parser.add_argument("--views", type=int, default=4, help="photos of a scene (4)")
    parser.add_argument("--textures", type=Path, help="folder of photographs, or a packed .npz")
    parser.add_argument(
        "--shard-scenes", type=int, default=SCENES_PER_SHARD,
        help="scenes of a shard; with fewer the first is there sooner (48)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes that render (1)")
    parser.add_argument("--device", default="cpu", help="where each of them renders (cpu)")
    parser.add_argument(
        "--held-out", action="store_true", help="draw from the seeds that training never uses"
    )
    return parser


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the options ask for; ``InputError`` for what cannot be."""
    if not 0 <= options.seed < HELD_OUT_SEED // _SEEDS_PER_RUN:
        raise InputError(f"--seed {options.seed} is out of range: give one from 0 to 999")
    # Pairs need two photos.
    for name, least in (("scenes", 1), ("views", 2), ("workers", 1), ("shard_scenes", 1)):
        if (number := getattr(options, name)) < least:
            raise InputError(f"--{name.replace('_', '-')} {number}: give at least {least}")
    refuse_saved_scene(options.out)
    return Plan(
        out=options.out,
        scenes=options.scenes,
        seed=options.seed,
        sizes=tuple(parse_size(text) for text in options.size),
        views=options.views,
        textures=options.textures,
        device=options.device,
        held_out=options.held_out,
        workers=options.workers,
        shard_scenes=options.shard_scenes,
    )


def write_shards(plan: Plan) -> None:
    """Write the shards that are missing, in this process or in its workers."""
    plan.out.mkdir(parents=True, exist_ok=True)
    if plan.workers == 1:
        _work(0, plan)
    else:
        mp.spawn(_work, args=(plan,), nprocs=plan.workers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    options = parser_of("python -m pointmap.training.generate").parse_args(arguments)

    def run() -> int:
        write_shards(plan_of(options))
        return 0

    return run_command(run, left=lambda: f"the same command goes on from what is in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
