"""The normal equations of a solved scene's cameras, which may do more than when they were solved.

The observations are linearised once more (Gauss-Newton; Triggs et al. 2000, "Bundle adjustment: a
modern synthesis", sections 4 and 9) and their points eliminated. Each photo has a focal length of
its own, each lens a principal point off the photo's centre and two coefficients of radial
distortion; a prior says how free these are.

Errors of observations that lie side by side are alike where the camera was not the true one, and
don't average out then. So each region of a photo has its observations' own errors drawn with one
sign and size (wild cluster bootstrap; Cameron, Gelbach and Miller 2008, "Bootstrap-based
improvements for inference with clustered errors").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pointmap.camera import Array, Index, Mask, pixel_rays, project
from pointmap.images import Photo
from pointmap.lens import PINHOLE
from recon.alignment.camera_model import (
    BundleOptions,
    BundleProblem,
    RichLenses,
    State,
    linearise,
)
from recon.alignment.positive_system import solve_positive
from recon.stage_results import Alignment, unit_px

# Unknowns of a photo's pose and of a lens.
POSE, LENS = 6, 5
# Observations of each photo that take part, about. More of them share their errors, and time
# grows with them.
_PER_PHOTO = 150
# How accurate an observation is at 640 px, and where the loss (Cauchy) leaves the square.
_SIGMA_PX, _LOSS_SCALE = 0.5, 2.0
# Errors may be so much smaller or larger than that (variances).
_SPREAD = 0.1, 16.0
# Points are held by this share of what their observations do at the least: to some tens of times
# their distance.
_HOLD = 1e-9
# Draws of observations' errors.
_DRAWS = 16
# Regions of a photo (columns, rows) whose errors are drawn together, in so many draws.
_REGIONS, _REGIONAL_DRAWS = np.array([3, 3]), 48


@dataclass(frozen=True)
class Freedom:
    """How free a camera is (standard deviations): a photo's ``own`` focal length (logarithm); of
    its ``lens`` the focal length (logarithm), the principal point x, y in shares of the photo's
    long side, and two radial coefficients.
    """

    own: float
    lens: tuple[float, float, float, float, float]


@dataclass(frozen=True)
class CameraSystem:
    """Normal equations of the cameras, points eliminated: ``matrix`` (D, D), ``gradient`` (D,),
    ``noise`` (D, K) gradients of observations that have nothing but their errors, ``regional``
    (D, L) those of errors that are alike within a region, ``cost`` the squared errors; ``free``
    (D,) 0 where an unknown is held. ``seen`` (C,): the photos that it is of, of ``lenses`` lenses.

    Unknowns are the photos' poses (6 C), logarithms of the focal length (C), then of each lens the
    logarithm of the focal length, the principal point in long sides, and two radial coefficients.
    """

    matrix: sparse.csc_array
    gradient: Array
    noise: Array
    regional: Array
    cost: float
    free: Array
    seen: Index
    lenses: int

    def prior(self, freedom: Freedom) -> Array:
        """Return the weights (D,) that hold cameras which are as free as that."""
        poses, photos = np.zeros(POSE * len(self.seen)), np.full(len(self.seen), freedom.own)
        sigmas = np.concatenate([photos, np.tile(freedom.lens, self.lenses)])
        return np.concatenate([poses, sigmas**-2])

    def solve(self, prior: Array, right: Array) -> Array | None:
        """Return the solution of the system with a prior for each column of ``right`` (D, K)."""
        matrix = self.matrix + sparse.diags_array(np.where(self.free > 0, prior, 1.0))
        return solve_positive(sparse.csc_array(matrix), right * self.free[:, None])


def camera_system(
    photos: Sequence[Photo],
    alignment: Alignment,
    rng: np.random.Generator,
    *,
    own_lenses: bool = False,
) -> CameraSystem | None:
    """Return the system of a scene's cameras; None where fewer than two see points.

    ``own_lenses``: each photo has a lens of its own, not only those that differ in what was found.
    """
    observed = _observed(photos, alignment, rng)
    if observed is None:
        return None
    seen, problem = observed.seen, observed.problem
    count, points, rows = len(seen), len(problem.points), len(problem.xy)
    long_side = observed.sides.max(axis=1)
    lens = np.arange(count) if own_lenses else _lens_of(problem, long_side)
    linear = linearise(problem, State.first(problem), BundleOptions(loss_scale=_LOSS_SCALE))
    J = _of_cameras(problem, linear.camera, lens, long_side)
    B, inverse, hold = _of_points(problem, linear.point)
    taken = (J.T @ B) @ inverse
    free = np.ones(J.shape[1])
    free[: POSE * count] = ~_gauge(problem.cam_to_world)
    held = sparse.diags_array(free)
    matrix = held @ (J.T @ J - taken @ (B.T @ J)) @ held
    r = linear.residual.reshape(-1)
    noise = rng.standard_normal((len(r), _DRAWS))
    # In units of the errors that there are.
    freedom = max(2 * rows - 3 * points - 7 * count, rows / 4)
    sigma = np.clip(float(r @ r) / freedom, *_SPREAD) ** 0.5
    noise *= sigma
    # One column a region, of its own errors.
    own = sparse.csr_array(
        (r * (len(r) / freedom) ** 0.5, observed.region.repeat(2), np.arange(len(r) + 1)),
        shape=(len(r), int(observed.region.max()) + 1),
    )
    errors = np.column_stack([r, noise])
    gradients = J.T @ errors - taken @ (B.T @ errors)
    drawn = rng.spawn(1)[0].standard_normal((own.shape[1], _REGIONAL_DRAWS))
    regional = (J.T @ own - taken @ (B.T @ own)) @ drawn
    # What holds points a little is uncertain, too: else it would seem to hold, to the last digit,
    # what no observation does, such as how far a photo stands from the only one that it shares
    # points with. A few draws at a time, as points are many.
    spread, drawing = hold.repeat(3)[:, None] ** 0.5, rng.spawn(1)[0]
    of_points = np.hstack(
        [
            taken @ (spread * drawing.standard_normal((3 * points, _DRAWS)))
            for _ in range(1 + _REGIONAL_DRAWS // _DRAWS)
        ]
    )
    return CameraSystem(
        matrix,
        gradients[:, 0],
        gradients[:, 1:] - sigma * of_points[:, :_DRAWS],
        regional - of_points[:, _DRAWS:],
        float(r @ r),
        free,
        seen,
        int(lens.max()) + 1,
    )


@dataclass(frozen=True)
class _Observed:
    """The ``problem`` of the photos ``seen`` (C,), their ``sides`` (C, 2) in pixels, and in which
    ``region`` of its photo each observation (M,) is.
    """

    problem: BundleProblem
    seen: Index
    sides: Array
    region: Index


def _observed(
    photos: Sequence[Photo], alignment: Alignment, rng: np.random.Generator
) -> _Observed | None:
    """Return some observations of the placed photos, None where fewer than two photos have any."""
    tracks = alignment.tracks
    placed = alignment.placed
    rows = _chosen(tracks.point_index, tracks.view_index, len(photos), rng)
    rows = rows[placed[tracks.view_index[rows]]]
    seen, camera = np.unique(tracks.view_index[rows], return_inverse=True)
    if len(seen) < 2:
        return None
    points, point = np.unique(tracks.point_index[rows], return_inverse=True)
    K, xy = alignment.intrinsics[seen], tracks.xy[rows]
    lenses = [alignment.lenses[k] for k in seen]
    for n, given in enumerate(lenses):
        if not (given.is_radial or given.is_fisheye):
            # Known to the last coefficient: as a pinhole in its place shows it.
            xy[camera == n] = project(pixel_rays(xy[camera == n], K[n], given), K[n])
            lenses[n] = PINHOLE
    k1, k2 = np.array([one.k1_k2 for one in lenses]).T
    fisheye = np.array([one.is_fisheye for one in lenses])
    unit = np.array([unit_px(photos[k]) for k in seen])
    none, one = np.zeros(len(seen)), np.ones(len(seen))
    problem = BundleProblem(
        cam_to_world=np.stack([np.asarray(alignment.cam_to_world[k]) for k in seen]),
        principal=K[:, :2, 2],
        focals_px=K[:, 0, 0],
        focal_index=np.arange(len(seen)),
        points=tracks.points[points],
        camera_index=camera,
        point_index=point,
        xy=xy,
        sigma_px=_SIGMA_PX * unit[camera],
        fixed_pose=none > 0,
        fixed_focal=none > 0,
        focal_prior_px=K[:, 0, 0],
        focal_log_sigma=np.full(len(seen), np.inf),
        k1=k1,
        k1_sigma=one,
        more=RichLenses(fisheye, k2, one, one),
    )
    sides = np.array([[photos[k].width, photos[k].height] for k in seen], np.float64)
    return _Observed(problem, seen, sides, _regions(tracks.xy[rows] / sides[camera], camera))


def _lens_of(problem: BundleProblem, long_side: Array) -> Index:
    """Return the number of each photo's lens (C,): photos of one lens, as far as was solved, are
    those of equal focal length and distortion.
    """
    assert problem.more is not None
    more = problem.more
    told = np.stack([problem.focals_px / long_side, problem.k1, more.k2, more.fisheye], axis=1)
    return np.unique(told, axis=0, return_inverse=True)[1].ravel()


def _of_cameras(
    problem: BundleProblem, derivatives: Array, lens: Index, long_side: Array
) -> sparse.csr_array:
    """Return the derivatives (2 M, D) of the residuals by the cameras' unknowns."""
    camera, count, rows = problem.camera_index, len(problem.focals_px), len(problem.xy)
    width = POSE + 1 + LENS
    jacobian = derivatives[:, :, [0, 1, 2, 3, 4, 5, 6, 6, 9, 10, 7, 8]]
    jacobian[:, :, 8:10] *= long_side[camera][:, None, None]
    columns = np.empty((rows, width), np.int64)
    columns[:, :POSE] = POSE * camera[:, None] + np.arange(POSE)
    columns[:, POSE] = POSE * count + camera
    columns[:, POSE + 1 :] = (POSE + 1) * count + LENS * lens[camera][:, None] + np.arange(LENS)
    return sparse.csr_array(
        (
            jacobian.reshape(-1),
            np.repeat(columns, 2, axis=0).reshape(-1),
            np.arange(0, 2 * width * rows + 1, width),
        ),
        shape=(2 * rows, (POSE + 1) * count + LENS * (int(lens.max()) + 1)),
    )


def _of_points(
    problem: BundleProblem, derivatives: Array
) -> tuple[sparse.csr_array, sparse.bsr_array, Array]:
    """Return the derivatives (2 M, 3 P) of the residuals by the points, the inverse (3 P, 3 P) of
    their normal equations, and the weight (P,) in these that holds points where they are.
    """
    point, rows, count = problem.point_index, len(problem.xy), len(problem.points)
    B = sparse.csr_array(
        (
            derivatives.reshape(-1),
            np.repeat(3 * point, 2)[:, None].repeat(3, axis=1).reshape(-1)
            + np.tile(np.arange(3), 2 * rows),
            np.arange(0, 6 * rows + 1, 3),
        ),
        shape=(2 * rows, 3 * count),
    )
    V = np.zeros((count, 3, 3))
    np.add.at(V, point, derivatives.transpose(0, 2, 1) @ derivatives)
    hold = _HOLD * np.trace(V, axis1=1, axis2=2) + 1e-30
    V += hold[:, None, None] * np.eye(3)
    inverse = sparse.bsr_array(
        (np.linalg.inv(V), np.arange(count), np.arange(count + 1)), shape=2 * (3 * count,)
    )
    return B, inverse, hold


def _regions(share: Array, camera: Index) -> Index:
    """Return the number of the region of its photo that each observation (M,) lies in, from its
    place (M, 2) in shares of the sides.
    """
    column, row = np.clip((share * _REGIONS).astype(np.int64), 0, _REGIONS - 1).T
    return np.asarray((camera * _REGIONS[1] + row) * _REGIONS[0] + column)


def _gauge(poses: Array) -> Mask:
    """Return which pose parameters (6 C,) are held: the first camera, and one that sets scale."""
    held = np.zeros((len(poses), POSE), bool)
    held[0] = True
    baseline = poses[:, :3, 3] - poses[0, :3, 3]
    far = int(np.argmax(np.linalg.norm(baseline, axis=1)))
    held[far, 3 + int(np.argmax(np.abs(baseline[far])))] = True
    return held.ravel()


def _chosen(point: Index, view: Index, count: int, rng: np.random.Generator) -> Index:
    """Return the rows of some points' observations: about so many of each photo."""
    order = np.lexsort((rng.permutation(int(point.max(initial=-1)) + 1)[point], view))
    starts = np.searchsorted(view[order], np.arange(count))
    rank = np.empty(len(view), np.int64)
    rank[order] = np.arange(len(view)) - starts[view[order]]
    kept = np.zeros(int(point.max(initial=-1)) + 1, bool)
    kept[point[rank < _PER_PHOTO]] = True
    return np.flatnonzero(kept[point])
