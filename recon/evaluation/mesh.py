"""How much of a place a mesh has and how right it is: against measured depth, and against a cloud.

The mesh is brought into the truth's frame by the cameras alone, so that an error of theirs counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_centres, pixel_rays, transform_points
from pointmap.errors import InputError
from recon.evaluation.depth import is_known
from recon.evaluation.scene import SceneTruth, read_depth_truth, similarity_to_truth
from recon.export.cameras_json import read_cameras
from recon.export.ply import read_cloud_ply, read_mesh_ply
from recon.scene import Camera, Mesh

RIGHT_METRES, RIGHT_SHARE = 0.05, 0.025
"""A pixel is right within so many metres (units of the truth), or that share of its depth where
that is more."""
# Points that a mesh is compared with a cloud by, at most, and that cloud's.
_MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class SurfaceScores:
    """Of all pixels whose depth was measured: the share ``hit`` where the mesh is met at all, and
    that where it is met at the ``right`` depth; ``right_of_hit``, and ``f1``, the harmonic mean of
    the last two, precision and completeness.
    """

    hit: float
    right: float
    right_of_hit: float
    f1: float


@dataclass(frozen=True)
class ToleranceScores:
    """Shares within ``tolerance``: ``accuracy``, of the mesh's surface near the truth;
    ``completeness``, of the truth near the mesh; ``f1`` their harmonic mean.

    Both are thinned to a point per cube of half the tolerance first, so that density does not count
    (Knapitsch et al., Tanks and Temples, 2017, section 4; Schoeps et al., ETH3D, CVPR 2017, section
    5, count cubes likewise). Surface where the truth's scanner saw nothing counts as wrong: crop
    it away first.
    """

    tolerance: float
    accuracy: float
    completeness: float
    f1: float


def mesh_in_truth(folder: Path, truth: SceneTruth, *, file: str = "mesh.ply") -> Mesh:
    """Return the mesh of a saved scene in the frame and unit of its truth.

    Raises ``InputError`` when the scene has no such mesh, or fewer than two of the truth's cameras.
    """
    found, _ = read_cameras(folder / "cameras.json")
    fit = similarity_to_truth(found, truth.cameras)
    if fit is None:
        raise InputError(
            f"{folder} has fewer than two placed photos that the truth knows, which are needed to "
            "bring its mesh into the truth's frame"
        )
    mesh = read_mesh_ply(folder / file)
    vertices = transform_points(fit, mesh.vertices).astype(np.float32)
    return Mesh(vertices, mesh.faces, mesh.colours, mesh.normals)


def score_by_depth(mesh: Mesh, truth: SceneTruth) -> SurfaceScores | None:
    """Score a mesh in the truth's frame against all true depth maps; None without one."""
    import open3d as o3d
    import open3d.core as o3c

    caster = o3d.t.geometry.RaycastingScene()
    if len(mesh.faces):
        vertices = np.ascontiguousarray(mesh.vertices, np.float32)
        faces = np.ascontiguousarray(mesh.faces, np.uint32)
        caster.add_triangles(o3c.Tensor.from_numpy(vertices), o3c.Tensor.from_numpy(faces))
    known = hit = right = 0
    for name, camera in truth.cameras.items():
        depth = read_depth_truth(truth, name)
        if depth is None:
            continue
        rays = o3c.Tensor.from_numpy(_rays(camera, depth))
        # Directions have z = 1 in the camera: the distance along a ray is the depth.
        met = caster.cast_rays(rays)["t_hit"].numpy()
        measured = is_known(depth)
        seen = measured & np.isfinite(met)
        error = np.abs(np.where(seen, met, 0) - depth)
        known += int(measured.sum())
        hit += int(seen.sum())
        right += int((seen & (error < np.maximum(RIGHT_METRES, RIGHT_SHARE * depth))).sum())
    if not known:
        return None
    return SurfaceScores(
        hit / known, right / known, right / max(hit, 1), 2 * right / max(known + hit, 1)
    )


def score_by_cloud(
    mesh: Mesh, cloud_ply: Path, tolerances: Sequence[float]
) -> list[ToleranceScores]:
    """Score a mesh in the truth's frame against a scanned cloud, at tolerances in its unit.

    Raises ``InputError`` when the cloud cannot be read or has no points.
    """
    truth = read_cloud_ply(cloud_ply).points.astype(np.float64)
    if not len(truth):
        raise InputError(f"{cloud_ply} has no points")
    surface = _points_on(mesh)
    return [_at_tolerance(surface, truth, tolerance) for tolerance in tolerances]


def _rays(camera: Camera, depth: Array) -> NDArray[np.float32]:
    """Return origins and directions (h, w, 6) of the rays of a depth map's pixels."""
    height, width = depth.shape
    assert camera.cam_to_world is not None
    rays = pixel_rays(
        pixel_centres(width, height), camera.intrinsics_at(width, height), camera.lens
    )
    directions = rays @ camera.cam_to_world[:3, :3].T
    origins = np.broadcast_to(camera.cam_to_world[:3, 3], directions.shape)
    return np.concatenate([origins, directions], axis=-1).astype(np.float32)


def _points_on(mesh: Mesh) -> Array:
    """Return points (P, 3) spread over the mesh by area, the same ones each time."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not area.sum() > 0:
        return np.zeros((0, 3))
    rng = np.random.default_rng(0)
    face = np.searchsorted(np.cumsum(area), rng.random(_MOST_POINTS) * area.sum())
    face = np.minimum(face, len(area) - 1)
    u, v = rng.random((2, _MOST_POINTS))
    # Osada et al., Shape Distributions, 2002, section 4.1.
    root = np.sqrt(u)[:, None]
    v = v[:, None]
    return np.asarray((1 - root) * a[face] + root * (1 - v) * b[face] + root * v * c[face])


def _at_tolerance(surface: Array, truth: Array, tolerance: float) -> ToleranceScores:
    from scipy.spatial import KDTree

    if not len(surface):
        return ToleranceScores(tolerance, 0.0, 0.0, 0.0)
    found, true = (_thinned(points, tolerance / 2) for points in (surface, truth))
    near = [
        np.isfinite(KDTree(there).query(here, distance_upper_bound=tolerance)[0]).mean()
        for here, there in ((found, true), (true, found))
    ]
    accuracy, completeness = map(float, near)
    both = accuracy + completeness
    return ToleranceScores(
        tolerance, accuracy, completeness, 2 * accuracy * completeness / both if both else 0.0
    )


def _thinned(points: Array, edge: float) -> Array:
    """Return the mean (C, 3) of the points in each cube of ``edge``."""
    cubes = np.floor(points / edge).astype(np.int64)
    _, number, count = np.unique(cubes, axis=0, return_inverse=True, return_counts=True)
    number = number.ravel()
    sums = [np.bincount(number, points[:, k]) for k in range(3)]
    return np.stack(sums, axis=-1) / count[:, None]
