"""The normal equations of bundle adjustment, with the points eliminated block by block.

Triggs et al. 2000, "Bundle adjustment: a modern synthesis", section 6.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy import sparse

from pointmap.camera import Array, Index
from recon.alignment import loops
from recon.alignment.camera_model import (
    BundleOptions,
    BundleProblem,
    State,
    fixed_pose_columns,
    lens_priors,
    linearise,
)
from recon.alignment.positive_system import PositiveSolver

# Observations that are linearised at a time, about: the Jacobians of all of a street of 500 photos
# would take 0.15 GB.
_AT_ONCE = 2**16


class _Blocks(NamedTuple):
    """Where blocks stand: those of row i are ``ends[i]`` to ``ends[i + 1]`` of ``column``."""

    ends: Index
    column: Index

    @staticmethod
    def of(pattern: sparse.csr_array) -> _Blocks:
        pattern.sort_indices()
        return _Blocks(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64))

    def array(self, data: Index, columns: int) -> sparse.bsr_array:
        """Return the matrix of ``data`` (N, a, b)."""
        shape = data.shape[1] * (len(self.ends) - 1), data.shape[2] * columns
        return sparse.bsr_array((data, self.column, self.ends), shape=shape)


class NormalEquations:
    """The normal equations with the points eliminated; structure once, values per step.

    Unknowns of the cameras: six per pose, and one of the depths known there, if any are; then two
    per lens (logarithm of the focal length, and k1), or five (k2 and the principal point, too).
    Everything is kept as sparse blocks: two cameras are coupled only where they share a point, or a
    focal. Observations are sorted by point, and those of a point by lens.
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
        ends = np.concatenate([[0], np.cumsum(counts[self.seen])]).astype(np.int64)
        point = np.repeat(np.arange(len(self.seen)), counts[self.seen])
        # What ties points to poses: a block for each observation; to lenses: one for each point
        # and lens, the sum of what the observations give.
        self.poses = _Blocks(ends, problem.camera_index.astype(np.int64))
        # Points whose observations are linearised together.
        firsts = np.searchsorted(ends, np.arange(0, ends[-1], _AT_ONCE))
        self.chunks = np.unique(np.append(firsts, len(self.seen)))
        self.to_poses = np.empty((len(point), 3, own))
        self.with_lenses = np.empty((len(point), 3, self.lens))
        group = problem.focal_index[problem.camera_index]
        changes = np.concatenate([[True], (np.diff(point) > 0) | (np.diff(group) != 0)])
        self.lens_block = np.cumsum(changes) - 1
        starts = np.flatnonzero(changes)
        self.lenses = _Blocks(np.searchsorted(starts, ends), group[starts].astype(np.int64))
        self.pose_rows = _rows(self.poses.column, point, cameras)
        self.lens_rows = _rows(self.lenses.column, point[starts], groups)
        self.reduced = _ReducedSystem(self, cameras, groups)
        self.solver = PositiveSolver()

    def build(self, state: State, options: BundleOptions) -> None:
        """Form Hessian blocks and gradients of both kinds of parameters at a state."""
        self.built_at, self.eliminated = (state, options), False
        own, width = self.own, self.own + self.lens
        sums = np.zeros((len(self.columns), width + 1, width + 1))
        self.point_hessian = np.zeros((len(self.seen), 3, 3))
        self.point_gradient = np.zeros((len(self.seen), 3))
        ends = self.poses.ends
        for first, last in itertools.pairwise(self.chunks.tolist()):
            points, rows = slice(first, last), slice(ends[first], ends[last])
            joined = linearise(self.problem.of_observations(rows), state, options).joined
            blocks = ends[first : last + 1] - ends[first], self.poses.column[rows]
            of_points = self.point_hessian[points], self.point_gradient[points]
            ties = self.to_poses[rows], self.with_lenses[rows]
            loops.add_products(joined, *blocks, sums, *of_points, *ties)
        # Upper halves were summed.
        sums += np.triu(sums, 1).transpose(0, 2, 1)
        self.pose_hessian, self.pose_lens = sums[:, :own, :own], sums[:, :own, own:-1]
        self.lens_hessian = np.zeros((len(self.problem.focals_px), self.lens, self.lens))
        np.add.at(self.lens_hessian, self.problem.focal_index, sums[:, own:-1, own:-1])
        self.gradient = np.zeros(self.size)
        np.add.at(self.gradient, self.columns, sums[:, :-1, -1])
        weights, gradients = lens_priors(self.problem, state)
        each = np.arange(self.lens)
        self.lens_hessian[:, each, each] += weights
        self.gradient[self.size - weights.size :] += gradients.ravel()

    def solve(self, damping: float) -> tuple[Array, Array, float] | None:
        """Return camera step (D,), point step (P, 3) and the decrease the model promises."""
        # What ties points to poses is most of the memory: elimination writes over it, and it is
        # formed anew where a step was no good.
        if self.eliminated:
            self.build(*self.built_at)
        self.eliminated = True
        diagonal = np.einsum("pii->pi", self.point_hessian)
        point_damping = damping * diagonal + 1e-12 * diagonal.sum(axis=1, keepdims=True) + 1e-30
        V = self.point_hessian + point_damping[:, :, None] * np.eye(3)
        root, g = np.empty_like(V), self.point_gradient.copy()
        to_poses = self.to_poses
        to_lenses = np.zeros((len(self.lenses.column), 3, self.lens))
        ties = self.poses.ends, self.lens_block, to_poses, self.with_lenses
        if not loops.eliminate(V, g, *ties, root, to_lenses):
            return None
        b = self.gradient.copy()
        poses = len(self.pose_hessian) * self.own
        from_points = b[:poses].reshape(-1, self.own), b[poses:].reshape(-1, self.lens)
        loops.subtract_from_rows(to_poses, *self.poses, g, from_points[0])
        loops.subtract_from_rows(to_lenses, *self.lenses, g, from_points[1])
        S, camera_damping = self.reduced.of(self, to_poses, to_lenses, damping)
        camera = self.solver.solve(S, np.where(self.free, -b, 0.0))
        if camera is None:
            return None
        camera = np.where(self.free, camera, 0.0)
        moved = -g
        loops.subtract_from_points(
            to_poses, *self.poses, camera[:poses].reshape(-1, self.own), moved
        )
        loops.subtract_from_points(
            to_lenses, *self.lenses, camera[poses:].reshape(-1, self.lens), moved
        )
        loops.solve_transposed(root, moved)
        point = np.zeros_like(self.problem.points)
        point[self.seen] = moved
        promise = -(self.gradient @ camera) - float((self.point_gradient * moved).sum())
        promise += camera @ (camera_damping * camera) + float((point_damping * moved**2).sum())
        return camera, point, float(0.5 * promise)


class _ReducedSystem:
    """The cameras' damped equations: which blocks there are, and where their numbers go.

    Of blocks that mirror one another the one above the diagonal is formed.
    """

    def __init__(self, equations: NormalEquations, cameras: int, groups: int) -> None:
        seen = [
            sparse.csr_array(
                (np.ones(len(blocks.column), np.int32), blocks.column, blocks.ends),
                shape=(len(equations.seen), columns),
            )
            for blocks, columns in ((equations.poses, cameras), (equations.lenses, groups))
        ]
        focal_index = equations.problem.focal_index
        own_lens = sparse.csr_array(
            (np.ones(cameras, np.int32), (np.arange(cameras), focal_index)), shape=(cameras, groups)
        )
        diagonals = [sparse.eye_array(n, dtype=np.int32, format="csr") for n in (cameras, groups)]
        self.poses, self.lenses = (
            _Blocks.of(sparse.csr_array(sparse.triu(one.T @ one + diagonal)))
            for one, diagonal in zip(seen, diagonals, strict=True)
        )
        self.both = _Blocks.of(sparse.csr_array(seen[0].T @ seen[1] + own_lens))
        rows = np.repeat(np.arange(cameras), np.diff(self.both.ends))
        self.own_lens = np.flatnonzero(self.both.column == focal_index[rows])
        a, b = equations.own, equations.lens
        self.shapes = (
            (len(self.poses.column), a, a),
            (len(self.both.column), a, b),
            (len(self.lenses.column), b, b),
        )
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        # Assembled once, of numbers that say which number it is.
        numbers = np.split(1 + np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        poses, both, lenses = (n.reshape(s) for n, s in zip(numbers, self.shapes, strict=True))
        upper = self._assembled(poses, both, lenses)
        # Below the diagonal it is the mirror image; the diagonal's blocks, the first of each row,
        # are whole.
        poses, lenses = poses.copy(), lenses.copy()
        poses[self.poses.ends[:-1]] = lenses[self.lenses.ends[:-1]] = 0
        beside = self._assembled(poses, both, lenses)
        beside.eliminate_zeros()
        self.matrix = sparse.csc_array(upper + beside.T)
        self.number = self.matrix.data - 1
        row, column = (
            self.matrix.indices,
            np.repeat(np.arange(equations.size), np.diff(self.matrix.indptr)),
        )
        self.kept = equations.free[row] & equations.free[column]
        self.diagonal = np.flatnonzero(row == column)

    def _assembled(self, poses: Index, both: Index, lenses: Index) -> sparse.csc_array:
        cameras, groups = len(self.poses.ends) - 1, len(self.lenses.ends) - 1
        beside = self.both.array(both, groups)
        rows = [
            [self.poses.array(poses, cameras), beside],
            [None, self.lenses.array(lenses, groups)],
        ]
        return sparse.block_array(rows, format="csc")

    def of(
        self, equations: NormalEquations, to_poses: Array, to_lenses: Array, damping: float
    ) -> tuple[sparse.csc_array, Array]:
        """Return the system (D, D), held unknowns apart, and the damping (D,).

        ``to_poses`` (M, 3, 6), ``to_lenses`` (K, 3, 2): what ties points to them.
        """
        poses, both, lenses = (np.zeros(shape) for shape in self.shapes)
        from_poses = to_poses, *equations.pose_rows
        pose_ties, lens_ties = (to_poses, *equations.poses), (to_lenses, *equations.lenses)
        loops.subtract_shares(*from_poses, *pose_ties, *self.poses, poses)
        loops.subtract_shares(*from_poses, *lens_ties, *self.both, both)
        loops.subtract_shares(to_lenses, *equations.lens_rows, *lens_ties, *self.lenses, lenses)
        poses[self.poses.ends[:-1]] += equations.pose_hessian
        both[self.own_lens] += equations.pose_lens
        lenses[self.lenses.ends[:-1]] += equations.lens_hessian
        values = np.concatenate([poses.ravel(), both.ravel(), lenses.ravel()])
        data = np.where(self.kept, values[self.number], 0.0)
        hessians = equations.pose_hessian, equations.lens_hessian
        own = np.concatenate([np.einsum("nii->ni", one).ravel() for one in hessians])
        added = damping * np.maximum(own, 1e-12)
        data[self.diagonal] += np.where(equations.free, added, 1.0)
        return sparse.csc_array((data, self.matrix.indices, self.matrix.indptr)), added


def _rows(column: Index, point: Index, columns: int) -> tuple[Index, Index, Index]:
    """Return the blocks of each column in turn, where each column begins, and their points."""
    ends = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=columns))])
    return np.argsort(column, kind="stable"), ends.astype(np.int64), point
