"""Bundle adjustment: reprojection errors minimised over poses, shared focals and points.

Levenberg-Marquardt on the Schur complement (Triggs et al. 2000, "Bundle adjustment: a modern
synthesis", section 6): the points are eliminated block by block, the cameras' reduced system is
solved by a sparse factorisation, of few cameras by a dense one
(:mod:`recon.alignment.positive_system`). Everything is vectorised over observations, so that a
dozen photos take a second.

A camera is ``p = R (x - c)``, ``q = p[:2] / p[2]``, ``xy = focal (1 + k1 |q|^2) q + principal``:
square pixels, principal point as given (the photo's centre), one coefficient of radial distortion.
Its six pose parameters are ``R <- exp(w) R``, ``c <- c + v``; a focal's parameter is its logarithm.
That a camera turns about its centre, and not about the world's origin, makes long steps possible
in long scenes: as they bend, cameras far from the origin turn and move, and see the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import sparse

from pointmap.camera import Array, Index, Mask, rotation_exp
from recon.alignment.positive_system import solve_positive

# Residual, in sigmas, of a point behind its camera: far beyond any robust scale, yet finite.
_BEHIND = 1e3
# How many sigmas from 0 a k1 is still drawn there in earnest.
_K1_TAIL = 20.0
# Unknowns of a camera: its pose; then the logarithm of its focal length, and k1.
# Unknowns of a camera's pose, of the depths that are known of its points (their scale), of a lens.
_POSE, _SCALE, _LENS = 6, 1, 2


@dataclass(frozen=True)
class BundleProblem:
    """Cameras, points and the observations that tie them.

    ``cam_to_world`` (C, 4, 4); ``principal`` (C, 2) px; ``focals_px`` (G,), ``focal_index`` (C,)
    into it; ``points`` (P, 3) world; one row per observation in ``camera_index``, ``point_index``
    (M,), ``xy`` (M, 2) px and ``sigma_px`` (M,). Every point should have two observations or more.

    ``fixed_pose`` (C,) and ``fixed_focal`` (G,) come back bit-equal. ``focal_prior_px`` (G,) with
    ``focal_log_sigma`` (G,) (inf: none) pulls the focals. ``k1`` (G,) goes with each focal;
    ``k1_sigma`` (G,) pulls it to 0 (less so when many sigmas off), and a sigma of 0 holds it
    bit-equal. ``known_z`` (M,): how far along z something else says that each point is from its
    camera, 0 where nothing does, off by ``known_z_log_sigma`` in its logarithm and, all of a
    camera's, by one factor, which is found. With no fixed pose, the first camera stays where it is
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

    @property
    def own_columns(self) -> int:
        """Unknowns of each camera by itself."""
        return _POSE if self.known_z is None else _POSE + _SCALE


@dataclass(frozen=True)
class BundleOptions:
    """How to minimise. ``loss_scale`` is in sigmas: where the robust loss leaves the square."""

    loss: Literal["square", "huber", "cauchy"] = "cauchy"
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
class BundleResult:
    """The minimum: ``cam_to_world`` (C, 4, 4), ``focals_px``, ``k1`` (G,), ``points`` (P, 3).

    ``residuals_px`` (M, 2) projected minus observed (NaN for a point behind its camera);
    ``cost`` half the sum of robust squared residuals in sigmas plus the priors' terms.
    """

    cam_to_world: Array
    focals_px: Array
    k1: Array
    points: Array
    residuals_px: Array
    cost: float
    iterations: int
    converged: bool


@dataclass(frozen=True)
class _State:
    """``rotation`` (C, 3, 3) from the world to the camera, ``centre`` (C, 3) in the world;
    ``log_scale`` (C,): what known depths of each camera are to be multiplied by.
    """

    rotation: Array
    centre: Array
    log_focal: Array
    k1: Array
    points: Array
    log_scale: Array


@dataclass(frozen=True)
class _Linear:
    """Weighted Jacobians to point (3 columns) and camera (8, or 9 with depths that are known), and
    residuals (1), side by side: ``joined`` (M, R, 12 or 13), R = 2 for x and y, or 3 with depths.
    """

    joined: Array

    @property
    def point(self) -> Array:
        """Jacobians to the point (M, R, 3)."""
        return self.joined[:, :, :3]

    @property
    def camera(self) -> Array:
        """Jacobians to the camera (M, R, 8 or 9)."""
        return self.joined[:, :, 3:-1]

    @property
    def residual(self) -> Array:
        """Residuals (M, R)."""
        return self.joined[:, :, -1]


def bundle_adjust(problem: BundleProblem, options: BundleOptions | None = None) -> BundleResult:
    """Return the robust least-squares cameras, focals and points nearest to the given ones.

    A degenerate problem (no observations, or a step that cannot be found) comes back as it went
    in, with ``converged`` False. Deterministic.
    """
    options = options or BundleOptions()
    order = np.lexsort((problem.focal_index[problem.camera_index], problem.point_index))
    sorted_problem = replace(
        problem,
        camera_index=problem.camera_index[order],
        point_index=problem.point_index[order],
        xy=problem.xy[order],
        sigma_px=problem.sigma_px[order],
        known_z=None if problem.known_z is None else problem.known_z[order],
    )
    state, cost, iterations, converged = _minimise(sorted_problem, options)
    residuals = np.full((len(order), 2), np.nan)
    pixels, in_front = _residuals(sorted_problem, state)
    residuals[order[in_front]] = pixels[in_front] * sorted_problem.sigma_px[in_front, None]
    return BundleResult(
        _cam_to_world(problem, state),
        np.where(problem.fixed_focal, problem.focals_px, np.exp(state.log_focal)),
        state.k1,
        state.points,
        residuals,
        cost,
        iterations,
        converged,
    )


def _minimise(problem: BundleProblem, options: BundleOptions) -> tuple[_State, float, int, bool]:
    state = _State(
        problem.cam_to_world[:, :3, :3].transpose(0, 2, 1).copy(),
        problem.cam_to_world[:, :3, 3].copy(),
        np.log(problem.focals_px),
        problem.k1.copy(),
        problem.points.copy(),
        np.zeros(len(problem.cam_to_world)),
    )
    cost = _cost(problem, state, options)
    if len(problem.xy) == 0:
        return state, cost, 0, False
    system = _Schur(problem)
    damping, growth = options.damping, 2.0
    for iteration in range(1, options.max_iterations + 1):
        linear = _linearise(problem, state, options)
        system.build(linear, state)
        accepted = False
        while damping < 1e12:
            step = system.solve(damping)
            if step is not None:
                trial = _step(problem, state, *step[:2])
                trial_cost = _cost(problem, trial, options)
                # Nielsen's rule: trust the model as far as it predicted the decrease.
                gain = (cost - trial_cost) / max(step[2], 1e-300)
                if trial_cost < cost:
                    motion = _motion(problem, state, step[0])
                    damping *= max(0.1, 1 - (2 * gain - 1) ** 3)
                    damping, growth, accepted = max(damping, 1e-12), 2.0, True
                    break
            damping, growth = damping * growth, growth * 2
        if not accepted or step is None:
            return state, cost, iteration, iteration > 1
        decrease = (cost - trial_cost) / max(cost, 1e-300)
        state, cost = trial, trial_cost
        settled = decrease < options.tolerance or motion < options.least_motion
        if settled or cost < 1e-20 * len(problem.xy):
            return state, cost, iteration, True
    return state, cost, options.max_iterations, False


def _residuals(problem: BundleProblem, state: _State) -> tuple[Array, Mask]:
    """Return residuals in sigmas (M, 2) and which points lie in front of their camera (M,)."""
    cam = problem.camera_index
    p = _rotate(state.rotation[cam], state.points[problem.point_index] - state.centre[cam])
    in_front = p[:, 2] > 1e-9
    z = np.where(in_front, p[:, 2], 1.0)
    group = problem.focal_index[cam]
    flat = p[:, :2] / z[:, None]
    bend = 1 + state.k1[group] * (flat**2).sum(axis=1)
    pixels = (np.exp(state.log_focal)[group] * bend)[:, None] * flat + problem.principal[cam]
    residual = (pixels - problem.xy) / problem.sigma_px[:, None]
    return np.where(in_front[:, None], residual, _BEHIND), in_front


def _z_residuals(problem: BundleProblem, state: _State) -> tuple[Array, Array]:
    """Return how far depths are from the known ones, in sigmas (M,), 0 where none is known or the
    point lies behind its camera; and 1 / (z sigma) (M,), what they change by with z.
    """
    assert problem.known_z is not None
    cam = problem.camera_index
    z = _rotate(state.rotation[cam], state.points[problem.point_index] - state.centre[cam])[:, 2]
    told = (problem.known_z > 0) & (z > 1e-9)
    ratio = np.where(told, z, 1.0) / np.where(told, problem.known_z, 1.0)
    slope = np.where(told, 1 / np.where(told, z, 1.0), 0.0) / problem.known_z_log_sigma
    off = np.where(told, np.log(ratio) - state.log_scale[cam], 0.0)
    return off / problem.known_z_log_sigma, slope


def _cost(problem: BundleProblem, state: _State, options: BundleOptions) -> float:
    squared = (_residuals(problem, state)[0] ** 2).sum(axis=1)
    prior = (_focal_prior(problem, state) ** 2).sum() + _k1_prior(problem, state)[0].sum()
    if problem.known_z is not None:
        prior += _loss(_z_residuals(problem, state)[0] ** 2, options)[0].sum()
    return 0.5 * float(_loss(squared, options)[0].sum() + prior)


def _loss(squared: Array, options: BundleOptions) -> tuple[Array, Array]:
    """Return the loss and its derivative, the IRLS weight, of squared residuals."""
    scale2 = options.loss_scale**2
    if options.loss == "cauchy":
        return scale2 * np.log1p(squared / scale2), 1 / (1 + squared / scale2)
    if options.loss == "huber":
        root = np.sqrt(np.maximum(squared, scale2))
        outside = 2 * options.loss_scale * root - scale2
        return np.where(squared > scale2, outside, squared), options.loss_scale / root
    return squared, np.ones_like(squared)


def _focal_prior(problem: BundleProblem, state: _State) -> Array:
    """Return the priors' residuals (G,) in sigmas; 0 where there is none or the focal is fixed."""
    held = problem.fixed_focal | ~np.isfinite(problem.focal_log_sigma)
    sigma = np.where(held, 1.0, problem.focal_log_sigma)
    return np.where(held, 0.0, (state.log_focal - np.log(problem.focal_prior_px)) / sigma)


def _k1_prior(problem: BundleProblem, state: _State) -> tuple[Array, Array]:
    """Return each k1's pull to 0 (G,), squared and in sigmas, and its weight (G,), 0 where held.

    Geman and McClure's loss: what is many sigmas off is a lens that bends, and is let go.
    """
    sigma = np.where(problem.k1_sigma == 0, np.inf, problem.k1_sigma)
    squared = (state.k1 / (_K1_TAIL * sigma)) ** 2
    return _K1_TAIL**2 * squared / (1 + squared), 1 / (sigma * (1 + squared)) ** 2


def _linearise(problem: BundleProblem, state: _State, options: BundleOptions) -> _Linear:
    cam = problem.camera_index
    rotation = state.rotation[cam]
    p = _rotate(rotation, state.points[problem.point_index] - state.centre[cam])
    residual, in_front = _residuals(problem, state)
    weight = _loss((residual**2).sum(axis=1), options)[1]
    scale = np.where(in_front, np.sqrt(weight), 0.0)
    z = np.where(in_front, p[:, 2], 1.0)
    group = problem.focal_index[cam]
    k1 = state.k1[group]
    flat = p[:, :2] / z[:, None]
    square = (flat**2).sum(axis=1)
    slope = scale * np.exp(state.log_focal)[group] / problem.sigma_px
    # d (1 + k1 |q|^2) q / dq = (1 + k1 |q|^2) I + 2 k1 q q^T, and q = p[:2] / p[2].
    to_flat = 2 * (k1 * slope)[:, None, None] * flat[:, :, None] * flat[:, None, :]
    to_flat[:, [0, 1], [0, 1]] += (slope * (1 + k1 * square))[:, None]
    to_frame = np.empty((len(cam), 2, 3))
    to_frame[:, :, :2] = to_flat / z[:, None, None]
    to_frame[:, :, 2] = -(to_frame[:, :, :2] @ flat[:, :, None])[:, :, 0]
    rows = 2
    if problem.known_z is not None:
        rows = 3
        off, along_z = _z_residuals(problem, state)
        root = np.sqrt(_loss(off**2, options)[1])
        to_frame = np.concatenate([to_frame, np.zeros((len(cam), 1, 3))], axis=1)
        to_frame[:, 2, 2] = root * along_z
    lens = 3 + problem.own_columns
    joined = np.zeros((len(cam), rows, lens + _LENS + 1))
    joined[:, :, :3] = to_frame @ rotation
    # g . (w x p) = w . (p x g), with g a row of to_frame.
    joined[:, :, 3:6] = np.cross(p[:, None], to_frame)
    joined[:, :, 6:9] = -joined[:, :, :3]
    joined[:, :2, lens] = (slope * (1 + k1 * square))[:, None] * flat
    joined[:, :2, lens + 1] = (slope * square)[:, None] * flat
    joined[:, :2, -1] = residual * scale[:, None]
    if problem.known_z is not None:
        joined[:, 2, 3 + _POSE] = np.where(along_z > 0, -root / problem.known_z_log_sigma, 0.0)
        joined[:, 2, -1] = off * root
    return _Linear(joined)


class _Schur:
    """The normal equations with the points eliminated; structure once, values per step.

    Unknowns of the cameras: six per pose, and one of the depths known there, if any are; then two
    per focal (its logarithm, and k1). Everything is kept as sparse blocks: two cameras are coupled
    only where they share a point, or a focal.
    """

    def __init__(self, problem: BundleProblem) -> None:
        self.problem = problem
        cameras, groups = len(problem.cam_to_world), len(problem.focals_px)
        self.own = own = problem.own_columns
        self.size = own * cameras + _LENS * groups
        pose_columns = np.arange(own * cameras).reshape(cameras, own)
        lens_columns = (own * cameras + np.arange(_LENS * groups)).reshape(groups, _LENS)
        self.columns = np.concatenate([pose_columns, lens_columns[problem.focal_index]], axis=1)
        held = np.stack([problem.fixed_focal, problem.k1_sigma == 0], axis=1)
        self.free = ~np.concatenate([_fixed_pose_columns(problem).ravel(), held.ravel()])
        counts = np.bincount(problem.point_index, minlength=len(problem.points))
        self.seen = np.flatnonzero(counts)
        self.row_ends = np.concatenate([[0], np.cumsum(counts[self.seen])])
        self.row = np.repeat(np.arange(len(self.seen)), counts[self.seen])
        # Within a point, observations are sorted by focal: each (point, focal) is one block.
        group = problem.focal_index[problem.camera_index]
        changes = (np.diff(self.row) > 0) | (np.diff(group) != 0)
        self.lens_starts = np.concatenate([[0], 1 + np.flatnonzero(changes)])
        self.lens_group = group[self.lens_starts]
        self.lens_ends = np.searchsorted(self.lens_starts, self.row_ends)
        self.by_camera = np.argsort(problem.camera_index, kind="stable")
        self.camera_ends = np.cumsum(np.bincount(problem.camera_index, minlength=cameras))
        every = np.arange(len(problem.xy))
        self.add_by_point = sparse.csr_array(
            (np.ones(len(every)), every, self.row_ends), shape=(len(self.seen), len(every))
        )

    def build(self, linear: _Linear, state: _State) -> None:
        """Form Hessian blocks and gradients of both kinds of parameters."""
        blocks, gradients = self._camera_blocks(linear)
        own = self.own
        self.pose_hessian, self.pose_lens = blocks[:, :own, :own], blocks[:, :own, own:]
        self.lens_hessian = np.zeros((len(self.problem.focals_px), _LENS, _LENS))
        np.add.at(self.lens_hessian, self.problem.focal_index, blocks[:, own:, own:])
        self.gradient = np.zeros(self.size)
        np.add.at(self.gradient, self.columns, gradients)
        self._add_priors(state)
        products = linear.point.transpose(0, 2, 1) @ linear.joined
        sums = self.add_by_point @ products.reshape(len(products), -1)
        sums = sums.reshape(-1, *products.shape[1:])
        self.point_hessian, self.point_gradient = sums[:, :, :3], sums[:, :, -1]
        self.cross = products[:, :, 3:-1]

    def _camera_blocks(self, linear: _Linear) -> tuple[Array, Array]:
        """Return each camera's Hessian block (C, 8, 8) and gradient (C, 8); 9 with known depths."""
        rows = linear.joined[self.by_camera, :, 3:]
        width = self.own + _LENS
        squares = np.zeros((len(self.columns), width + 1, width + 1))
        start = 0
        for camera, end in enumerate(self.camera_ends.tolist()):
            mine = rows[start:end].reshape(-1, width + 1)
            squares[camera] = mine.T @ mine
            start = end
        return squares[:, :width, :width], squares[:, :width, width]

    def _add_priors(self, state: _State) -> None:
        problem = self.problem
        held = problem.fixed_focal | ~np.isfinite(problem.focal_log_sigma)
        focal = np.where(held, 0.0, 1 / np.where(held, 1.0, problem.focal_log_sigma))
        k1 = _k1_prior(problem, state)[1]
        self.lens_hessian[:, 0, 0] += focal**2
        self.lens_hessian[:, 1, 1] += k1
        lens = self.gradient[self.size - self.lens_hessian.shape[0] * _LENS :].reshape(-1, _LENS)
        lens += np.stack([focal * _focal_prior(problem, state), k1 * state.k1], axis=1)

    def solve(self, damping: float) -> tuple[Array, Array, float] | None:
        """Return camera step (D,), point step (P, 3) and the decrease the model promises."""
        V = self.point_hessian.copy()
        diagonal = np.einsum("pii->pi", V)
        point_damping = damping * diagonal + 1e-12 * diagonal.sum(axis=1, keepdims=True) + 1e-30
        diagonal += point_damping
        try:
            root_inverse = np.linalg.inv(np.linalg.cholesky(V))
        except np.linalg.LinAlgError:
            return None
        E = root_inverse[self.row] @ self.cross
        g = (root_inverse @ self.point_gradient[:, :, None])[:, :, 0].ravel()
        to_pose, to_lens = self._to_points(E)
        from_pose, from_lens = to_pose.T, to_lens.T
        b = self.gradient - np.concatenate([from_pose @ g, from_lens @ g])
        S, camera_damping = self._reduced(
            from_pose @ to_pose, from_pose @ to_lens, from_lens @ to_lens, damping
        )
        camera = solve_positive(S, np.where(self.free, -b, 0.0))
        if camera is None:
            return None
        camera = np.where(self.free, camera, 0.0)
        poses = self.size - to_lens.shape[1]
        v = -(g + to_pose @ camera[:poses] + to_lens @ camera[poses:]).reshape(-1, 3)
        point = np.zeros_like(self.problem.points)
        point[self.seen] = (root_inverse.transpose(0, 2, 1) @ v[:, :, None])[:, :, 0]
        moved = point[self.seen]
        promise = -(self.gradient @ camera) - float((self.point_gradient * moved).sum())
        promise += camera @ (camera_damping * camera) + float((point_damping * moved**2).sum())
        return camera, point, float(0.5 * promise)

    def _to_points(self, E: Array) -> tuple[sparse.bsr_array, sparse.bsr_array]:
        """Return what ties points to poses (3 P', 6 C) and to lenses (3 P', 2 G), of blocks ``E``
        (M, 3, 8).
        """
        height, lenses = 3 * len(self.seen), self.lens_hessian.shape[0]
        pose_blocks = np.ascontiguousarray(E[:, :, : self.own])
        lens_blocks = np.add.reduceat(E[:, :, self.own :], self.lens_starts)
        to_pose = sparse.bsr_array(
            (pose_blocks, self.problem.camera_index, self.row_ends),
            shape=(height, self.size - _LENS * lenses),
        )
        to_lens = sparse.bsr_array(
            (lens_blocks, self.lens_group, self.lens_ends), shape=(height, _LENS * lenses)
        )
        return to_pose, to_lens

    def _reduced(
        self,
        poses_share: sparse.bsr_array,
        both_share: sparse.bsr_array,
        lenses_share: sparse.bsr_array,
        damping: float,
    ) -> tuple[sparse.csc_array, Array]:
        """Return the cameras' damped system (D, D), held unknowns apart, and the damping (D,).

        ``poses_share`` (6 C, 6 C), ``both_share`` (6 C, 2 G), ``lenses_share`` (2 G, 2 G): what the
        points take from it.
        """
        cameras, groups = len(self.pose_hessian), len(self.lens_hessian)
        each, every = np.arange(cameras + 1), np.arange(groups + 1)
        poses = sparse.bsr_array(
            (self.pose_hessian, each[:-1], each), shape=2 * (self.own * cameras,)
        )
        lenses = sparse.bsr_array((self.lens_hessian, every[:-1], every), shape=2 * (2 * groups,))
        both = sparse.bsr_array(
            (self.pose_lens, self.problem.focal_index, each), shape=(self.own * cameras, 2 * groups)
        )
        added = damping * np.maximum(np.concatenate([poses.diagonal(), lenses.diagonal()]), 1e-12)
        both = both - both_share
        S = sparse.block_array(
            [[poses - poses_share, both], [both.T, lenses - lenses_share]], format="csc"
        )
        S.data *= self.free[S.indices] & np.repeat(self.free, np.diff(S.indptr))
        S = S + sparse.diags_array(np.where(self.free, added, 1.0), format="csc")
        return S, added


def _fixed_pose_columns(problem: BundleProblem) -> Mask:
    """Return which unknowns of each camera (C, 6 or 7) stand still: given poses and the gauge."""
    fixed = np.repeat(problem.fixed_pose[:, None], problem.own_columns, axis=1)
    anchors = np.flatnonzero(problem.fixed_pose)
    if problem.known_z is not None:
        told: Mask = np.zeros(len(fixed), bool)
        told[problem.camera_index[problem.known_z > 0]] = True
        fixed[:, _POSE] = ~told
    if len(anchors) >= 2 or len(problem.cam_to_world) == 0:
        return fixed
    anchor = int(anchors[0]) if len(anchors) else 0
    fixed[anchor, :_POSE] = True
    baseline = problem.cam_to_world[:, :3, 3] - problem.cam_to_world[anchor, :3, 3]
    far = int(np.argmax(np.linalg.norm(baseline, axis=1)))
    if far != anchor and len(anchors) == 0:
        # Scaling the scene about the anchor moves this coordinate the most.
        fixed[far, 3 + int(np.argmax(np.abs(baseline[far])))] = True
    return fixed


def _step(problem: BundleProblem, state: _State, camera: Array, points: Array) -> _State:
    cameras = len(state.rotation)
    own = problem.own_columns
    pose = camera[: own * cameras].reshape(cameras, own)
    log_focal, k1 = camera[own * cameras :].reshape(-1, _LENS).T
    log_scale = state.log_scale if own == _POSE else state.log_scale + pose[:, _POSE]
    return _State(
        rotation_exp(pose[:, :3]) @ state.rotation,
        state.centre + pose[:, 3:_POSE],
        state.log_focal + np.clip(log_focal, -0.5, 0.5),
        state.k1 + np.clip(k1, -0.1, 0.1),
        state.points + points,
        log_scale,
    )


def _motion(problem: BundleProblem, state: _State, camera: Array) -> float:
    """Return the largest entry of a camera step (D,), of the centres as a share of the extent."""
    size = camera.copy()
    extent = float(np.ptp(state.centre, axis=0).max())
    own = problem.own_columns
    pose = size[: own * len(state.centre)].reshape(-1, own)
    pose[:, 3:_POSE] /= max(extent, 1e-12)
    return float(np.abs(size).max(initial=0.0))


def _cam_to_world(problem: BundleProblem, state: _State) -> Array:
    result = np.tile(np.eye(4), (len(state.rotation), 1, 1))
    # exp(w) R drifts off the rotations by rounding only; one SVD puts it back.
    u, _, vt = np.linalg.svd(state.rotation.transpose(0, 2, 1))
    result[:, :3, :3] = u @ vt
    result[:, :3, 3] = state.centre
    result[problem.fixed_pose] = problem.cam_to_world[problem.fixed_pose]
    return result


def _rotate(rotations: Array, vectors: Array) -> Array:
    return (rotations @ vectors[:, :, None])[:, :, 0]
