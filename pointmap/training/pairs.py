"""What a training step takes: posed pairs of views, made from stored or freshly rendered ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pointmap.training.generator import HELD_OUT_SEED, RenderedScene, render_scene
from pointmap.training.sensor import photograph
from pointmap.training.textures import TextureBank


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
class Views:
    """B chosen views, as stored: images uint8, z-depth with 0 on sky, K, cam_to_world."""

    images: Tensor
    depth: Tensor
    intrinsics: Tensor
    cam_to_world: Tensor


def make_batch(
    first: Views, second: Views, overlap: Tensor, generator: torch.Generator, strength: float
) -> PairBatch:
    """Return the pairs (first[n], second[n]) with sensor effects of a strength from 0 to 1."""
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
        self._sensor = sensor
        self._generator = torch.Generator().manual_seed(seed)
        self._next_seed = seed * 10_000_000 % HELD_OUT_SEED
        self._batches = 0

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
            good = (mutual >= self._overlap[0]) & (scene.overlap <= self._overlap[1])
            good.fill_diagonal_(False)
            picked += [(scene, i, j) for i, j in good.nonzero().tolist()]
        picked = picked[: self._batch_size]
        first = self._stack([(scene, i) for scene, i, _ in picked])
        second = self._stack([(scene, j) for scene, _, j in picked])
        overlap = torch.stack([scene.overlap[i, j] for scene, i, j in picked])
        overlap = overlap.to(first.depth.device)
        return make_batch(first, second, overlap, self._generator, self._sensor)

    @staticmethod
    def _stack(chosen: Sequence[tuple[RenderedScene, int]]) -> Views:
        return Views(
            torch.stack([s.images[v] for s, v in chosen]),
            torch.stack([s.depth[v] for s, v in chosen]),
            torch.stack([s.intrinsics[v] for s, v in chosen]),
            torch.stack([s.cam_to_world[v] for s, v in chosen]),
        )
