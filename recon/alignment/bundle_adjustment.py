"""Bundle adjustment: reprojection errors minimised over poses, shared focals and points.

Levenberg-Marquardt on the Schur complement (Triggs et al. 2000, "Bundle adjustment: a modern
synthesis", section 6): the points are eliminated block by block, the cameras' reduced system is
solved densely. Everything is vectorised over observations, so that a dozen photos take a second.

A camera is ``p = R x + t``, ``q = p[:2] / p[2]``, ``xy = focal (1 + k1 |q|^2) q + principal``:
square pixels, principal point as given (the photo's centre), one coefficient of radial distortion.
Its six pose parameters are ``R <- exp(w) R``, ``t <- t + v``; a focal's parameter is its logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import linalg, sparse

from pointmap.camera import Array, Index, Mask, invert_rigid, rotation_exp

# Residual, in sigmas, of a point behind its camera: far beyond any robust scale, yet finite.
_BEHIND = 1e3
# How many sigmas from 0 a k1 is still drawn there in earnest.
_K1_TAIL = 20.0
# Unknowns of a camera: its pose; then the logarithm of its focal length, and k1.
_POSE = 6
_WIDTH = _POSE + 2


@dataclass(frozen=True)
class BundleProblem:
    """Cameras, points and the observations that tie them.

    ``cam_to_world`` (C, 4, 4); ``principal`` (C, 2) px; ``focals_px`` (G,), ``focal_index`` (C,)
    into it; ``points`` (P, 3) world; one row per observation in ``camera_index``, ``point_index``
    (M,), ``xy`` (M, 2) px and ``sigma_px`` (M,). Every point should have two observations or more.

    ``fixed_pose`` (C,) and ``fixed_focal`` (G,) come back bit-equal. ``focal_prior_px`` (G,) with
    ``focal_log_sigma`` (G,) (inf: none) pulls the focals. ``k1`` (G,) goes with each focal;
    ``k1_sigma`` (G,) pulls it to 0 (less so when many sigmas off), and a sigma of 0 holds it
    bit-equal. With no fixed pose, the first camera stays where it is and the scale is held by one
    coordinate of the camera farthest from it.
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


@dataclass(frozen=True)
class BundleOptions:
    """How to minimise. ``loss_scale`` is in sigmas: where the robust loss leaves the square."""

    loss: Literal["square", "huber", "cauchy"] = "cauchy"
    loss_scale: float = 2.0
    max_iterations: int = 50
    tolerance: float = 1e-7
    """Stop when an accepted step lowers the cost by less than this fraction."""


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
    rotation: Array
    translation: Array
    log_focal: Array
    k1: Array
    points: Array


@dataclass(frozen=True)
class _Linear:
    """Weighted residuals (M, 2) and Jacobians to camera (M, 2, 8) and point (M, 2, 3)."""

    residual: Array
    camera: Array
    point: Array


def bundle_adjust(problem: BundleProblem, options: BundleOptions | None = None) -> BundleResult:
    """Return the robust least-squares cameras, focals and points nearest to the given ones.

    A degenerate problem (no observations, or a step that cannot be found) comes back as it went
    in, with ``converged`` False. Deterministic.
    """
    options = options or BundleOptions()
    order = np.argsort(problem.point_index, kind="stable")
    sorted_problem = replace(
        problem,
        camera_index=problem.camera_index[order],
        point_index=problem.point_index[order],
        xy=problem.xy[order],
        sigma_px=problem.sigma_px[order],
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
    world_to_cam = invert_rigid(problem.cam_to_world)
    state = _State(
        world_to_cam[:, :3, :3].copy(),
        world_to_cam[:, :3, 3].copy(),
        np.log(problem.focals_px),
        problem.k1.copy(),
        problem.points.copy(),
    )
    cost = _cost(problem, state, options)
    if len(problem.xy) == 0:
        return state, cost, 0, False
    system = _Schur(problem)
    # Of the diagonal: next to plain Gauss-Newton, as the start is near the minimum.
    damping, growth = 1e-4, 2.0
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
                    damping *= max(1 / 3, 1 - (2 * gain - 1) ** 3)
                    damping, growth, accepted = max(damping, 1e-12), 2.0, True
                    break
            damping, growth = damping * growth, growth * 2
        if not accepted:
            return state, cost, iteration, iteration > 1
        decrease = (cost - trial_cost) / max(cost, 1e-300)
        state, cost = trial, trial_cost
        if decrease < options.tolerance or cost < 1e-20 * len(problem.xy):
            return state, cost, iteration, True
    return state, cost, options.max_iterations, False


def _residuals(problem: BundleProblem, state: _State) -> tuple[Array, Mask]:
    """Return residuals in sigmas (M, 2) and which points lie in front of their camera (M,)."""
    cam = problem.camera_index
    p = _rotate(state.rotation[cam], state.points[problem.point_index]) + state.translation[cam]
    in_front = p[:, 2] > 1e-9
    z = np.where(in_front, p[:, 2], 1.0)
    group = problem.focal_index[cam]
    flat = p[:, :2] / z[:, None]
    bend = 1 + state.k1[group] * (flat**2).sum(axis=1)
    pixels = (np.exp(state.log_focal)[group] * bend)[:, None] * flat + problem.principal[cam]
    residual = (pixels - problem.xy) / problem.sigma_px[:, None]
    return np.where(in_front[:, None], residual, _BEHIND), in_front


def _cost(problem: BundleProblem, state: _State, options: BundleOptions) -> float:
    squared = (_residuals(problem, state)[0] ** 2).sum(axis=1)
    prior = (_focal_prior(problem, state) ** 2).sum() + _k1_prior(problem, state)[0].sum()
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
    rotated = _rotate(rotation, state.points[problem.point_index])
    p = rotated + state.translation[cam]
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
    camera = np.empty((len(cam), 2, _WIDTH))
    # g . (w x v) = w . (v x g), with g a row of to_frame and v = R x.
    camera[:, :, :3] = np.cross(rotated[:, None], to_frame)
    camera[:, :, 3:6] = to_frame
    camera[:, :, 6] = (slope * (1 + k1 * square))[:, None] * flat
    camera[:, :, 7] = (slope * square)[:, None] * flat
    return _Linear(residual * scale[:, None], camera, to_frame @ rotation)


class _Schur:
    """The normal equations with the points eliminated; structure once, values per step."""

    def __init__(self, problem: BundleProblem) -> None:
        self.problem = problem
        cameras, groups = len(problem.cam_to_world), len(problem.focals_px)
        self.size = _POSE * cameras + 2 * groups
        focal_column = _POSE * cameras + problem.focal_index
        pose_columns = np.arange(_POSE * cameras).reshape(cameras, _POSE)
        lens_columns = np.stack([focal_column, focal_column + groups], axis=1)
        self.columns = np.concatenate([pose_columns, lens_columns], axis=1)
        fixed = _fixed_pose_columns(problem).ravel()
        self.free = ~np.concatenate([fixed, problem.fixed_focal, problem.k1_sigma == 0])
        counts = np.bincount(problem.point_index, minlength=len(problem.points))
        self.seen = np.flatnonzero(counts)
        self.starts = np.concatenate([[0], np.cumsum(counts[self.seen])[:-1]]).astype(np.int64)
        self.row = np.repeat(np.arange(len(self.seen)), counts[self.seen])
        ones = np.ones(len(problem.xy))
        shape = (cameras, len(problem.xy))
        self.by_camera = sparse.csr_array(
            (ones, (problem.camera_index, np.arange(len(problem.xy)))), shape=shape
        )
        rows = 3 * self.row[:, None, None] + np.arange(3)[None, :, None]
        columns = self.columns[problem.camera_index][:, None, :]
        self.rows = np.broadcast_to(rows, (len(ones), 3, _WIDTH)).ravel()
        self.cols = np.broadcast_to(columns, (len(ones), 3, _WIDTH)).ravel()

    def build(self, linear: _Linear, state: _State) -> None:
        """Form Hessian blocks and gradients of both kinds of parameters."""
        cameras = len(self.columns)
        width = _WIDTH
        J, Jp, r = linear.camera, linear.point, linear.residual
        Jt, Jpt = J.transpose(0, 2, 1), Jp.transpose(0, 2, 1)
        blocks = (self.by_camera @ (Jt @ J).reshape(-1, width * width)).reshape(-1, width, width)
        self.hessian = np.zeros((self.size, self.size))
        grid = np.broadcast_to(self.columns[:, :, None], (cameras, width, width))
        np.add.at(self.hessian, (grid, grid.transpose(0, 2, 1)), blocks)
        self.gradient = np.zeros(self.size)
        np.add.at(self.gradient, self.columns, self.by_camera @ (Jt @ r[:, :, None])[:, :, 0])
        self._add_priors(state)
        self.point_hessian = np.add.reduceat(Jpt @ Jp, self.starts)
        self.point_gradient = np.add.reduceat((Jpt @ r[:, :, None])[:, :, 0], self.starts)
        self.cross = Jpt @ J

    def _add_priors(self, state: _State) -> None:
        problem = self.problem
        lens = np.arange(_POSE * len(self.columns), self.size)
        held = problem.fixed_focal | ~np.isfinite(problem.focal_log_sigma)
        focal = np.where(held, 0.0, 1 / np.where(held, 1.0, problem.focal_log_sigma))
        k1 = _k1_prior(problem, state)[1]
        self.hessian[lens, lens] += np.concatenate([focal**2, k1])
        self.gradient[lens] += np.concatenate([focal * _focal_prior(problem, state), k1 * state.k1])

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
        E = sparse.csr_array(
            ((root_inverse[self.row] @ self.cross).ravel(), (self.rows, self.cols)),
            shape=(3 * len(self.seen), self.size),
        )
        g = (root_inverse @ self.point_gradient[:, :, None])[:, :, 0].ravel()
        camera_damping = damping * np.maximum(np.diag(self.hessian), 1e-12)
        S = self.hessian + np.diag(camera_damping) - (E.T @ E).toarray()
        b = self.gradient - E.T @ g
        camera = np.zeros(self.size)
        try:
            factor = linalg.cho_factor(S[np.ix_(self.free, self.free)])
        except (np.linalg.LinAlgError, ValueError):
            return None
        camera[self.free] = -linalg.cho_solve(factor, b[self.free])
        v = -(g + E @ camera).reshape(-1, 3)
        point = np.zeros_like(self.problem.points)
        point[self.seen] = (root_inverse.transpose(0, 2, 1) @ v[:, :, None])[:, :, 0]
        moved = point[self.seen]
        promise = -(self.gradient @ camera) - float((self.point_gradient * moved).sum())
        promise += camera @ (camera_damping * camera) + float((point_damping * moved**2).sum())
        return camera, point, float(0.5 * promise)


def _fixed_pose_columns(problem: BundleProblem) -> Mask:
    """Return which pose parameters (C, 6) stand still: the given ones and the gauge."""
    fixed = np.repeat(problem.fixed_pose[:, None], _POSE, axis=1)
    anchors = np.flatnonzero(problem.fixed_pose)
    if len(anchors) >= 2 or len(problem.cam_to_world) == 0:
        return fixed
    anchor = int(anchors[0]) if len(anchors) else 0
    fixed[anchor] = True
    baseline = problem.cam_to_world[:, :3, 3] - problem.cam_to_world[anchor, :3, 3]
    far = int(np.argmax(np.linalg.norm(baseline, axis=1)))
    if far != anchor and len(anchors) == 0:
        # Scaling the scene about the anchor moves this coordinate of t the most.
        in_camera = problem.cam_to_world[far, :3, :3].T @ baseline[far]
        fixed[far, 3 + int(np.argmax(np.abs(in_camera)))] = True
    return fixed


def _step(problem: BundleProblem, state: _State, camera: Array, points: Array) -> _State:
    cameras = len(state.rotation)
    pose = camera[: _POSE * cameras].reshape(cameras, _POSE)
    log_focal, k1 = camera[_POSE * cameras :].reshape(2, -1)
    return _State(
        rotation_exp(pose[:, :3]) @ state.rotation,
        state.translation + pose[:, 3:],
        state.log_focal + np.clip(log_focal, -0.5, 0.5),
        state.k1 + np.clip(k1, -0.1, 0.1),
        state.points + points,
    )


def _cam_to_world(problem: BundleProblem, state: _State) -> Array:
    world_to_cam = np.tile(np.eye(4), (len(state.rotation), 1, 1))
    # exp(w) R drifts off the rotations by rounding only; one SVD puts it back.
    u, _, vt = np.linalg.svd(state.rotation)
    world_to_cam[:, :3, :3] = u @ vt
    world_to_cam[:, :3, 3] = state.translation
    result = invert_rigid(world_to_cam)
    still = problem.fixed_pose.copy()
    result[still] = problem.cam_to_world[still]
    return result


def _rotate(rotations: Array, vectors: Array) -> Array:
    return (rotations @ vectors[:, :, None])[:, :, 0]
