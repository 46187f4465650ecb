"""Cameras for the procedural scenes: orbits, walks, sideways and free views, chosen by overlap.

More candidate cameras are drawn than needed, traced at low resolution, and picked so that the
overlaps between the chosen views spread over the wanted range. The overlap of view i with view j is
the fraction of view i's surface pixels that view j sees, by projection and an exact occlusion ray.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pointmap.camera import Array
from pointmap.training.rendering.ray_tracing import LIFT, PinholeCamera, SceneTracer, world_rays
from pointmap.training.scenes.random_scene import SyntheticScene

_CANDIDATES_PER_VIEW = 3
_PROBE_LONG_SIDE = 20
_MIN_SURFACE = 0.35
"""Views with a smaller share of surface pixels (the rest is sky) are rejected."""
_MIN_PARTS = 5


def look_at(position: Array, target: Array, *, roll: float = 0.0) -> Array:
    """Return cam_to_world (4, 4) of a camera at ``position`` looking at ``target``, world z up.

    roll: radians about the viewing axis. Looking straight up or down falls back to x as "right".
    """
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    length = float(np.linalg.norm(right))
    right = right / length if length > 1e-6 else np.array([1.0, 0, 0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([c * right + s * down, c * down - s * right, forward], axis=1)
    pose[:3, 3] = position
    return pose


def sample_cameras(
    tracer: SceneTracer,
    rng: np.random.Generator,
    *,
    views: int,
    size: tuple[int, int],
    difficulty: float,
) -> list[PinholeCamera]:
    """Draw ``views`` cameras of a scene whose pairwise overlaps range from slight to nearly full.

    size: (height, width). The harder, the smaller the overlaps aimed at. Falls back to the widest
    usable candidates when a scene allows no better (never to a camera inside a part).
    """
    height, width = size
    focal = max(size) * np.exp(rng.uniform(np.log(0.5), np.log(2.0)))
    wanted = views * _CANDIDATES_PER_VIEW
    own_focal = rng.random() < 0.15  # each view its own zoom
    candidates: list[PinholeCamera] = []
    seen: list[tuple[Tensor, Tensor]] = []
    for _ in range(8):
        for pose in _candidate_poses(tracer.scene, rng, wanted, difficulty):
            f = focal * (rng.uniform(0.75, 1.33) if own_focal else 1.0)
            K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]])
            candidates.append(PinholeCamera(K, pose, height, width))
            if _is_usable(*(traced := tracer.trace_view(probe(candidates[-1])))):
                seen.append(traced)
            else:
                candidates.pop()
        if len(candidates) >= max(views + 2, wanted // 2):
            break
    if len(candidates) < views:
        raise RuntimeError("the scene has too few free viewpoints")
    overlap = overlaps(tracer, [probe(camera) for camera in candidates], seen).numpy()
    return [candidates[n] for n in _choose(overlap, rng, views, difficulty)]


def _choose(overlap: Array, rng: np.random.Generator, views: int, difficulty: float) -> list[int]:
    """Pick views one by one, each the closest to a drawn overlap with the best view so far."""
    mutual = np.minimum(overlap, overlap.T)
    chosen = [int(np.argsort(mutual.sum(0))[-1 - int(rng.integers(len(mutual) // 2))])]
    while len(chosen) < views:
        wish = rng.uniform(0.5 - 0.4 * difficulty, 0.95)
        left = [n for n in range(len(mutual)) if n not in chosen]
        best = mutual[np.ix_(left, chosen)].max(1)
        chosen.append(left[int(np.abs(best - wish).argmin())])
    return chosen


def _candidate_poses(
    scene: SyntheticScene, rng: np.random.Generator, count: int, difficulty: float
) -> list[Array]:
    """One trajectory of ``count`` poses; poses inside parts are dropped."""
    low, high = scene.region
    target, start = _uniform(rng, scene.focus), _uniform(rng, scene.region)
    if scene.inside_any(start[None], margin=0.05)[0]:
        return []
    span = high - low
    mode = rng.choice(["orbit", "walk", "free"], p=[0.55, 0.25, 0.2])
    spread = np.radians(rng.uniform(15, 40 + 110 * difficulty))
    heading = rng.normal(size=3) * [1, 1, 0.25]
    heading *= rng.uniform(0.05, 0.2 + 0.4 * difficulty) * span.max() / np.linalg.norm(heading)
    roll = np.radians(rng.normal(0, 1.5 if rng.random() < 0.8 else 10))
    poses = []
    for _ in range(count):
        aim = target + rng.normal(0, 0.06, 3) * (1 + np.linalg.norm(target - start))
        if mode == "orbit":
            turn = float(rng.uniform(-0.5, 0.5) * spread)
            offset = start - target
            c, s = float(np.cos(turn)), float(np.sin(turn))
            offset = np.array([c * offset[0] - s * offset[1], s * offset[0] + c * offset[1],
                               offset[2] * rng.uniform(0.7, 1.3)])  # fmt: skip
            place = target + offset * rng.uniform(0.75, 1.25)
        elif mode == "walk":
            step = heading * rng.uniform(-0.5, 0.5)
            place, aim = start + step, aim + step * rng.uniform(0.3, 1.0)
        else:
            place, aim = _uniform(rng, scene.region), _uniform(rng, scene.focus)
        place = np.clip(place, low, high)
        if np.linalg.norm(aim - place) > 0.2:
            poses.append(look_at(place, aim, roll=roll + np.radians(rng.normal(0, 2))))
    if not poses:
        return []
    places = np.stack([pose[:3, 3] for pose in poses])
    free = ~scene.inside_any(places, margin=0.05)
    return [pose for pose, ok in zip(poses, free, strict=True) if ok]


def _uniform(rng: np.random.Generator, box: Array) -> Array:
    """Return a point (3,) in a box (2, 3)."""
    return np.asarray(rng.uniform(box[0], box[1]))


def probe(camera: PinholeCamera) -> PinholeCamera:
    """Return the same camera at about 20 pixels, for cheap visibility estimates."""
    shrink = _PROBE_LONG_SIDE / max(camera.height, camera.width)
    height, width = round(camera.height * shrink), round(camera.width * shrink)
    scale = np.diag([width / camera.width, height / camera.height, 1.0])
    return PinholeCamera(scale @ camera.intrinsics, camera.cam_to_world, height, width)


def _is_usable(depth: Tensor, parts: Tensor) -> bool:
    """Whether a view has enough surface, several parts, and nothing right before the lens."""
    surface = depth[parts >= 0]
    if surface.numel() < _MIN_SURFACE * depth.numel():
        return False
    if float(surface.quantile(0.02)) < 0.12 * float(surface.median()):
        return False
    seen = torch.bincount(parts[parts >= 0])
    return int(seen.max()) <= 0.85 * depth.numel() and int((seen >= 3).sum()) >= _MIN_PARTS


def overlaps(
    tracer: SceneTracer,
    cameras: Sequence[PinholeCamera],
    traced: Sequence[tuple[Tensor, Tensor]],
    *,
    stride: int = 1,
) -> Tensor:
    """Return (V, V) float32 on the CPU: share of view i's surface pixels that view j sees.

    traced: depth and parts (H, W) of each camera. Every ``stride``-th pixel in x and y is tested.
    A view without surface overlaps nothing (0).
    """
    points = [
        _surface_points(tracer, camera, *one, stride)
        for camera, one in zip(cameras, traced, strict=True)
    ]
    counts = torch.tensor([p.shape[1] for p in points])
    cloud = torch.cat(points, dim=1)
    owner = torch.repeat_interleave(torch.arange(len(cameras)), counts).to(tracer.device)
    # All cameras in one call: many small ones would cost more in overhead than in arithmetic.
    inside = [in_view(tracer, camera, cloud).nonzero()[:, 0] for camera in cameras]
    eyes = tracer.tensor(np.stack([camera.cam_to_world[:3, 3] for camera in cameras], axis=1))
    looker = torch.repeat_interleave(torch.arange(len(cameras)), torch.tensor([*map(len, inside)]))
    index, looker = torch.cat(inside), looker.to(tracer.device)
    everything = range(len(tracer.kinds))
    hidden = tracer.blocked(cloud[:, index], eyes[:, looker], everything, directional=False)
    code = owner[index] * len(cameras) + looker
    seen = torch.bincount(code[~hidden], minlength=len(cameras) ** 2).cpu()
    return seen.reshape(len(cameras), -1).float() / counts.clamp_min(1)[:, None]


def _surface_points(
    tracer: SceneTracer, camera: PinholeCamera, depth: Tensor, parts: Tensor, stride: int
) -> Tensor:
    """Return world points (3, R) of every stride-th surface pixel, lifted off their surface."""
    start = stride // 2
    depth, parts = depth[start::stride, start::stride], parts[start::stride, start::stride]
    rows, columns = (parts >= 0).nonzero(as_tuple=True)
    depth, parts = depth[rows, columns], parts[rows, columns]
    x, y = columns * stride + start + 0.5, rows * stride + start + 0.5
    eye, direction = world_rays(tracer, camera, x, y)
    found = eye + direction * depth
    normal, _, _ = tracer.surface(found, parts)
    side = torch.where((normal * direction).sum(0) > 0, -1.0, 1.0)
    return found + normal * side * (LIFT * depth)


def in_view(tracer: SceneTracer, camera: PinholeCamera, points: Tensor) -> Tensor:
    """Return (R,) whether world points (3, R) project into the picture."""
    pose, K = camera.cam_to_world, camera.intrinsics
    p = tracer.tensor(pose[:3, :3].T) @ (points - tracer.tensor(pose[:3, 3:]))
    z = p[2]
    x, y = K[0, 0] * p[0] + K[0, 2] * z, K[1, 1] * p[1] + K[1, 2] * z
    return (z > 1e-3) & (x > 0) & (y > 0) & (x < camera.width * z) & (y < camera.height * z)
