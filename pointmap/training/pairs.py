"""Training pairs: pre-rendered shards on disk, or rendered on the fly on a GPU.

``python -m pointmap.training.pairs --out DIR --scenes 4000 --seed 1`` writes shards of 48 scenes;
it skips shards that exist and may run beside a trainer that reads the folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pointmap.errors import InputError
from pointmap.training.generator import HELD_OUT_SEED, RenderedScene, render_scene
from pointmap.training.sensor import photograph
from pointmap.training.textures import TextureBank, make_texture_bank

_log = logging.getLogger(__name__)

SCENES_PER_SHARD = 48
_SEEDS_PER_RUN = 1_000_000
_SIZES = ("192x144", "192x128", "160x160", "144x192")


@dataclass(frozen=True)
class PairBatch:
    """Ordered pairs of views; everything is expressed in camera 1's frame."""

    image1: Tensor
    """(B, 3, H, W) float32 in [-1, 1], after sensor effects."""
    image2: Tensor
    points1: Tensor
    """(B, H, W, 3) view 1's points in camera 1's frame."""
    points2: Tensor
    """(B, H, W, 3) view 2's points, also in camera 1's frame."""
    valid1: Tensor
    """(B, H, W) bool, false on sky."""
    valid2: Tensor
    depth1: Tensor
    """(B, H, W) float32 z-depth, 0 on sky."""
    depth2: Tensor
    intrinsics1: Tensor
    """(B, 3, 3), pixel centres at +0.5."""
    intrinsics2: Tensor
    cam2_to_cam1: Tensor
    """(B, 4, 4)."""
    overlap: Tensor
    """(B,) share of view 1's surface pixels seen by view 2."""


def unproject(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Return camera-frame points (B, H, W, 3) of z-depth (B, H, W) and K (B, 3, 3) without skew."""
    height, width = depth.shape[-2:]
    x = torch.arange(width, device=depth.device) + 0.5
    y = torch.arange(height, device=depth.device) + 0.5
    focal_x, focal_y = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None]
    ray_x = (x - intrinsics[:, 0, 2, None]) / focal_x
    ray_y = (y - intrinsics[:, 1, 2, None]) / focal_y
    return torch.stack([ray_x[:, None] * depth, ray_y[:, :, None] * depth, depth], dim=-1)


@dataclass(frozen=True)
class _Views:
    """B chosen views, as stored."""

    images: Tensor
    depth: Tensor
    intrinsics: Tensor
    cam_to_world: Tensor


def _make_batch(
    first: _Views, second: _Views, overlap: Tensor, generator: torch.Generator, strength: float
) -> PairBatch:
    both = torch.cat([first.images, second.images])
    image1, image2 = photograph(both, generator, strength=strength).chunk(2)
    depth1, depth2 = first.depth.float(), second.depth.float()
    # float64 for the composition: cameras may sit far from the world's origin.
    to_first = torch.linalg.inv(first.cam_to_world.double()) @ second.cam_to_world.double()
    to_first = to_first.float()
    points2 = unproject(depth2, second.intrinsics)
    R, t = to_first[:, :3, :3], to_first[:, :3, 3]
    flat = torch.baddbmm(t[:, None], points2.flatten(1, 2), R.transpose(1, 2))
    return PairBatch(
        image1=image1, image2=image2,
        points1=unproject(depth1, first.intrinsics), points2=flat.reshape(points2.shape),
        valid1=depth1 > 0, valid2=depth2 > 0, depth1=depth1, depth2=depth2,
        intrinsics1=first.intrinsics, intrinsics2=second.intrinsics,
        cam2_to_cam1=to_first, overlap=overlap,
    )  # fmt: skip


def _eased(overlap: tuple[float, float], ease: float) -> tuple[float, float]:
    """Return the range of overlaps with its lower end raised towards one half."""
    low, high = overlap
    return low + ease * max(0.0, 0.5 - low), high


class ShardPairs:
    """Endless random batches from a folder of shards; all views of a batch have one size.

    Shards are mapped, not read: the system's page cache decides what stays in memory. Pairs are
    ordered, (i, j) and (j, i) both occur; the range applies to the overlap in both directions.
    """

    def __init__(
        self,
        folder: Path,
        *,
        batch_size: int,
        seed: int = 0,
        overlap: tuple[float, float] = (0.1, 0.95),
        sensor: float = 1.0,
        refresh: int = 50,
        device: torch.device | str = "cpu",
    ) -> None:
        """Open a folder.

        sensor: strength of the sensor effects, 0 for none; refresh: batches between looks for new
        shards.
        """
        self._folder, self._batch_size, self._overlap = Path(folder), batch_size, overlap
        self._sensor, self._refresh, self._device = sensor, refresh, torch.device(device)
        self._ease = 0.0
        self._generator = torch.Generator().manual_seed(seed)
        self._batches = 0
        self._names: list[str] = []
        self._shards: dict[str, dict[str, Tensor]] = {}
        self._pairs: dict[str, Tensor] = {}
        self._find_shards()
        if not self._names:
            raise InputError(f"no shards in {folder}: run python -m pointmap.training.pairs first")

    @property
    def scenes(self) -> int:
        """Number of scenes known now."""
        return sum(len(self._shards[name]["images"]) for name in self._names)

    def set_ease(self, ease: float) -> None:
        """From the next batch on: 1 for large overlaps without sensor effects, 0 for all."""
        if ease != self._ease:
            self._ease = ease
            for name in self._names:
                self._index_pairs(name)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` needs to go on with the very next batch."""
        return {
            "generator": self._generator.get_state(),
            "batches": self._batches,
            "shards": list(self._names),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state` was taken; the shards known then must still exist."""
        self._generator.set_state(state["generator"])
        self._batches = state["batches"]
        missing = [n for n in state["shards"] if not (self._folder / n).exists()]
        if missing:
            raise InputError(f"{missing[0]} is gone from {self._folder}: cannot resume exactly")
        self._names = list(state["shards"])
        for name in self._names:
            self._open(name)
            self._index_pairs(name)

    def __iter__(self) -> Iterator[PairBatch]:
        while True:
            yield self.next_batch()

    def next_batch(self) -> PairBatch:
        """Return the next batch on the device."""
        if self._batches and self._batches % self._refresh == 0:
            self._find_shards()
        self._batches += 1
        usable = [name for name in self._names if len(self._pairs[name])]
        if not usable:
            raise InputError(f"no pair in {self._folder} has an overlap in {self._overlap}")
        counts = torch.tensor([len(self._pairs[name]) for name in usable], dtype=torch.float32)
        anchor = self._shards[usable[self._draw(counts)]]
        size = anchor["images"].shape[-2:]
        same = [n for n in usable if self._shards[n]["images"].shape[-2:] == size]
        weights = torch.tensor([len(self._pairs[n]) for n in same], dtype=torch.float32)
        owners = torch.multinomial(
            weights, self._batch_size, replacement=True, generator=self._generator
        )
        chosen = []
        for owner in sorted(owners.tolist()):
            name = same[owner]
            row = int(torch.randint(len(self._pairs[name]), (1,), generator=self._generator))
            chosen.append((name, *self._pairs[name][row].tolist()))
        first = self._gather([(name, scene, i) for name, scene, i, _ in chosen])
        second = self._gather([(name, scene, j) for name, scene, _, j in chosen])
        overlap = torch.stack([self._shards[n]["overlap"][s, i, j] for n, s, i, j in chosen])
        strength = self._sensor * (1 - self._ease)
        return _make_batch(first, second, overlap.to(self._device), self._generator, strength)

    def _draw(self, weights: Tensor) -> int:
        return int(torch.multinomial(weights, 1, generator=self._generator))

    def _gather(self, keys: Sequence[tuple[str, int, int]]) -> _Views:
        def stack(field: str) -> Tensor:
            rows = torch.stack([self._shards[name][field][s, v] for name, s, v in keys])
            return rows.to(self._device)

        return _Views(stack("images"), stack("depth"), stack("intrinsics"), stack("cam_to_world"))

    def _find_shards(self) -> None:
        names = sorted(path.name for path in self._folder.glob("shard-*.pt"))
        self._names = names
        for name in names:
            if name not in self._shards:
                self._open(name)
                self._index_pairs(name)

    def _open(self, name: str) -> None:
        if name not in self._shards:
            path = self._folder / name
            self._shards[name] = torch.load(path, mmap=True, weights_only=True)

    def _index_pairs(self, name: str) -> None:
        overlap = self._shards[name]["overlap"]
        low, high = _eased(self._overlap, self._ease)
        mutual = torch.minimum(overlap, overlap.transpose(1, 2))
        good = (mutual >= low) & (overlap <= high)
        good &= ~torch.eye(overlap.shape[1], dtype=torch.bool)
        self._pairs[name] = good.nonzero()


class ScenePairs:
    """The same batches rendered on the fly on the bank's device; every scene is used once.

    Each batch takes all wanted pairs of new scenes; the pairs of one scene stay together, so a
    batch holds about batch_size / 8 scenes of 4 views.
    """

    def __init__(
        self,
        textures: TextureBank,
        *,
        batch_size: int,
        seed: int = 0,
        sizes: Sequence[tuple[int, int]] = ((144, 192), (128, 192), (160, 160), (192, 144)),
        views: int = 4,
        overlap: tuple[float, float] = (0.1, 0.95),
        difficulty: tuple[float, float] = (0.1, 1.0),
        sensor: float = 1.0,
    ) -> None:
        """Start at ``seed`` (below the held-out seeds); sizes are (height, width)."""
        self._textures, self._batch_size, self._sizes = textures, batch_size, tuple(sizes)
        self._views, self._overlap, self._difficulty = views, overlap, difficulty
        self._sensor, self._ease = sensor, 0.0
        self._generator = torch.Generator().manual_seed(seed)
        self._next_seed = seed * 10_000_000 % HELD_OUT_SEED
        self._batches = 0

    def set_ease(self, ease: float) -> None:
        """From the next batch on: 1 for large overlaps without sensor effects, 0 for all."""
        self._ease = ease

    def state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` needs."""
        return {
            "generator": self._generator.get_state(),
            "next_seed": self._next_seed,
            "batches": self._batches,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where :meth:`state` was taken."""
        self._generator.set_state(state["generator"])
        self._next_seed, self._batches = state["next_seed"], state["batches"]

    def __iter__(self) -> Iterator[PairBatch]:
        while True:
            yield self.next_batch()

    def next_batch(self) -> PairBatch:
        """Render scenes until the batch is full."""
        size = self._sizes[self._batches % len(self._sizes)]
        self._batches += 1
        picked: list[tuple[RenderedScene, int, int]] = []
        while len(picked) < self._batch_size:
            low, high = self._difficulty
            level = low + (high - low) * float(torch.rand((), generator=self._generator))
            scene = render_scene(
                self._next_seed, textures=self._textures, size=size, views=self._views,
                difficulty=level,
            )  # fmt: skip
            self._next_seed = (self._next_seed + 1) % HELD_OUT_SEED
            mutual = torch.minimum(scene.overlap, scene.overlap.T)
            least, most = _eased(self._overlap, self._ease)
            good = (mutual >= least) & (scene.overlap <= most)
            good.fill_diagonal_(False)
            picked += [(scene, i, j) for i, j in good.nonzero().tolist()]
        picked = picked[: self._batch_size]
        first = self._stack([(scene, i) for scene, i, _ in picked])
        second = self._stack([(scene, j) for scene, _, j in picked])
        overlap = torch.stack([scene.overlap[i, j] for scene, i, j in picked])
        overlap = overlap.to(first.depth.device)
        strength = self._sensor * (1 - self._ease)
        return _make_batch(first, second, overlap, self._generator, strength)

    @staticmethod
    def _stack(chosen: Sequence[tuple[RenderedScene, int]]) -> _Views:
        return _Views(
            torch.stack([s.images[v] for s, v in chosen]),
            torch.stack([s.depth[v] for s, v in chosen]),
            torch.stack([s.intrinsics[v] for s, v in chosen]),
            torch.stack([s.cam_to_world[v] for s, v in chosen]),
        )


def write_shard(
    path: Path, seeds: Sequence[int], *, textures: TextureBank, size: tuple[int, int], views: int
) -> None:
    """Render the scenes of one shard and put it in place in one step.

    Depth is stored as float16 (relative error at most 0.05 %, far below what a network resolves).
    """
    scenes = []
    for seed in seeds:
        difficulty = float(np.random.default_rng([seed, 3]).uniform(0.1, 1.0))
        scenes.append(
            render_scene(seed, textures=textures, size=size, views=views, difficulty=difficulty)
        )
    shard = {
        "images": torch.stack([s.images for s in scenes]).cpu(),
        "depth": torch.stack([s.depth for s in scenes]).half().cpu(),
        "intrinsics": torch.stack([s.intrinsics for s in scenes]).cpu(),
        "cam_to_world": torch.stack([s.cam_to_world for s in scenes]).cpu(),
        "overlap": torch.stack([s.overlap for s in scenes]),
        "seeds": torch.tensor(list(seeds)),
    }
    partial = path.with_suffix(f".part{os.getpid()}")
    torch.save(shard, partial)
    partial.replace(path)


def _parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "WxH"; patches of 16 pixels must fill it."""
    parts = text.split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) and int(p) % 16 == 0 for p in parts):
        raise InputError(f"--size {text} is no WxH in multiples of 16: give for example 192x144")
    return int(parts[1]), int(parts[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--scenes", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1, help="shards of different seeds differ")
    parser.add_argument("--size", nargs="+", default=list(_SIZES), metavar="WxH")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--textures", type=Path, help="folder of photographs, or a packed .npz")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--held-out", action="store_true", help="draw from the seeds that training never uses"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < HELD_OUT_SEED // _SEEDS_PER_RUN:
        raise InputError(f"--seed {options.seed} is out of range: give one from 0 to 999")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    sizes = [_parse_size(text) for text in options.size]
    options.out.mkdir(parents=True, exist_ok=True)
    start_seed = options.seed * _SEEDS_PER_RUN + (HELD_OUT_SEED if options.held_out else 0)
    bank = make_texture_bank(start_seed, folder=options.textures, device=options.device)
    for number in range((options.scenes + SCENES_PER_SHARD - 1) // SCENES_PER_SHARD):
        path = options.out / f"shard-{options.seed}-{number:05d}.pt"
        if path.exists():
            continue
        start = time.monotonic()
        first = start_seed + number * SCENES_PER_SHARD
        height, width = sizes[number % len(sizes)]
        write_shard(
            path,
            range(first, first + SCENES_PER_SHARD),
            textures=bank,
            size=(height, width),
            views=options.views,
        )
        rate = SCENES_PER_SHARD * options.views / (time.monotonic() - start)
        _log.info("%s: %dx%d, %.1f views/s", path.name, width, height, rate)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
