"""Planes through what is known of a photo's depth, and the one that each other pixel belongs to.

Rooms and houses are mostly planes, and a wall without texture still has a border. On a plane
inverse depth is affine in pixels, so that a few known pixels tell a plane (RANSAC, Fischler and
Bolles 1981) where it goes on between them (Gallup, Frahm and Pollefeys 2010).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pointmap.camera import Array
from recon.stereo.colour_fill import ColourGrid, spread_along_colours

_MOST_PLANES, _TRIALS = 12, 300
_LEAST_SHARE = 0.01
"""A plane holds at least this share of what is known."""
_SPACING, _REACH = 1 / 100, 0.15
"""Distance of the pixels that are looked at, and how far apart those of one trial are at most along
each axis, as shares of the photo's longer side."""
_FLAT = 1e-3
"""Three pixels tell a plane if their triangle is at least this share of the reach squared."""
_ON_PLANE, _NEAR_PLANE = 0.01, 0.015
"""A pixel whose inverse depth is off by less than this share is on the plane, or belongs to it."""
_FEWEST = 20
"""Known pixels below which no plane is looked for."""
_UNLIKELY = 0.2
"""A plane that is off by this share from what is expected of a pixel is not the pixel's."""
_UNBIASED = 0.6
"""A plane is believed up to this mean over deviation of how far it is off what is expected, and no
more from twice that on."""
_DOUBTED, _BELIEVED = 0.3, 0.6
"""Share of like pixels nearby that belong to a plane: up to the first it tells nothing, from the
second on all."""


def along_planes(
    log_depth: Tensor, weight: Tensor, colours: ColourGrid, expected: Tensor
) -> Tensor:
    """Return log depth (h, w): of the plane that most known pixels of like colour nearby are on,
    and ``expected`` (h, w) where there is none, or it is far from that.

    ``log_depth`` and ``weight`` (h, w): what is known, weight 0 = nothing; ``colours``: of the
    photo.
    """
    inverse = (-log_depth).exp()
    planes = find_planes(inverse, weight)
    if not len(planes):
        return expected
    height, width = weight.shape
    x = torch.arange(width, device=weight.device)
    y = torch.arange(height, device=weight.device)[:, None]
    surfaces = torch.stack([a + b * x + c * y for a, b, c in planes.tolist()])
    belongs = ((surfaces - inverse).abs() < _NEAR_PLANE * inverse).float()
    shares = spread_along_colours(belongs, weight, colours, torch.zeros_like(belongs))
    expected_depth = expected.exp()
    best, trust, chosen = (torch.zeros_like(weight) for _ in range(3))
    which = torch.full(weight.shape, -1, device=weight.device)
    for n, (surface, share) in enumerate(zip(surfaces, shares, strict=True)):
        off = (surface * expected_depth - 1) / _UNLIKELY
        score = share * (1 - off.square()).clamp_min(0).square()
        better = score > best
        best = torch.where(better, score, best)
        trust = torch.where(better, share, trust)
        chosen = torch.where(better, surface, chosen)
        which = torch.where(better, n, which)
    trust = ((trust - _DOUBTED) / (_BELIEVED - _DOUBTED)).clamp(0, 1)
    off = chosen * expected_depth - 1
    for n in range(len(planes)):
        its = which == n
        trust = torch.where(its, trust * _credit(off[its & (weight == 0) & (trust > 0)]), trust)
    return expected + trust * (-chosen.clamp_min(1e-12).log() - expected)


def _credit(off: Tensor) -> float:
    """Return how far, 0 to 1, a plane is to be believed that is relatively ``off`` (P,) from what
    is expected of the pixels it takes: errors of what is expected have either sign, and a plane
    that goes on past the end of its surface leaves it on one side.
    """
    if len(off) < _FEWEST:
        return 1.0
    bias = float(off.mean().abs() / off.std().clamp_min(1e-6))
    return min(max(2 - bias / _UNBIASED, 0.0), 1.0)


def find_planes(inverse: Tensor, weight: Tensor) -> Array:
    """Return planes (K, 3), found one after the other: inverse depth is a + b x + c y in the middle
    of the pixel in column x and row y, both counted from 0.

    ``inverse`` and ``weight`` (h, w), 0 = unknown.
    """
    height, width = weight.shape
    longer = max(height, width)
    step = max(1, round(_SPACING * longer))
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    v, left = (t.cpu().double().numpy()[rows, columns].ravel() for t in (inverse, weight))
    known = left > 0
    at = np.stack([np.ones(known.sum()), columns.ravel()[known], rows.ravel()[known]], 1)
    v, left = v[known], left[known]
    if len(v) < _FEWEST:
        return np.zeros((0, 3))
    # Here, not above: who only needs torch need not wait for numba.
    from recon.stereo.loops.plane_votes import add_votes, pixels_on_planes

    found: list[Array] = []
    tried = _planes_of_three(at, v, _REACH * longer)
    x, y = np.ascontiguousarray(at[:, 1]), np.ascontiguousarray(at[:, 2])
    on = pixels_on_planes(np.ascontiguousarray(tried.T), x, y, v, _ON_PLANE)
    votes = np.zeros(len(tried))
    add_votes(votes, on, left)
    least = _LEAST_SHARE * left.sum()
    while len(tried) and len(found) < _MOST_PLANES:
        best = int(votes.argmax())
        if votes[best] < least:
            break
        plane = tried[best]
        for _ in range(2):
            chosen = left * (np.abs(at @ plane - v) < _ON_PLANE * v)
            # Errors of depth count relatively.
            weighted = at * (chosen / v**2)[:, None]
            plane = np.linalg.lstsq(weighted.T @ at, weighted.T @ v, rcond=None)[0]
        found.append(plane)
        taken = on[:, best] | (np.abs(at @ plane - v) < _NEAR_PLANE * v)
        add_votes(votes, on, np.where(taken, -left, 0))
        left[taken] = 0.0
    return np.reshape(found, (-1, 3))


def _planes_of_three(at: Array, v: Array, reach: float) -> Array:
    """Return planes (T, 3) through random pixels (T of 3) that are not farther apart than
    ``reach``; the same ones every time.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    known = cKDTree(at[:, 1:])
    corners = [rng.integers(len(v), size=_TRIALS)]
    for _ in range(2):
        # What is known nearest to a random place around the first.
        place = at[corners[0], 1:] + rng.uniform(-reach, reach, (_TRIALS, 2))
        corners.append(known.query(place)[1])
    triples = np.stack(corners, 1)
    wide = np.abs(np.linalg.det(at[triples])) > _FLAT * reach**2
    triples = triples[wide]
    return np.linalg.solve(at[triples], v[triples][..., None])[..., 0]
