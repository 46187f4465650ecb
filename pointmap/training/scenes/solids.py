"""The unit solids all scenes are made of: where a ray meets them, and their normals.

A part is a unit solid under an affine map. Convex solids are met in one interval of the ray
parameter; the torus and the implicit solids report their first meeting.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.camera import Array
from pointmap.training.scenes import implicit_solids

BOX, ELLIPSOID, CYLINDER, CONE, TORUS, ROUNDED = range(6)
"""The box [-1, 1]^3; the unit sphere; cylinder and cone of radius 1 along z in [-1, 1] (the tip at
z = 1); the torus about z with radii 0.7 and 0.3; the rounded box x^6 + y^6 + z^6 = 1."""
HULL = 6
"""Kinds from here on are polyhedra of :func:`hull_planes`, then the implicit solids."""

_RING, _TUBE = 0.7, 0.3
_TORUS_STEPS, _NEWTON_STEPS = 28, 9


def gable() -> Array:
    """Planes of a roof: a triangular prism along y, its ridge at z = 1."""
    return np.array([[0, 0, -1], [0, 1, 0], [0, -1, 0], [2, 0, 1], [-2, 0, 1]], float)


def _wedge() -> Array:
    """A ramp: a box cut by a plane near its upper left and its lower right edge."""
    return np.array(
        [[0, 0, -1], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [1, 0, 0], [0, 0, 1], [10, 0, 10]], float
    )


def _prism(sides: int, top: float) -> Array:
    """A regular prism along z that narrows to ``top`` times its width at z = 1."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    middle = (1 + top) / 2 * np.cos(np.pi / sides)
    slope = (1 - top) / 2 * np.cos(np.pi / sides)
    side = np.column_stack([np.cos(angle), np.sin(angle), np.full(sides, slope)]) / middle
    return np.concatenate([side, [[0, 0, 1], [0, 0, -1]]])


def _stone(rng: np.random.Generator) -> Array:
    normals = rng.standard_normal((9, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) * rng.uniform(0.6, 0.9, (9, 1))
    return np.concatenate([normals, np.eye(3), -np.eye(3)])


@lru_cache(maxsize=1)
def hull_planes() -> tuple[Array, ...]:
    """Return the polyhedra: planes (k, 3) with n . p <= 1 inside, all within the box [-1, 1]^3."""
    rng = np.random.default_rng(7)
    prisms = [
        _prism(6, 1),
        _prism(8, 1),
        _prism(4, 0.5),
        _prism(6, 0.7),
        _prism(4, 0.02),
        _prism(3, 1),
    ]
    return (gable(), _wedge(), *prisms, *(_stone(rng) for _ in range(8)))


HULLS = tuple(range(HULL, HULL + 16))
"""All kinds of polyhedra: gable, wedge, six prisms and frusta, eight stones."""
PRISMS, STONES = HULLS[2:8], HULLS[8:]
IMPLICIT = tuple(range(HULLS[-1] + 1, HULLS[-1] + 1 + len(implicit_solids.BOUNDS)))
"""All kinds of :mod:`pointmap.training.scenes.implicit_solids`."""
HILLS = tuple(IMPLICIT[n] for n in implicit_solids.HILLS)
LUMPS = tuple(IMPLICIT[n] for n in implicit_solids.LUMPS)


@lru_cache(maxsize=64)
def _planes_on(kind: int, device: torch.device) -> Tensor:
    return torch.tensor(hull_planes()[kind - HULL], dtype=torch.float32, device=device)


def part_interval(kind: int, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays enter and leave a unit solid, in units of ``direction``.

    origin, direction: (3, ...) in the solid's canonical coordinates, broadcastable. A ray misses
    where the entry is not less than the exit (or either is NaN). The torus and the implicit solids
    give their first meeting at a parameter >= 0 and an infinite exit.
    """
    if kind == ELLIPSOID:
        a, b, c = _dot(direction, direction), _dot(origin, direction), _dot(origin, origin)
        root = (b * b - a * (c - 1)).sqrt()  # NaN: no meeting
        return (-b - root) / a, (root - b) / a
    if HULL <= kind <= HULLS[-1]:
        return _hull_interval(_planes_on(kind, direction.device), origin, direction)
    inverse = 1 / (direction + 1e-12)
    middle, reach = -origin * inverse, inverse.abs()
    low, high = middle - reach, middle + reach
    if kind in (CYLINDER, CONE):
        quadric = _cylinder if kind == CYLINDER else _cone
        enter, leave = quadric(origin, direction)
        return torch.maximum(enter, low[2]), torch.minimum(leave, high[2])
    enter = torch.maximum(torch.maximum(low[0], low[1]), low[2])
    leave = torch.minimum(torch.minimum(high[0], high[1]), high[2])
    if kind == ROUNDED:
        return _rounded(origin, direction, enter, leave)
    if kind == TORUS:
        return _torus(origin, direction, enter, leave)
    if kind >= IMPLICIT[0]:
        return implicit_solids.first_meeting(kind - IMPLICIT[0], origin, direction, enter, leave)
    return enter, leave


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cylinder(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    (x, y, _), (dx, dy, _) = origin, direction
    a = dx * dx + dy * dy + 1e-12
    b = x * dx + y * dy
    root = (b * b - a * (x * x + y * y - 1)).sqrt()
    return (-b - root) / a, (root - b) / a


def _cone(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Meet x^2 + y^2 = ((1 - z) / 2)^2, the nappe below z = 1."""
    (x, y, z), (dx, dy, dz) = origin, direction
    radius, slope = (1 - z) / 2, -dz / 2
    a = dx * dx + dy * dy - slope * slope
    a = torch.where(a.abs() < 1e-9, torch.full_like(a, 1e-9), a)
    b = x * dx + y * dy - radius * slope
    root = (b * b - a * (x * x + y * y - radius * radius)).sqrt()
    first, second = (-b - root) / a, (root - b) / a
    near, far = torch.minimum(first, second), torch.maximum(first, second)
    # Steep rays (a < 0) cross both nappes: inside the lower one before `near` or after `far`.
    rising, steep = dz > 0, a < 0
    infinite = torch.full_like(near, float("inf"))
    enter = torch.where(steep, torch.where(rising, -infinite, far), near)
    return enter, torch.where(steep, torch.where(rising, near, infinite), far)


def _hull_interval(planes: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Clip rays by half spaces: in by the last plane that faces them, out by the first other."""
    origin_shape = origin.shape[1:]
    across = planes @ direction.flatten(1) + 1e-12
    height = 1 - planes @ origin.flatten(1)
    t = height / across
    infinite = float("inf")
    enter = t.masked_fill(across > 0, -infinite).amax(0)
    leave = t.masked_fill_(across < 0, infinite).amin(0)
    shape = torch.broadcast_shapes(origin_shape, direction.shape[1:])
    return enter.reshape(shape), leave.reshape(shape)


def _rounded(
    origin: Tensor, direction: Tensor, enter: Tensor, leave: Tensor
) -> tuple[Tensor, Tensor]:
    """Newton's method from both ends of the box: the sum of sixth powers is convex along a ray."""
    first, last = torch.full_like(enter, float("inf")), torch.full_like(enter, -float("inf"))
    origin, direction = torch.broadcast_tensors(origin, direction)
    met = enter < leave
    o, d = origin[:, met], direction[:, met]
    ends = []
    for t in (enter[met], leave[met]):
        for _ in range(_NEWTON_STEPS):
            p = o + t * d
            squared = p * p
            fifth = squared * squared * p
            slope = 6 * _dot(fifth, d)
            slope = torch.where(slope.abs() < 1e-9, torch.full_like(slope, 1e9), slope)
            t = t - (_dot(fifth, p) - 1) / slope
        ends.append(t)
    p = o + ends[0] * d
    miss = (p**6).sum(0) > 1.01
    first[met] = ends[0].masked_fill_(miss, float("inf"))
    last[met] = ends[1].masked_fill_(miss, -float("inf"))
    return first, last


def _torus(
    origin: Tensor, direction: Tensor, enter: Tensor, leave: Tensor
) -> tuple[Tensor, Tensor]:
    """Sphere tracing within the box, only for the rays that meet it."""
    infinite = torch.full_like(enter, float("inf"))
    first, last = infinite.clone(), -infinite
    origin, direction = torch.broadcast_tensors(origin, direction)
    met = (enter < leave) & (leave > 0)
    o, d = origin[:, met], direction[:, met]
    length = _dot(d, d).sqrt()
    t, end = enter[met].clamp_min(0), leave[met]
    for _ in range(_TORUS_STEPS):
        t = t + _torus_distance(o + t * d) / length
    hit = (_torus_distance(o + t * d).abs() < 2e-3) & (t <= end + 1e-3)
    first[met] = torch.where(hit, t, torch.full_like(t, float("inf")))
    last[met] = torch.where(hit, torch.full_like(t, float("inf")), torch.full_like(t, -1.0))
    return first, last


def _torus_distance(p: Tensor) -> Tensor:
    ring = (p[0] * p[0] + p[1] * p[1]).sqrt() - _RING
    return (ring * ring + p[2] * p[2]).sqrt() - _TUBE


def canonical_normal(kinds: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return outward normals (3, R) and a face code (R,) in 0..5 (twice the axis, plus sign).

    kinds: (R,) int64; p: (3, R) on the surfaces. Normals are not of unit length. The face code is
    what textures are projected along.
    """
    size = p.abs()
    x, y, z = p
    radius = (x * x + y * y).sqrt()
    is_cone = kinds == CONE
    is_round = (kinds == CYLINDER) | is_cone
    cap = ((kinds == CYLINDER) & (size[2] > radius)) | (
        is_cone & ((z + 1).abs() < (radius - (1 - z) / 2).abs())
    )
    side_axis = (size[1] > size[0]).long()
    axis = torch.where(is_round, torch.where(cap, 2, side_axis), size.argmax(0))
    sign = torch.gather(p, 0, axis[None])[0] >= 0
    flat = torch.zeros_like(p).scatter_(0, axis[None], torch.where(sign, 1.0, -1.0)[None])
    side = torch.stack([x, y, torch.where(is_cone, (1 - z) / 4, torch.zeros_like(z))])
    normal = torch.where(is_round & ~cap, side, flat)
    normal = torch.where(kinds == ELLIPSOID, p, normal)
    for kind in torch.unique(kinds[kinds >= TORUS]).tolist():
        index = (kinds == kind).nonzero()[:, 0]
        normal[:, index] = _special_normal(int(kind), p[:, index])
        size = normal[:, index].abs()
        axis[index] = size.argmax(0)
        sign[index] = torch.gather(normal[:, index], 0, axis[index][None])[0] >= 0
    return normal, axis * 2 + sign


def _special_normal(kind: int, p: Tensor) -> Tensor:
    if kind == ROUNDED:
        return p**5
    if kind == TORUS:
        radius = (p[0] * p[0] + p[1] * p[1]).sqrt().clamp_min(1e-6)
        shrink = (radius - _RING) / radius
        return torch.stack([p[0] * shrink, p[1] * shrink, p[2]])
    if kind >= IMPLICIT[0]:
        return implicit_solids.normal(kind - IMPLICIT[0], p)
    planes = _planes_on(kind, p.device)
    return planes[(planes @ p).argmax(0)].T


def inside_solid(kind: int, p: Array) -> NDArray[np.bool_]:
    """Return (M,) whether canonical points (M, 3) lie in a unit solid (the torus has no hole)."""
    if kind == ELLIPSOID:
        return np.asarray((p**2).sum(1) < 1)
    if kind >= IMPLICIT[0]:
        bound = implicit_solids.solid(kind - IMPLICIT[0], torch.from_numpy(p.T.copy()))
        return np.asarray(bound.numpy() < 0)
    if kind >= HULL:
        return np.asarray((p @ hull_planes()[kind - HULL].T < 1).all(1))
    radius, height = np.hypot(p[:, 0], p[:, 1]), np.abs(p[:, 2])
    if kind == CYLINDER:
        return np.asarray((radius < 1) & (height < 1))
    if kind == CONE:
        return np.asarray((radius < (1 - p[:, 2]) / 2) & (height < 1))
    if kind == TORUS:
        return np.asarray((radius < 1) & (height < _TUBE))
    return np.asarray(np.abs(p).max(1) < 1)
