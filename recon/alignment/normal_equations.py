"""The normal equations of bundle adjustment, with the points eliminated block by block.

Triggs et al. 2000, "Bundle adjustment: a modern synthesis", section 6.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pointmap.camera import Array
from recon.alignment.camera_model import (
    BundleProblem,
    Linear,
    State,
    fixed_pose_columns,
    lens_priors,
)
from recon.alignment.positive_system import solve_positive


class NormalEquations:
    """The normal equations with the points eliminated; structure once, values per step.

    Unknowns of the cameras: six per pose, and one of the depths known there, if any are; then two
    per lens (logarithm of the focal length, and k1), or five (k2 and the principal point, too).
    Everything is kept as sparse blocks: two cameras are coupled only where they share a point, or a
    focal.
    """

    def __init__(self, problem: BundleProblem) -> None:
        self.problem = problem
        cameras, groups = len(problem.cam_to_world), len(problem.focals_px)
        self.own = own = problem.own_columns
        self.lens = problem.lens_columns
        self.size = own * cameras + self.lens * groups
        pose_columns = np.arange(own * cameras).reshape(cameras, own)
        lens_columns = (own * cameras + np.arange(self.lens * groups)).reshape(groups, self.lens)
        self.columns = np.concatenate([pose_columns, lens_columns[problem.focal_index]], axis=1)
        held = problem.held_lenses
        self.free = ~np.concatenate([fixed_pose_columns(problem).ravel(), held.ravel()])
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

    def build(self, linear: Linear, state: State) -> None:
        """Form Hessian blocks and gradients of both kinds of parameters."""
        blocks, gradients = self._camera_blocks(linear)
        own = self.own
        self.pose_hessian, self.pose_lens = blocks[:, :own, :own], blocks[:, :own, own:]
        self.lens_hessian = np.zeros((len(self.problem.focals_px), self.lens, self.lens))
        np.add.at(self.lens_hessian, self.problem.focal_index, blocks[:, own:, own:])
        self.gradient = np.zeros(self.size)
        np.add.at(self.gradient, self.columns, gradients)
        self._add_priors(state)
        products = linear.point.transpose(0, 2, 1) @ linear.joined
        sums = self.add_by_point @ products.reshape(len(products), -1)
        sums = sums.reshape(-1, *products.shape[1:])
        self.point_hessian, self.point_gradient = sums[:, :, :3], sums[:, :, -1]
        self.cross = products[:, :, 3:-1]

    def _camera_blocks(self, linear: Linear) -> tuple[Array, Array]:
        """Return each camera's Hessian block and gradient."""
        rows = linear.joined[self.by_camera, :, 3:]
        width = self.own + self.lens
        squares = np.zeros((len(self.columns), width + 1, width + 1))
        start = 0
        for camera, end in enumerate(self.camera_ends.tolist()):
            mine = rows[start:end].reshape(-1, width + 1)
            squares[camera] = mine.T @ mine
            start = end
        return squares[:, :width, :width], squares[:, :width, width]

    def _add_priors(self, state: State) -> None:
        weights, gradients = lens_priors(self.problem, state)
        each = np.arange(self.lens)
        self.lens_hessian[:, each, each] += weights
        self.gradient[self.size - weights.size :] += gradients.ravel()

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
            shape=(height, self.size - self.lens * lenses),
        )
        to_lens = sparse.bsr_array(
            (lens_blocks, self.lens_group, self.lens_ends), shape=(height, self.lens * lenses)
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
        lenses = sparse.bsr_array(
            (self.lens_hessian, every[:-1], every), shape=2 * (self.lens * groups,)
        )
        both = sparse.bsr_array(
            (self.pose_lens, self.problem.focal_index, each),
            shape=(self.own * cameras, self.lens * groups),
        )
        added = damping * np.maximum(np.concatenate([poses.diagonal(), lenses.diagonal()]), 1e-12)
        both = both - both_share
        S = sparse.block_array(
            [[poses - poses_share, both], [both.T, lenses - lenses_share]], format="csc"
        )
        S.data *= self.free[S.indices] & np.repeat(self.free, np.diff(S.indptr))
        S = S + sparse.diags_array(np.where(self.free, added, 1.0), format="csc")
        return S, added
