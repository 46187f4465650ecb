"""Bundle adjustment: reprojection errors minimised over poses, shared focals and points.

Levenberg-Marquardt on the Schur complement (Triggs et al. 2000, "Bundle adjustment: a modern
synthesis", section 6; :mod:`recon.alignment.normal_equations`), of the cameras of
:mod:`recon.alignment.camera_model`. The cameras' reduced system is solved by a sparse
factorisation, of few cameras by a dense one. Loops over observations are compiled
(:mod:`recon.alignment.loops`): of 1,000 photos they were most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pointmap.camera import Array
from recon.alignment.camera_model import (
    POSE,
    BundleOptions,
    BundleProblem,
    State,
    robust_cost,
)
from recon.alignment.normal_equations import NormalEquations


@dataclass(frozen=True)
class BundleResult:
    """The minimum: ``cam_to_world`` (C, 4, 4), ``focals_px``, ``k1`` (G,), ``points`` (P, 3).

    Of rich lenses ``k2`` (G,) and how far the principal points were moved, ``shift_px`` (G, 2).
    """

    cam_to_world: Array
    focals_px: Array
    k1: Array
    points: Array
    converged: bool
    k2: Array
    shift_px: Array


def bundle_adjust(problem: BundleProblem, options: BundleOptions | None = None) -> BundleResult:
    """Return the robust least-squares cameras, focals and points nearest to the given ones.

    A degenerate problem (no observations, or a step that cannot be found) comes back as it went
    in, with ``converged`` False. Deterministic.
    """
    options = options or BundleOptions()
    order = np.lexsort((problem.focal_index[problem.camera_index], problem.point_index))
    state, converged = _minimise(problem.of_observations(order), options)
    return BundleResult(
        _cam_to_world(problem, state),
        np.where(problem.fixed_focal, problem.focals_px, np.exp(state.log_focal)),
        state.k1,
        state.points,
        converged,
        state.k2,
        state.shift_px,
    )


def _minimise(problem: BundleProblem, options: BundleOptions) -> tuple[State, bool]:
    state = State.first(problem)
    cost = robust_cost(problem, state, options)
    if len(problem.xy) == 0:
        return state, False
    system = NormalEquations(problem)
    damping, growth = options.damping, 2.0
    for iteration in range(options.max_iterations):
        system.build(state, options)
        accepted = False
        while damping < 1e12:
            step = system.solve(damping)
            if step is not None:
                trial = state.moved(problem, *step[:2])
                trial_cost = robust_cost(problem, trial, options)
                # Nielsen's rule: trust the model as far as it predicted the decrease.
                gain = (cost - trial_cost) / max(step[2], 1e-300)
                if trial_cost < cost:
                    motion = _motion(problem, state, step[0])
                    damping *= max(0.1, 1 - (2 * gain - 1) ** 3)
                    damping, growth, accepted = max(damping, 1e-12), 2.0, True
                    break
            damping, growth = damping * growth, growth * 2
        if not accepted or step is None:
            return state, iteration > 0
        decrease = (cost - trial_cost) / max(cost, 1e-300)
        state, cost = trial, trial_cost
        settled = decrease < options.tolerance or motion < options.least_motion
        if settled or cost < 1e-20 * len(problem.xy):
            return state, True
    return state, False


def _motion(problem: BundleProblem, state: State, camera: Array) -> float:
    """Return the largest entry of a camera step (D,), of the centres as a share of the extent."""
    size = camera.copy()
    extent = float(np.ptp(state.centre, axis=0).max())
    own = problem.own_columns
    pose = size[: own * len(state.centre)].reshape(-1, own)
    pose[:, 3:POSE] /= max(extent, 1e-12)
    if problem.more is not None:
        lens = size[own * len(state.centre) :].reshape(-1, problem.lens_columns)
        lens[:, 3:] /= np.exp(state.log_focal)[:, None]
    return float(np.abs(size).max(initial=0.0))


def _cam_to_world(problem: BundleProblem, state: State) -> Array:
    result = np.tile(np.eye(4), (len(state.rotation), 1, 1))
    # exp(w) R drifts off the rotations by rounding only; one SVD puts it back.
    u, _, vt = np.linalg.svd(state.rotation.transpose(0, 2, 1))
    result[:, :3, :3] = u @ vt
    result[:, :3, 3] = state.centre
    result[problem.fixed_pose] = problem.cam_to_world[problem.fixed_pose]
    return result
