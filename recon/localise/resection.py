"""Pose, and the lens where it is not known, of one photo from scene points that it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import (
    Array,
    Index,
    invert_rigid,
    pinhole,
    project,
    rotation_exp,
    transform_points,
)
from pointmap.lens import Lens as Distortion
from pointmap.metrics import MAD_TO_SIGMA
from recon.alignment.refinement import AlignOptions
from recon.scene import Camera
from recon.stage_results import unit_px
from recon.two_view.absolute_pose import ransac_pnp
from recon.two_view.focal_lengths import FOCAL_RANGE

LEAST_POINTS = 20
"""Key points that have to agree with a pose. Wrong matches agree with one by chance in four or five
of hundreds; but with few points in the background of a scene, a right place was metres off."""

# A place less certain than this is none: over the distance of the points, and in degrees.
_MOST_POSITION_SIGMA, _MOST_ROTATION_SIGMA_DEG = 0.05, 3.0
# P3P samples four points: this finds a pose where a good fifth of the matches are right.
_ITERATIONS, _CONFIDENCE = 5000, 0.9999
# Of an unknown lens, focal lengths tried (27 % apart), with fewer samples each, and how many of
# them are then refined.
_FOCALS, _FOCAL_ITERATIONS, _FOCALS_REFINED = 10, 1000, 3
# Focal lengths are drawn this weakly to where they start, for points that don't tell them.
_FREE_LOG_SIGMA = 0.4
# How far, relative to its distance from the centre, an unknown lens may move a photo's corner: one
# photo's key points share their errors.
_LENS_SIGMA = 0.0014
# So many matches hold a pose as firmly as all.
_MOST_MATCHES = 3000


@dataclass(frozen=True)
class Sightings:
    """Scene ``points`` (M, 3) that a photo may show at ``xy`` (M, 2), where its key points
    ``keypoint`` (M,) are; a key point may have been matched with several points.
    """

    keypoint: Index
    xy: Array
    points: Array

    def __len__(self) -> int:
        return len(self.xy)

    def select(self, rows: NDArray[np.generic]) -> Sightings:
        """Return the sightings ``rows``, numbers or a mask."""
        return Sightings(self.keypoint[rows], self.xy[rows], self.points[rows])


@dataclass(frozen=True)
class Lens:
    """A lens before the photo is placed, as a camera without a pose.

    ``log_sigma``: standard deviation of its focal length's logarithm; 0 for a lens that is known
    and stays as it is, distortion included. ``source`` in words.
    """

    camera: Camera
    log_sigma: float
    source: str


@dataclass(frozen=True)
class Resection:
    """A photo's ``camera`` with its pose, and the ``lens`` that it started from.

    ``inliers`` key points agree with it, ``error_px`` is the median of their reprojection errors.
    ``position_sigma`` (scene units) and ``rotation_sigma_deg``: standard deviations that the
    scatter of the key points implies; errors of the scene itself come on top.
    """

    camera: Camera
    lens: Lens
    inliers: int
    error_px: float
    position_sigma: float
    rotation_sigma_deg: float
    distance: float

    @property
    def certain(self) -> bool:
        """Whether the points are spread widely enough to hold the pose."""
        return (
            self.position_sigma < _MOST_POSITION_SIGMA * self.distance
            and self.rotation_sigma_deg < _MOST_ROTATION_SIGMA_DEG
        )


def resect(seen: Sightings, lens: Lens, *, seed: int = 0) -> Resection | None:
    """Return the camera that agrees with most of the sightings, None where too few agree.

    P3P in RANSAC, then robust least squares (Cauchy) on pose and, where the lens is not known,
    focal length and k1, with the inliers chosen anew under a narrowing threshold. Fewer than
    :data:`LEAST_POINTS` inliers are no pose. ``seed``: of RANSAC.
    """
    if len(seen) > _MOST_MATCHES:
        seen = seen.select(np.linspace(0, len(seen) - 1, _MOST_MATCHES).astype(int))
    start = _first_pose(seen, lens.camera, _ITERATIONS, seed)
    return None if start is None else _refined(seen, start, lens)


def resect_unknown(seen: Sightings, width: int, height: int, *, seed: int = 0) -> Resection | None:
    """Return the same for a lens of which nothing is known: the best of several focal lengths."""
    few = seen
    if len(seen) > _MOST_MATCHES:
        few = seen.select(np.linspace(0, len(seen) - 1, _MOST_MATCHES).astype(int))
    tried = []
    for focal in max(width, height) * np.geomspace(*FOCAL_RANGE, _FOCALS):
        camera = Camera(pinhole(float(focal), width, height), width, height, None)
        start = _first_pose(few, camera, _FOCAL_ITERATIONS, seed)
        if start is not None:
            agree = few.keypoint[_errors_px(few, start) < _first_threshold_px(start)]
            tried.append((len(np.unique(agree)), Lens(start, _FREE_LOG_SIGMA, "estimated")))
    tried.sort(key=lambda entry: -entry[0])
    refined = [_refined(few, lens.camera, lens) for _, lens in tried[:_FOCALS_REFINED]]
    found = [one for one in refined if one is not None]
    return max(found, key=lambda one: (one.inliers, -one.error_px), default=None)


def _first_pose(seen: Sightings, camera: Camera, iterations: int, seed: int) -> Camera | None:
    if len(seen) < LEAST_POINTS:
        return None
    world_to_cam = ransac_pnp(
        seen.points,
        seen.xy,
        camera.intrinsics,
        _first_threshold_px(camera),
        lens=camera.lens,
        p3p=True,
        iterations=iterations,
        confidence=_CONFIDENCE,
        least_inliers=LEAST_POINTS,
        seed=seed,
    )
    if world_to_cam is None:
        return None
    return replace(camera, cam_to_world=invert_rigid(world_to_cam))


def _refined(seen: Sightings, start: Camera, lens: Lens) -> Resection | None:
    options, unit = AlignOptions(), unit_px(start)
    camera, spread = start, None
    for threshold in np.geomspace(options.first_threshold_px, options.threshold_px, 3) * unit:
        inliers = _errors_px(seen, camera) < threshold
        if len(np.unique(seen.keypoint[inliers])) < LEAST_POINTS:
            return None
        camera, spread = _adjusted(seen.select(inliers), camera, lens, scale_px=threshold / 4)
    errors = _errors_px(seen, camera)
    inliers = errors < options.threshold_px * unit
    count = len(np.unique(seen.keypoint[inliers]))
    if spread is None or count < LEAST_POINTS or camera.cam_to_world is None:
        return None
    seen_from = seen.points[inliers] - camera.cam_to_world[:3, 3]
    return Resection(
        camera=camera,
        lens=lens,
        inliers=count,
        error_px=float(np.median(errors[inliers])),
        position_sigma=float(np.sqrt(spread[3:6].sum())),
        rotation_sigma_deg=float(np.degrees(np.sqrt(spread[:3].sum()))),
        distance=float(np.median(np.linalg.norm(seen_from, axis=1))),
    )


def _adjusted(
    seen: Sightings, start: Camera, lens: Lens, *, scale_px: float
) -> tuple[Camera, Array]:
    """Return the camera at the least squares, and the variances of its turn (3), in radians,
    centre (3), log focal length and k1.

    Where the lens is known, the last two are 0.
    """
    from scipy.optimize import least_squares

    free = 8 if lens.log_sigma > 0 else 6
    # What a unit of each unknown is: radians, scene units, and the standard deviations of the lens.
    reach_px = np.hypot(start.width, start.height) / 2
    k1_sigma = _LENS_SIGMA * (lens.camera.intrinsics[0, 0] / reach_px) ** 2
    sigma = np.array([lens.log_sigma, k1_sigma])
    begun = np.array(
        [
            np.log(start.intrinsics[0, 0] / lens.camera.intrinsics[0, 0]),
            start.lens.k1_k2[0] - lens.camera.lens.k1_k2[0],
        ]
    )
    first = np.zeros(free)
    if free == 8:
        first[6:] = begun / sigma

    def camera_at(x: Array) -> Camera:
        return _moved(start, lens, x, sigma)

    def residuals(x: Array) -> Array:
        camera = camera_at(x)
        pixels = project(_in_camera(seen.points, camera), camera.intrinsics, camera.lens)
        # Points behind the camera are as wrong as points can be.
        off = np.nan_to_num((pixels - seen.xy) / scale_px, nan=1e3)
        return np.concatenate([off.ravel(), x[6:]])

    found = least_squares(residuals, first, loss="cauchy", x_scale="jac", max_nfev=50)
    # scipy's Jacobian at the solution is that of the robust cost: J^T J approximates its Hessian.
    scatter = (MAD_TO_SIGMA * np.median(np.abs(found.fun[: 2 * len(seen)]))) ** 2
    variances = scatter * np.diag(np.linalg.pinv(found.jac.T @ found.jac))
    return camera_at(found.x), variances


def _moved(start: Camera, lens: Lens, x: Array, sigma: Array) -> Camera:
    """Return ``start`` turned by ``x[:3]`` in its own frame and moved by ``x[3:6]``, with the lens
    ``x[6:]`` standard deviations from where ``lens`` has it.
    """
    if start.cam_to_world is None:
        raise ValueError("the camera has no pose")
    pose = start.cam_to_world.copy()
    pose[:3, :3] = pose[:3, :3] @ rotation_exp(x[None, :3])[0]
    pose[:3, 3] += x[3:6]
    moved = replace(start, cam_to_world=pose)
    if len(x) == 6:
        return moved
    intrinsics = lens.camera.intrinsics.copy()
    intrinsics[[0, 1], [0, 1]] *= np.exp(np.clip(x[6] * sigma[0], -2, 2))
    k1 = lens.camera.lens.k1_k2[0] + x[7] * sigma[1]
    return replace(moved, intrinsics=intrinsics, lens=Distortion.radial(k1))


def _in_camera(points: Array, camera: Camera) -> Array:
    if camera.cam_to_world is None:
        raise ValueError("the camera has no pose")
    return transform_points(invert_rigid(camera.cam_to_world), points)


def _errors_px(seen: Sightings, camera: Camera) -> Array:
    """Return reprojection errors (M,), infinite behind the camera."""
    pixels = project(_in_camera(seen.points, camera), camera.intrinsics, camera.lens)
    return np.nan_to_num(np.linalg.norm(pixels - seen.xy, axis=1), nan=np.inf)


def _first_threshold_px(camera: Camera) -> float:
    return AlignOptions().first_threshold_px * unit_px(camera)
