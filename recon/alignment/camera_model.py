"""The camera of bundle adjustment: what it shows of points, how far off that is, and how both
change with every unknown.

A camera is ``p = R (x - c)``, ``q = p[:2] / p[2]``, ``xy = focal g(|q|) q + principal``: square
pixels, and g a radial polynomial or a fisheye's of two coefficients (:mod:`pointmap.lens`).
Its six pose parameters are ``R <- exp(w) R``, ``c <- c + v``; a focal's parameter is its logarithm.
That a camera turns about its centre, and not about the world's origin, makes long steps possible
in long scenes: as they bend, cameras far from the origin turn and move, and see the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pointmap.camera import Array, Index, Mask, rotation_exp
from recon.alignment import loops

POSE = 6
"""Unknowns of a camera's pose."""
# Of the depths that are known of its points (their scale); of a lens: the logarithm of its focal
# length and k1; where more is asked for k2 and the principal point, too.
_SCALE, _LENS, _RICH_LENS = 1, 2, 5
# Residual, in sigmas, of a point behind its camera: far beyond any robust scale, yet finite.
_BEHIND = 1e3
# How many sigmas from 0 a k1 is still drawn there in earnest.
_K1_TAIL = 20.0


@dataclass(frozen=True)
class RichLenses:
    """What lenses (G,) have beyond a focal length and k1: whether each is a ``fisheye``, its
    ``k2``, drawn to 0 with ``k2_sigma``, and how far principal points may be from the middle,
    ``centre_sigma_px``. A sigma of 0 holds them. ``off_px`` (G, 2): how far those that cameras were
    given are off it already (None: not at all).
    """

    fisheye: Mask
    k2: Array
    k2_sigma: Array
    centre_sigma_px: Array
    off_px: Array | None = None


@dataclass(frozen=True)
class BundleProblem:
    """Cameras, points and the observations that tie them.

    ``cam_to_world`` (C, 4, 4); ``principal`` (C, 2) px; ``focals_px`` (G,), ``focal_index`` (C,)
    into it, the lens of each camera; ``points`` (P, 3) world; one row per observation in
    ``camera_index``, ``point_index`` (M,), ``xy`` (M, 2) px and ``sigma_px`` (M,). Every point
    should have two observations or more.

    ``fixed_pose`` (C,) and ``fixed_focal`` (G,) come back bit-equal. ``focal_prior_px`` (G,) with
    ``focal_log_sigma`` (G,) (inf: none) pulls the focals. ``k1`` (G,) goes with each focal;
    ``k1_sigma`` (G,) pulls it to 0 (less so when many sigmas off), and a sigma of 0 holds it
    bit-equal. ``known_z`` (M,): how far along z something else says that each point is from its
    camera, 0 where nothing does, off by ``known_z_log_sigma`` in its logarithm and, all of a
    camera's, by one factor, which is found. ``more`` that is asked of the lenses, if anything: with
    it they may be fisheyes, and have a second coefficient and a principal point that is off by the
    same in all photos of a lens. With no fixed pose, the first camera stays where it is
    and the scale is held by one coordinate of the camera farthest from it.
    """

    cam_to_world: Array
    principal: Array
    focals_px: Array
    focal_index: Index
    points: Array
    camera_index: Index
    point_index: Index
    xy: Array
    sigma_px: Array
    fixed_pose: Mask
    fixed_focal: Mask
    focal_prior_px: Array
    focal_log_sigma: Array
    k1: Array
    k1_sigma: Array
    known_z: Array | None = None
    known_z_log_sigma: float = 1.0
    more: RichLenses | None = None

    def of_observations(self, rows: slice | Index) -> BundleProblem:
        """Return the problem with some of its observations alone, in that order."""
        return replace(
            self,
            camera_index=self.camera_index[rows],
            point_index=self.point_index[rows],
            xy=self.xy[rows],
            sigma_px=self.sigma_px[rows],
            known_z=None if self.known_z is None else self.known_z[rows],
        )

    @property
    def own_columns(self) -> int:
        """Unknowns of each camera by itself."""
        return POSE if self.known_z is None else POSE + _SCALE

    @property
    def lens_columns(self) -> int:
        """Unknowns of each lens."""
        return _LENS if self.more is None else _RICH_LENS

    @property
    def held_lenses(self) -> Mask:
        """Which unknowns of the lenses (G, 2 or 5) stay as they are."""
        held = [self.fixed_focal, self.k1_sigma == 0]
        if self.more is not None:
            centre = self.more.centre_sigma_px == 0
            held += [self.more.k2_sigma == 0, centre, centre]
        return np.stack(held, axis=1)


@dataclass(frozen=True)
class BundleOptions:
    """How to minimise. ``loss_scale`` is in sigmas: where the loss (Cauchy) leaves the square."""

    loss_scale: float = 2.0
    damping: float = 1e-4
    """Of the first step, as a share of the diagonal: next to plain Gauss-Newton, as the start is
    near the minimum. The longer a walk, the less of it holds up its bending as a whole."""
    max_iterations: int = 50
    tolerance: float = 1e-7
    """Stop when an accepted step lowers the cost by less than this fraction."""
    least_motion: float = 1e-9
    """Stop when a step turns no camera by more, in radians, nor moves one by more of the scene's
    extent, nor changes a lens by more: what is left are points that don't fit."""


@dataclass(frozen=True)
class State:
    """``rotation`` (C, 3, 3) from the world to the camera, ``centre`` (C, 3) in the world;
    ``log_scale`` (C,): what known depths of each camera are to be multiplied by; of each lens
    ``log_focal``, ``k1``, ``k2`` (G,) and how far its principal point is moved, ``shift_px`` (G,
    2).
    """

    rotation: Array
    centre: Array
    log_focal: Array
    k1: Array
    points: Array
    log_scale: Array
    k2: Array
    shift_px: Array

    @staticmethod
    def first(problem: BundleProblem) -> State:
        """Return where a problem starts from."""
        lenses = len(problem.focals_px)
        return State(
            problem.cam_to_world[:, :3, :3].transpose(0, 2, 1).copy(),
            problem.cam_to_world[:, :3, 3].copy(),
            np.log(problem.focals_px),
            problem.k1.copy(),
            problem.points.copy(),
            np.zeros(len(problem.cam_to_world)),
            np.zeros(lenses) if problem.more is None else problem.more.k2.copy(),
            np.zeros((lenses, 2)),
        )

    def moved(self, problem: BundleProblem, camera: Array, points: Array) -> State:
        """Return the state after a step of the cameras' unknowns (D,) and of the points (P, 3)."""
        own, columns = problem.own_columns, problem.lens_columns
        cameras = len(self.rotation)
        pose = camera[: own * cameras].reshape(cameras, own)
        lens = camera[own * cameras :].reshape(-1, columns)
        k2, shift = self.k2, self.shift_px
        if problem.more is not None:
            k2, shift = k2 + np.clip(lens[:, 2], -0.1, 0.1), shift + lens[:, 3:]
        return State(
            rotation_exp(pose[:, :3]) @ self.rotation,
            self.centre + pose[:, 3:POSE],
            self.log_focal + np.clip(lens[:, 0], -0.5, 0.5),
            self.k1 + np.clip(lens[:, 1], -0.1, 0.1),
            self.points + points,
            self.log_scale if own == POSE else self.log_scale + pose[:, POSE],
            k2,
            shift,
        )


@dataclass(frozen=True)
class Linear:
    """Weighted Jacobians to point (3 columns) and camera (its pose and its lens), and
    residuals (1), side by side: ``joined`` (M, R, 3 + C + 1), R = 2 for x and y, or 3 with depths.
    """

    joined: Array

    @property
    def point(self) -> Array:
        """Jacobians to the point (M, R, 3)."""
        return self.joined[:, :, :3]

    @property
    def camera(self) -> Array:
        """Jacobians to the camera (M, R, C)."""
        return self.joined[:, :, 3:-1]

    @property
    def residual(self) -> Array:
        """Residuals (M, R)."""
        return self.joined[:, :, -1]


def residuals(problem: BundleProblem, state: State) -> tuple[Array, Mask]:
    """Return residuals in sigmas (M, 2) and which points lie in front of their camera (M,)."""
    pixels = loops.shown(*_observed(problem, state))
    in_front = np.isfinite(pixels[:, 0])
    expected = problem.principal + state.shift_px[problem.focal_index]
    pixels += expected[problem.camera_index]
    residual = (pixels - problem.xy) / problem.sigma_px[:, None]
    return np.where(in_front[:, None], residual, _BEHIND), in_front


def _observed(problem: BundleProblem, state: State) -> tuple[Array | Index | Mask, ...]:
    """Return what the loops over observations are given."""
    lenses = len(problem.focals_px)
    fisheye = np.zeros(lenses, bool) if problem.more is None else problem.more.fisheye
    return (
        *(np.ascontiguousarray(i, np.int64) for i in (problem.camera_index, problem.point_index)),
        *(np.ascontiguousarray(v) for v in (state.rotation, state.centre, state.points)),
        np.ascontiguousarray(problem.focal_index, np.int64),
        *(np.ascontiguousarray(v) for v in (np.exp(state.log_focal), state.k1, state.k2)),
        np.ascontiguousarray(fisheye),
    )


def _z_residuals(problem: BundleProblem, state: State) -> tuple[Array, Array]:
    """Return how far depths are from the known ones, in sigmas (M,), 0 where none is known or the
    point lies behind its camera; and 1 / (z sigma) (M,), what they change by with z.
    """
    assert problem.known_z is not None
    z = loops.depths(*_observed(problem, state)[:5])
    told = (problem.known_z > 0) & (z > 1e-9)
    ratio = np.where(told, z, 1.0) / np.where(told, problem.known_z, 1.0)
    slope = np.where(told, 1 / np.where(told, z, 1.0), 0.0) / problem.known_z_log_sigma
    off = np.where(told, np.log(ratio) - state.log_scale[problem.camera_index], 0.0)
    return off / problem.known_z_log_sigma, slope


def robust_cost(problem: BundleProblem, state: State, options: BundleOptions) -> float:
    """Return half the robust squared residuals in sigmas plus the priors' terms."""
    squared = _squared(residuals(problem, state)[0])
    prior = (_focal_prior(problem, state) ** 2).sum() + _k1_prior(problem, state)[0].sum()
    if problem.more is not None:
        weights, values = _rich_prior(problem, state)
        prior += (weights * values**2).sum()
    if problem.known_z is not None:
        prior += _loss(_z_residuals(problem, state)[0] ** 2, options)[0].sum()
    return 0.5 * float(_loss(squared, options)[0].sum() + prior)


def _loss(squared: Array, options: BundleOptions) -> tuple[Array, Array]:
    """Return Cauchy's loss and its derivative, the IRLS weight, of squared residuals."""
    scale2 = options.loss_scale**2
    return scale2 * np.log1p(squared / scale2), 1 / (1 + squared / scale2)


def _focal_prior(problem: BundleProblem, state: State) -> Array:
    """Return the priors' residuals (G,) in sigmas; 0 where there is none or the focal is fixed."""
    held = problem.fixed_focal | ~np.isfinite(problem.focal_log_sigma)
    sigma = np.where(held, 1.0, problem.focal_log_sigma)
    return np.where(held, 0.0, (state.log_focal - np.log(problem.focal_prior_px)) / sigma)


def _k1_prior(problem: BundleProblem, state: State) -> tuple[Array, Array]:
    """Return each k1's pull to 0 (G,), squared and in sigmas, and its weight (G,), 0 where held.

    Geman and McClure's loss: what is many sigmas off is a lens that bends, and is let go.
    """
    sigma = np.where(problem.k1_sigma == 0, np.inf, problem.k1_sigma)
    squared = (state.k1 / (_K1_TAIL * sigma)) ** 2
    return _K1_TAIL**2 * squared / (1 + squared), 1 / (sigma * (1 + squared)) ** 2


def _rich_prior(problem: BundleProblem, state: State) -> tuple[Array, Array]:
    """Return the weights (G, 3) that draw k2 and how far the principal point is off to 0, and
    these.
    """
    assert problem.more is not None
    sigmas = np.stack([problem.more.k2_sigma, *2 * [problem.more.centre_sigma_px]], axis=1)
    weights = np.where(sigmas == 0, 0.0, 1 / np.where(sigmas == 0, 1.0, sigmas) ** 2)
    off = state.shift_px if problem.more.off_px is None else problem.more.off_px + state.shift_px
    return weights, np.column_stack([state.k2, off])


def lens_priors(problem: BundleProblem, state: State) -> tuple[Array, Array]:
    """Return the priors' weights on the lenses' unknowns (G, 2 or 5) and their gradients."""
    held = problem.fixed_focal | ~np.isfinite(problem.focal_log_sigma)
    focal = np.where(held, 0.0, 1 / np.where(held, 1.0, problem.focal_log_sigma))
    k1 = _k1_prior(problem, state)[1]
    weights = np.stack([focal**2, k1], axis=1)
    gradients = np.stack([focal * _focal_prior(problem, state), k1 * state.k1], axis=1)
    if problem.more is None:
        return weights, gradients
    more, values = _rich_prior(problem, state)
    return np.hstack([weights, more]), np.hstack([gradients, more * values])


def linearise(problem: BundleProblem, state: State, options: BundleOptions) -> Linear:
    """Return the weighted residuals and Jacobians at a state."""
    residual, in_front = residuals(problem, state)
    trust = np.where(in_front, np.sqrt(_loss(_squared(residual), options)[1]), 0.0)
    rows = 2 if problem.known_z is None else 3
    width = problem.own_columns + problem.lens_columns
    joined = np.empty((len(residual), rows, 3 + width + 1))
    joined[:, :2, -1] = residual * trust[:, None]
    along_z = np.zeros(0)
    if problem.known_z is not None:
        off, slope = _z_residuals(problem, state)
        root = np.sqrt(_loss(off**2, options)[1])
        along_z = root * slope
        joined[:, 2, -1] = off * root
    observed = _observed(problem, state)
    loops.jacobians(*observed, trust / problem.sigma_px, along_z, problem.own_columns, joined)
    if problem.known_z is not None:
        scaled = np.where(along_z > 0, -root / problem.known_z_log_sigma, 0.0)
        joined[:, 2, 3 + POSE] = scaled
    return Linear(joined)


def _squared(residual: Array) -> Array:
    return np.asarray(residual[:, 0] ** 2 + residual[:, 1] ** 2)


def fixed_pose_columns(problem: BundleProblem) -> Mask:
    """Return which unknowns of each camera (C, 6 or 7) stand still: given poses and the gauge."""
    fixed = np.repeat(problem.fixed_pose[:, None], problem.own_columns, axis=1)
    anchors = np.flatnonzero(problem.fixed_pose)
    if problem.known_z is not None:
        told: Mask = np.zeros(len(fixed), bool)
        told[problem.camera_index[problem.known_z > 0]] = True
        fixed[:, POSE] = ~told
    if len(anchors) >= 2 or len(problem.cam_to_world) == 0:
        return fixed
    anchor = int(anchors[0]) if len(anchors) else 0
    fixed[anchor, :POSE] = True
    baseline = problem.cam_to_world[:, :3, 3] - problem.cam_to_world[anchor, :3, 3]
    far = int(np.argmax(np.linalg.norm(baseline, axis=1)))
    if far != anchor and len(anchors) == 0:
        # Scaling the scene about the anchor moves this coordinate the most.
        fixed[far, 3 + int(np.argmax(np.abs(baseline[far])))] = True
    return fixed
