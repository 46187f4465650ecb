"""Solids without a formula for where a ray meets them: superquadrics, extrusions, rough surfaces.

Each is the set of points in the box [-1, 1]^3 where a function is below 0. The functions change by
at most the distance moved, so that a step of their value never passes the surface (sphere tracing,
Hart, The Visual Computer 12, 1996); a few Newton steps then make the meeting exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Bound = Callable[[Tensor], Tensor]
"""Maps points (3, ...) to (...): below 0 inside, never more than the distance to the surface."""

_STEPS, _NEWTON_STEPS = 40, 4
_HIT = 2e-4
_NUDGE = 1e-4


def _superquadric(around: float, along: float) -> Bound:
    """|p| in the norm ((|x|^a + |y|^a)^(b/a) + |z|^b)^(1/b), below 1 (Barr 1981), a, b >= 1."""
    # For exponents below 2 the norm grows faster than the Euclidean one, by at most this factor.
    steepest = max(1.0, 2 ** (1 / around - 0.5)) * max(1.0, 2 ** (1 / along - 0.5))

    def bound(p: Tensor) -> Tensor:
        size = p.abs().clamp_min(1e-6)
        flat = (size[0] ** around + size[1] ** around) ** (1 / around)
        return ((flat**along + size[2] ** along) ** (1 / along) - 1) / steepest

    return bound


def _rectangle(p: Tensor, x: float, y: float, half_x: float, half_y: float) -> Tensor:
    return torch.maximum((p[0] - x).abs() - half_x, (p[1] - y).abs() - half_y)


def _angle(p: Tensor) -> Tensor:
    return torch.atan2(p[1], p[0])


def _gear(p: Tensor) -> Tensor:
    radius = (p[0] * p[0] + p[1] * p[1]).sqrt()
    teeth = 0.82 + 0.16 * torch.tanh(3 * torch.sin(9 * _angle(p)))
    return torch.maximum((radius - teeth) / 6, 0.3 - radius)


def _star(p: Tensor) -> Tensor:
    radius = (p[0] * p[0] + p[1] * p[1]).sqrt()
    return (radius - 0.7 - 0.28 * torch.cos(5 * _angle(p))) / 3.5


def _waves(p: Tensor, turns: float) -> Tensor:
    """Smooth bumps over all directions, within [-1, 1], of slope up to 2 * turns."""
    x, y, z = p * turns
    waves = (
        torch.sin(x + 1.7 * torch.sin(y * 0.8)) + torch.sin(1.1 * y + z) + torch.sin(0.9 * z - x)
    )
    return waves / 3


def _hills(turns: float, height: float) -> Bound:
    """A height field z < h(x, y)."""

    def bound(p: Tensor) -> Tensor:
        flat = torch.stack([p[0], p[1], torch.zeros_like(p[0])])
        top = height * _waves(flat, turns) + 0.4 * height * _waves(flat + 3, 2.7 * turns)
        return (p[2] - top) / (1 + 4 * height * turns)

    return bound


def _lump(turns: float, depth: float) -> Bound:
    """A ball with a displaced surface."""

    def bound(p: Tensor) -> Tensor:
        radius = (p * p).sum(0).sqrt()
        return (radius - (1 - depth) - depth * _waves(p, turns)) / (1 + 2 * depth * turns)

    return bound


BOUNDS: tuple[Bound, ...] = (
    _superquadric(1.3, 1.3),
    _superquadric(2.0, 4.0),
    _superquadric(5.0, 2.0),
    _superquadric(1.0, 3.0),
    # Extrusions along z.
    lambda p: torch.minimum(_rectangle(p, -0.7, 0, 0.3, 1), _rectangle(p, 0, -0.7, 1, 0.3)),
    lambda p: torch.minimum(_rectangle(p, 0, 0, 0.3, 1), _rectangle(p, 0, 0, 1, 0.3)),
    lambda p: torch.maximum(_rectangle(p, 0, 0, 1, 1), -_rectangle(p, 0, 0.3, 0.75, 1)),
    lambda p: torch.maximum(_rectangle(p, 0, 0, 1, 1), -_rectangle(p, 0, 0, 0.85, 0.85)),
    lambda p: ((p[0] * p[0] + p[1] * p[1]).sqrt() - 0.88).abs() - 0.12,
    _gear,
    _star,
    _hills(3.0, 0.35),
    _hills(6.0, 0.2),
    _lump(4.0, 0.3),
    _lump(9.0, 0.15),
)
"""Four superquadrics; L, cross, channel, frame, tube, gear and star; two hills; two lumps."""

HILLS, LUMPS = (11, 12), (13, 14)
"""Positions of the height fields and of the displaced balls."""


def solid(number: int, p: Tensor) -> Tensor:
    """Return the bound (...) of solid ``number`` cut to the box, at points (3, ...)."""
    return torch.maximum(BOUNDS[number](p), p.abs().amax(0) - 1)


def first_meeting(
    number: int, origin: Tensor, direction: Tensor, enter: Tensor, leave: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the first meeting at a parameter >= 0 and an infinite exit; inf and -inf for a miss.

    origin, direction: (3, ...), broadcastable; enter, leave: (...) where the ray crosses the box.
    """
    infinite = float("inf")
    first, last = torch.full_like(enter, infinite), torch.full_like(enter, -infinite)
    origin, direction = torch.broadcast_tensors(origin, direction)
    met = (enter < leave) & (leave > 0)
    o, d = origin[:, met], direction[:, met]
    speed = (d * d).sum(0).sqrt()
    # Half a nudge inside the box: on its face rounding would decide.
    t = enter[met].clamp_min(0) + 0.5 * _NUDGE / speed
    for _ in range(_STEPS):
        t = t + solid(number, o + t * d).clamp_min(0) / speed
    for _ in range(_NEWTON_STEPS):
        value = solid(number, o + t * d)
        step = _NUDGE / speed
        slope = (solid(number, o + (t + step) * d) - value) / step
        # Only where the ray goes inwards; elsewhere Newton would run away from the surface.
        good = (slope < 0) & (value.abs() < 0.05)
        t = torch.where(good, t - value / torch.where(good, slope, torch.ones_like(slope)), t)
    hit = (solid(number, o + t * d).abs() < _HIT) & (t > 0) & (t <= leave[met] + 1e-3 / speed)
    inside = (enter[met] < 0) & (solid(number, o) < 0)
    t = torch.where(inside, torch.zeros_like(t), t)
    first[met] = torch.where(hit | inside, t, torch.full_like(t, infinite))
    last[met] = torch.where(hit | inside, infinite, -infinite).to(t.dtype)
    return first, last


def normal(number: int, p: Tensor) -> Tensor:
    """Return outward normals (3, R), not of unit length, at surface points (3, R)."""
    columns = []
    for axis in range(3):
        step = torch.zeros(3, 1, dtype=p.dtype, device=p.device)
        step[axis] = 1e-3
        columns.append(solid(number, p + step) - solid(number, p - step))
    found = torch.stack(columns)
    flat = found.abs().amax(0) < 1e-9
    return torch.where(flat, p, found)
