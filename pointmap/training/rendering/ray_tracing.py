"""Analytic ray tracing of the procedural scenes in plain torch, on any device.

Rays carry directions whose camera z is 1; their parameter therefore IS the z-depth, exactly, at
pixel centres. The loop runs over parts, each touching only the rays it can meet (a rectangle of
pixels, or the rays within its bounding sphere's shadow), which keeps the working set in the cache
of one core. Looks are in shading.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.training.scenes.random_scene import SyntheticScene
from pointmap.training.scenes.solids import canonical_normal, part_interval

_NEAR = 0.01
_SKIN = 1e-5
"""Solids left within this ray parameter hide nothing: a point's own part, seen outwards."""
LIFT = 2e-3
"""Points are lifted off their surface by this share of their distance before shadow rays."""


@dataclass(frozen=True)
class PinholeCamera:
    """One pinhole camera: pixel centres at +0.5, OpenCV axes."""

    intrinsics: NDArray[np.float64]
    """K (3, 3) in pixels of this view."""
    cam_to_world: NDArray[np.float64]
    """(4, 4)."""
    height: int
    width: int


class SceneTracer:
    """Traces one scene on one device."""

    def __init__(self, scene: SyntheticScene, device: torch.device | str) -> None:
        self.scene, self.device = scene, torch.device(device)
        self.kinds: list[int] = [int(k) for k in scene.kind]
        self._world_to_part = scene.rotation.transpose(0, 2, 1) / scene.half[:, :, None]
        shift = -(self._world_to_part @ scene.centre[:, :, None])[..., 0]
        self._corners = _corners(scene)
        self._radius = np.linalg.norm(scene.half, axis=1)
        self._matrix, self._shift = self.tensor(self._world_to_part), self.tensor(shift)
        self._table = torch.cat(
            [self._matrix.flatten(1), self._shift, self.tensor(scene.half)], dim=1
        )
        self._kind = torch.tensor(self.kinds, device=self.device)

    def tensor(self, array: NDArray[np.float64]) -> Tensor:
        """Return an array as float32 on the scene's device."""
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    def trace_view(self, camera: PinholeCamera) -> tuple[Tensor, Tensor]:
        """Return z-depth (H, W), inf where nothing is hit, and part numbers (H, W), -1 there."""
        H, W = camera.height, camera.width
        K, R = camera.intrinsics, camera.cam_to_world[:3, :3]
        rays_x = self.tensor((np.arange(W) + 0.5 - K[0, 2]) / K[0, 0])
        rays_y = self.tensor((np.arange(H) + 0.5 - K[1, 2]) / K[1, 1])
        M = self.tensor(self._world_to_part @ R)
        along_x = M[:, :, 0, None] * rays_x
        along_y = M[:, :, 1, None] * rays_y + M[:, :, 2, None]
        # Differences first, in float64: scenes may sit far from the world's origin.
        eye = camera.cam_to_world[:3, 3] - self.scene.centre
        origin = self.tensor((self._world_to_part @ eye[:, :, None])[..., 0])
        depth = torch.full((H, W), float("inf"), device=self.device)
        parts = torch.full((H, W), -1, dtype=torch.int64, device=self.device)
        for n, (x0, x1, y0, y1) in enumerate(self._rectangles(camera)):
            if x0 >= x1 or y0 >= y1:
                continue
            direction = along_x[n, :, None, x0:x1] + along_y[n, :, y0:y1, None]
            enter, leave = part_interval(self.kinds[n], origin[n, :, None, None], direction)
            nearest = depth[y0:y1, x0:x1]
            closer = (enter < leave) & (enter > _NEAR) & (enter < nearest)
            nearest.copy_(torch.where(closer, enter, nearest))
            parts[y0:y1, x0:x1].masked_fill_(closer, n)
        return depth, parts

    def trace_pixels(self, camera: PinholeCamera, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return z-depth (R,) and parts (R,) at pixel places x, y (R,); inf and -1 for a miss."""
        eye, direction = world_rays(self, camera, x, y)
        depth = torch.full_like(x, float("inf"))
        parts = torch.full(x.shape, -1, dtype=torch.int64, device=self.device)
        for n, (x0, x1, y0, y1) in enumerate(self._rectangles(camera)):
            if x0 >= x1 or y0 >= y1:
                continue
            index = None
            if (x1 - x0) * (y1 - y0) < 0.5 * camera.width * camera.height:
                index = ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)).nonzero()[:, 0]
            chosen = direction if index is None else direction[:, index]
            origin = self._matrix[n] @ eye + self._shift[n, :, None]
            enter, leave = part_interval(self.kinds[n], origin, self._matrix[n] @ chosen)
            nearest = depth if index is None else depth[index]
            closer = (enter < leave) & (enter > _NEAR) & (enter < nearest)
            met = closer.nonzero()[:, 0]
            place = met if index is None else index[met]
            depth[place], parts[place] = enter[met], n
        return depth, parts

    def blocked(
        self, points: Tensor, target: Tensor, casters: Sequence[int], *, directional: bool
    ) -> Tensor:
        """Return (R,) bool: something lies between points (3, R) and the target.

        target: (3,) a place, or with ``directional`` a unit direction to infinity; or one target
        (3, R) per point (no culling then, slower). Points must be lifted off their own surface.
        """
        hidden = torch.zeros(points.shape[1:], dtype=torch.bool, device=self.device)
        single = target.numel() == 3
        target = target.reshape(3, -1)
        farthest = float("inf") if directional else 1.0
        sieve = _Sieve(points, target, directional) if single else None
        for n in casters:
            index = sieve.near(self.scene.centre[n], self._radius[n]) if sieve else None
            chosen = points if index is None else points[:, index]
            if not chosen.shape[1]:
                continue
            A, shift = self._matrix[n], self._shift[n, :, None]
            origin = torch.addmm(shift, A, chosen)
            aim = target if single or index is None else target[:, index]
            aim = A @ aim if directional else A @ aim + shift - origin
            enter, leave = part_interval(self.kinds[n], origin, aim)
            meets = (enter < leave) & (leave > _SKIN) & (enter < farthest)
            if index is None:
                hidden |= meets
            else:
                hidden[index[meets]] = True
        return hidden

    def surface(self, points: Tensor, parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return world normals (3, R), face codes (R,) and part coordinates (3, R).

        Part coordinates are in world units along the part's own axes.
        """
        table = self._table[parts].T
        A = table[:9].reshape(3, 3, -1)
        local = A[:, 0] * points[0] + A[:, 1] * points[1] + A[:, 2] * points[2] + table[9:12]
        normal, face = canonical_normal(self._kind[parts], local)
        world = A[0] * normal[0] + A[1] * normal[1] + A[2] * normal[2]
        return world / length(world).clamp_min(1e-12), face, local * table[12:]

    def _rectangles(self, camera: PinholeCamera) -> list[tuple[int, ...]]:
        """Return x0, x1, y0, y1 of the pixels each part may cover."""
        R, t = camera.cam_to_world[:3, :3], camera.cam_to_world[:3, 3]
        p = (self._corners - t) @ R
        z = p[..., 2]
        K, W, H = camera.intrinsics, camera.width, camera.height
        safe = np.maximum(z, _NEAR)
        x = K[0, 0] * p[..., 0] / safe + K[0, 2]
        y = K[1, 1] * p[..., 1] / safe + K[1, 2]
        whole = z.min(1) <= _NEAR  # reaches behind the camera: no finite outline
        x0 = np.where(whole, 0, np.clip(np.floor(x.min(1)), 0, W)).astype(int)
        x1 = np.where(whole, W, np.clip(np.ceil(x.max(1)), 0, W)).astype(int)
        y0 = np.where(whole, 0, np.clip(np.floor(y.min(1)), 0, H)).astype(int)
        y1 = np.where(whole, H, np.clip(np.ceil(y.max(1)), 0, H)).astype(int)
        x1 = np.where(z.max(1) <= _NEAR, x0, x1)  # wholly behind
        return list(zip(x0.tolist(), x1.tolist(), y0.tolist(), y1.tolist(), strict=True))


class _Sieve:
    """Finds the points whose ray to one target passes a sphere: a strip, or a cone of rays."""

    def __init__(self, points: Tensor, target: Tensor, directional: bool) -> None:
        self._directional = directional
        self._target = target[:, 0].double().cpu().numpy()
        if directional:
            helper = np.eye(3)[np.abs(self._target).argmin()]
            across = np.cross(self._target, helper)
            across /= np.linalg.norm(across)
            self._axes = np.stack([across, np.cross(self._target, across)])
            axes = torch.from_numpy(self._axes).to(points)
            self._rays = axes @ points
        else:
            away = points - target
            self._rays = away / length(away).clamp_min(1e-9)

    def near(self, centre: NDArray[np.float64], radius: float) -> Tensor | None:
        """Return the indices of points that need the exact test; None for all."""
        if self._directional:
            a, b = self._axes @ centre
            da, db = self._rays[0] - float(a), self._rays[1] - float(b)
            return (da * da + db * db < radius * radius).nonzero()[:, 0]
        offset = centre - self._target
        distance = float(np.linalg.norm(offset))
        if distance <= 1.02 * radius:
            return None
        x, y, z = (offset / distance).tolist()
        cosine = float(np.sqrt(1 - (radius / distance) ** 2))
        along = self._rays[0] * x + self._rays[1] * y + self._rays[2] * z
        return (along > cosine - 1e-6).nonzero()[:, 0]


def length(vectors: Tensor) -> Tensor:
    """Return lengths (R,) of vectors (3, R); several times faster than ``norm(dim=0)`` on a CPU."""
    x, y, z = vectors
    return (x * x + y * y + z * z).sqrt()


def world_rays(
    tracer: SceneTracer, camera: PinholeCamera, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the eye (3, 1) and directions (3, R) whose parameter is z-depth."""
    K = camera.intrinsics
    rays = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)])
    rotation = tracer.tensor(camera.cam_to_world[:3, :3])
    return tracer.tensor(camera.cam_to_world[:3, 3:]), rotation @ rays


def _corners(scene: SyntheticScene) -> NDArray[np.float64]:
    """Return the (N, 8, 3) world corners of the parts' bounding boxes."""
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    offsets = (scene.half[:, None] * signs) @ scene.rotation.transpose(0, 2, 1)
    return np.asarray(scene.centre[:, None] + offsets)
