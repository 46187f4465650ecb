"""What each pair's pointmaps say of two cameras: their relative pose and the scale of each photo.

All pairs at once, from a few hundred pixels of each (:class:`recon.stage_results.PairSketch`), so
that a pair costs a few milliseconds and memory is linear in the pairs.

A pointmap's error lies mostly along the viewing ray: depth is what a network has to guess. Hence
the camera that saw the second pointmap is found from its rays (reprojection), with depth as a weak
vote, and the scales from depths alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, Index, rotation_exp
from recon.prediction.pair_sketch import SAMPLES, sample_grid, sample_pixels
from recon.stage_results import PairSketch, PhotoPrior

if TYPE_CHECKING:
    from pointmap.images import Photo


# Predictions solved at once, for bounded memory.
_CHUNK = 64
# Re-weightings of the registration, and Newton steps from there: each starts near its end.
_PROCRUSTES_ROUNDS = 8
_NEWTON_ROUNDS = 10
# Depth errors of neighbouring pixels are alike: so many pixels say as much of depth as one would.
_ALIKE_DEPTHS = 40.0
# Errors that any prediction is granted, of x / z and of log depth: exact ones divide by them.
_LEAST_RAY_SIGMA = 1e-6
_LEAST_DEPTH_SIGMA = 1e-4
# A pixel is explained within so many radians (five pixels at a focal length of 500, as the
# reference's PnP has it) and so much of its depth (logarithm).
_RAY_TOLERANCE = 0.01
_DEPTH_TOLERANCE = 0.2


@dataclass(frozen=True)
class PairSimilarities:
    """What E predictions say, one row each.

    ``pairs`` (E, 2) photos i, j; ``cam2_to_cam1`` (E, 4, 4) pose of camera j in camera i's frame,
    in the prediction's own unit of length; ``log_unit_1``, ``log_unit_2`` (E,): log of the
    prediction's depth over the photo's prior depth, for photo i and for photo j; ``support`` (E,)
    in [0, 1]: share of photo j's confidence-weighted pixels that this explains; ``confidence``
    (E,): median over the pixels of both photos; ``overlap`` (E,): share of photo j's points that
    photo i has in its view; ``distance`` (E,): photo j's points from camera i, typically, in the
    prediction's unit.
    """

    pairs: Index
    cam2_to_cam1: Array
    log_unit_1: Array
    log_unit_2: Array
    support: Array
    confidence: Array
    overlap: Array
    distance: Array

    @property
    def parallax_deg(self) -> Array:
        """The baseline over the typical distance (E,), as an angle."""
        baseline = np.linalg.norm(self.cam2_to_cam1[:, :3, 3], axis=1)
        return np.asarray(np.degrees(baseline / self.distance))


def pair_similarities(
    sketches: Sequence[PairSketch],
    priors: Sequence[PhotoPrior],
    photos: Sequence[Photo],
    focals_px: Array,
) -> PairSimilarities:
    """Return what the predictions ``sketches`` (one or more) say, given all photos' priors (scale
    arbitrary) and focal lengths.

    Each prediction has a focal length of its own; its points are stretched to the photo's.
    A prediction that says nothing usable has a support of 0.
    """
    rays = np.ones((len(photos), SAMPLES, 3))
    log_depth = np.full((len(photos), SAMPLES), np.nan)
    for k, (prior, photo) in enumerate(zip(priors, photos, strict=True)):
        rays[k, :, :2] = sample_pixels(prior.confidence.shape, photo) / focals_px[k]
        grid = sample_grid(prior.confidence.shape)
        known = (prior.confidence[grid] > 0).ravel()
        log_depth[k, known] = np.log(prior.points[grid][..., 2].ravel()[known])
    parts = [
        _estimate(sketches[k : k + _CHUNK], rays, log_depth, focals_px)
        for k in range(0, len(sketches), _CHUNK)
    ]
    return PairSimilarities(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _estimate(
    sketches: Sequence[PairSketch], rays: Array, log_depth: Array, focals_px: Array
) -> tuple[NDArray[np.generic], ...]:
    """Return the fields of :class:`PairSimilarities` for some predictions."""
    pairs = np.array([(s.i, s.j) for s in sketches], np.int64)
    stretch = np.array([s.focal_px for s in sketches]) / focals_px[pairs[:, 0]]
    points_1 = np.stack([s.points_i for s in sketches]).astype(np.float64)
    points_2 = np.stack([s.points_j for s in sketches]).astype(np.float64)
    for points in (points_1, points_2):
        points[..., :2] *= stretch[:, None, None]
    confidence_1 = np.stack([s.confidence_i for s in sketches]).astype(np.float64)
    confidence_2 = np.stack([s.confidence_j for s in sketches]).astype(np.float64)
    log_1, log_2 = log_depth[pairs[:, 0]], log_depth[pairs[:, 1]]
    log_z = np.log(np.where(points_1[..., 2] > 0, points_1[..., 2], 1.0))
    known = (confidence_1 > 0) & np.isfinite(log_1)
    unit_1, _ = _robust_mean(np.where(known, log_z - log_1, 0.0), known * confidence_1)
    weight = np.where(np.isfinite(log_2), confidence_2, 0.0)
    log_2 = np.where(np.isfinite(log_2), log_2, 0.0)
    rotation, shift, unit_2 = _resection(points_2, rays[pairs[:, 1]], log_2, weight)
    off_ray, off_depth = _errors(points_2, rays[pairs[:, 1]], log_2, rotation, shift)
    off_depth = off_depth - unit_2[:, None]
    explained = (np.abs(off_ray).max(-1) < _RAY_TOLERANCE) & (np.abs(off_depth) < _DEPTH_TOLERANCE)
    total = np.maximum(confidence_2.sum(1), 1e-12)
    cam2_to_cam1 = np.tile(np.eye(4), (len(pairs), 1, 1))
    cam2_to_cam1[:, :3, :3] = rotation.transpose(0, 2, 1)
    cam2_to_cam1[:, :3, 3] = -(rotation.transpose(0, 2, 1) @ shift[:, :, None])[..., 0]
    both = np.concatenate([confidence_1, confidence_2], 1)
    return (
        pairs,
        cam2_to_cam1,
        unit_1,
        unit_2,
        (weight * explained).sum(1) / total * (known.sum(1) > SAMPLES / 10),
        np.median(both, axis=1),
        _inside(points_2, np.abs(rays[pairs[:, 0], :, :2]).max(axis=1), weight),
        _reach(points_2, weight),
    )


def _inside(points: Array, border: Array, weight: Array) -> Array:
    """Return the share (E,) of points (E, S, 3) whose x / z, y / z are within ``border`` (E, 2)."""
    within = (np.abs(points[..., :2]) < border[:, None] * points[..., 2:]).all(axis=-1)
    return np.asarray((weight * within).sum(1) / np.maximum(weight.sum(1), 1e-12))


def _resection(
    points: Array, rays: Array, log_depth: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """Return R (E, 3, 3), t (E, 3) and log scale (E,) of the cameras that see ``points``.

    ``points`` (E, S, 3) in another frame; ``rays`` (E, S, 3) with z = 1 and ``log_depth`` (E, S):
    where the camera sees them, the depths up to one scale; ``weight`` (E, S). ``R p + t`` lies on
    the ray at ``exp(log scale)`` times the depth. Registration of the two point sets first, then
    damped Newton steps on robust ray and depth errors, each relative to its own median size.
    """
    rotation, shift, unit = _register(points, rays * np.exp(log_depth)[..., None], weight)
    share = weight / np.maximum(weight.max(1, keepdims=True), 1e-12)
    for _ in range(_NEWTON_ROUNDS):
        off_ray, off_depth = _errors(points, rays, log_depth, rotation, shift)
        off_depth = off_depth - unit[:, None]
        ray_size = np.linalg.norm(off_ray, axis=-1)
        ray_sigma = 1.2 * _median(ray_size, weight > 0) + _LEAST_RAY_SIGMA
        depth_sigma = 1.5 * _median(np.abs(off_depth), weight > 0) + _LEAST_DEPTH_SIGMA
        miss = (ray_size / ray_sigma[:, None]) ** 2 + (off_depth / depth_sigma[:, None]) ** 2
        robust = share / (1 + miss / 8) ** 2
        ray_weight = robust / ray_sigma[:, None] ** 2
        depth_weight = robust / (_ALIKE_DEPTHS * depth_sigma[:, None] ** 2)
        step = _newton_step(points, rotation, shift, off_ray, off_depth, ray_weight, depth_weight)
        turn = rotation_exp(step[:, :3])
        rotation = turn @ rotation
        shift = (turn @ shift[:, :, None])[..., 0] + step[:, 3:6] * _reach(points, weight)[:, None]
        unit = unit + step[:, 6]
    return rotation, shift, unit


def _newton_step(
    points: Array,
    rotation: Array,
    shift: Array,
    off_ray: Array,
    off_depth: Array,
    ray_weight: Array,
    depth_weight: Array,
) -> Array:
    """Return steps (E, 7): rotation vector, shift over the points' typical distance, log scale."""
    local = points @ rotation.transpose(0, 2, 1) + shift[:, None]
    reach = _reach(points, ray_weight)
    z = np.where(local[..., 2] > 1e-9, local[..., 2], np.inf)
    x, y = local[..., 0] / z, local[..., 1] / z
    J = np.zeros((*x.shape, 3, 7))
    # Of x / z and y / z to a turn of the frame (cross product) and to a shift.
    J[..., 0, 0], J[..., 0, 1], J[..., 0, 2] = -x * y, 1 + x * x, -y
    J[..., 1, 0], J[..., 1, 1], J[..., 1, 2] = -1 - y * y, x * y, x
    J[..., 0, 3], J[..., 0, 5] = reach[:, None] / z, -reach[:, None] * x / z
    J[..., 1, 4], J[..., 1, 5] = reach[:, None] / z, -reach[:, None] * y / z
    # Of log depth.
    J[..., 2, 0], J[..., 2, 1] = y, -x
    J[..., 2, 5], J[..., 2, 6] = reach[:, None] / z, -1.0
    in_front = np.isfinite(z)
    J[~in_front] = 0
    r = np.concatenate([off_ray, off_depth[..., None]], -1)
    w = np.stack([ray_weight, ray_weight, depth_weight], -1) * in_front[..., None]
    count = len(points)
    flat = J.reshape(count, -1, 7)
    weighted = (flat * w.reshape(count, -1, 1)).transpose(0, 2, 1)
    normal, gradient = weighted @ flat, weighted @ r.reshape(count, -1, 1)
    size = np.einsum("ekk->ek", normal)
    damping = 1e-9 * size + 1e-12 * size.max(1, keepdims=True) + 1e-30
    normal = normal + damping[:, :, None] * np.eye(7)
    step = -np.linalg.solve(normal, gradient)[..., 0]
    # A step beyond half a radian leaves the region where the linearisation holds.
    return step * np.minimum(1.0, 0.5 / np.maximum(np.abs(step).max(1, keepdims=True), 1e-12))


def _reach(points: Array, weight: Array) -> Array:
    return _median(np.linalg.norm(points, axis=-1), weight > 0) + 1e-12


def _errors(
    points: Array, rays: Array, log_depth: Array, rotation: Array, shift: Array
) -> tuple[Array, Array]:
    """Return errors of x / z and y / z (E, S, 2) and of log depth (E, S); large behind a camera."""
    local = points @ rotation.transpose(0, 2, 1) + shift[:, None]
    in_front = local[..., 2] > 1e-9
    z = np.where(in_front, local[..., 2], 1.0)
    off_ray = np.where(in_front[..., None], local[..., :2] / z[..., None] - rays[..., :2], 10.0)
    return off_ray, np.where(in_front, np.log(z) - log_depth, 10.0)


def _register(source: Array, target: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return R, t and log scale s with ``R source + t`` near ``s target``, robust (E of them).

    Weighted Procrustes in closed form, re-weighted; errors count relative to the target's distance
    from its camera. Not :func:`pointmap.camera.fit_similarity`: E of them at once, and a scale that
    treats both sides alike (Horn 1987).
    """
    distance = np.linalg.norm(target, axis=-1)
    base = weight / np.maximum(distance, 1e-12) ** 2
    robust = np.ones_like(base)
    for _ in range(_PROCRUSTES_ROUNDS):
        w = base * robust
        w = w / np.maximum(w.sum(1, keepdims=True), 1e-30)
        mean_s, mean_t = ((w[..., None] * p).sum(1) for p in (source, target))
        s, t = source - mean_s[:, None], target - mean_t[:, None]
        u, _, vt = np.linalg.svd((t * w[..., None]).transpose(0, 2, 1) @ s)
        sign = np.ones((len(u), 3))
        sign[:, 2] = np.sign(np.linalg.det(u @ vt))
        rotation = (u * sign[:, None]) @ vt
        # Source and target are equally noisy: the ratio of their sizes, which neither shrinks.
        sizes = [(w * (p**2).sum(-1)).sum(1) for p in (s, t)]
        scale = np.sqrt(np.maximum(sizes[0], 1e-30) / np.maximum(sizes[1], 1e-30))
        fitted = (source - mean_s[:, None]) @ rotation.transpose(0, 2, 1) / scale[:, None, None]
        error = np.linalg.norm(fitted - t, axis=-1) / np.maximum(distance, 1e-12)
        width = 1.5 * _median(error, weight > 0)[:, None] + 1e-3
        robust = 1 / (1 + (error / width) ** 2) ** 2
    shift = scale[:, None] * mean_t - (rotation @ mean_s[:, :, None])[..., 0]
    return rotation, shift, np.log(scale)


def _robust_mean(values: Array, weight: Array) -> tuple[Array, Array]:
    """Return each row's mean (E,) without outliers, from its median on, and the spread (E,)."""
    centre = _median(values, weight > 0)
    for _ in range(5):
        off = np.abs(values - centre[:, None])
        spread = 1.5 * _median(off, weight > 0) + _LEAST_DEPTH_SIGMA
        w = weight / (1 + (off / (3 * spread[:, None])) ** 2) ** 2
        centre = (w * values).sum(1) / np.maximum(w.sum(1), 1e-30)
    return centre, spread


def _median(values: Array, use: NDArray[np.bool_]) -> Array:
    """Return each row's median (E,) over the entries in ``use``; 0 where there are none."""
    counts = use.sum(1)
    ordered = np.sort(np.where(use, values, np.inf), axis=1)
    middle = np.take_along_axis(ordered, np.maximum(counts - 1, 0)[:, None] // 2, 1)[:, 0]
    return np.where(counts > 0, middle, 0.0)
