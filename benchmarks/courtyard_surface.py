"""The sample photos' mesh against the very solids that the photos were rendered from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.stereo import TrueView, seen_by_another
from pointmap.camera import Array, invert_rigid, project, transform_points, unproject
from pointmap.training.rendering.ray_tracing import PinholeCamera, SceneTracer
from pointmap.training.rendering.render_views import HELD_OUT_SEED
from pointmap.training.scenes.courtyard import make_courtyard
from pointmap.training.scenes.courtyard_textures import make_courtyard_bank
from recon.evaluation.poses import similarity_of_cameras
from recon.evaluation.scene import read_truth
from recon.export import load_scene
from recon.fusion.fuse_views import fuse_views
from recon.fusion.options import FusionOptions
from recon.fusion.surface import Surface
from recon.scene import Mesh, Scene
from recon.work.folder import Work

SAMPLE = Path(__file__).parents[1] / "examples/courtyard/cameras.json"
SEED = HELD_OUT_SEED + 1
NEAR = 2
"""Voxels within which a mesh has a place of the truth."""
THROUGH = 3
"""Voxels by which a photo has to look past a vertex for it to hang in the air."""
EVERY = 2
"""The truth is taken at every so many-th pixel, across and down."""
CELL = 2
"""Width, in voxels, of the cells that connected patches are made of."""


@dataclass(frozen=True)
class CourtyardScores:
    """``completeness``: per cent of the surface that two photos see, pixel by pixel, with mesh
    within 2 voxels; ``largest_hole``: diameter in voxels of the largest ball around any of it
    without mesh inside; ``over_40``: per cent of it in the middle of balls over 40 voxels;
    ``widest_patch`` and ``largest_patch``: diameter in voxels and area in square voxels of the
    widest and of the largest connected patch of it without mesh within 2 voxels; ``in_air``: per
    cent of the mesh's vertices that some photo truly looks past, to something at least 3 voxels
    behind, in a pixel and those around.
    """

    voxel: float
    triangles: int
    completeness: float
    largest_hole: float
    over_40: float
    widest_patch: float
    largest_patch: float
    in_air: float
    cpu_seconds: float


def true_views(truth_json: Path = SAMPLE) -> dict[str, TrueView]:
    """Return the sample photos' true cameras and depth (0 = sky), without their pixels."""
    tracer = SceneTracer(make_courtyard(SEED, make_courtyard_bank(SEED)), "cpu")
    views = {}
    for name, camera in read_truth(truth_json).cameras.items():
        assert camera.cam_to_world is not None
        K, pose = camera.intrinsics, camera.cam_to_world
        with torch.inference_mode():
            depth, _ = tracer.trace_view(PinholeCamera(K, pose, camera.height, camera.width))
        found = depth.numpy()
        none = np.zeros((*found.shape, 0), np.uint8)
        views[name] = TrueView(none, np.where(np.isfinite(found), found, 0), K, pose)
    return views


def courtyard(folder: Path, options: FusionOptions | None = None) -> CourtyardScores:
    """Fuse the saved scene of the sample photos again and compare it with the truth."""
    scene = load_scene(folder)
    start = time.process_time()
    fused = fuse_views(
        scene.views,
        options or FusionOptions(),
        device=torch.device("cpu"),
        work=Work(None),
        world=scene.world,
    )
    seconds = time.process_time() - start
    return scored(scene, fused.surface, true_views(), seconds)


def scored(
    scene: Scene, surface: Surface, truth: dict[str, TrueView], seconds: float
) -> CourtyardScores:
    """Return how the surface of a scene compares with what its photos truly saw."""
    pairs = [
        (view.camera.cam_to_world, truth[view.name].cam_to_world)
        for view in scene.views
        if view.camera.cam_to_world is not None
    ]
    fit = similarity_of_cameras(*zip(*pairs, strict=True))
    mesh = surface.mesh
    voxel = float(np.cbrt(np.linalg.det(fit[:3, :3]))) * surface.statistics["voxel_size"]
    vertices = transform_points(fit, mesh.vertices)
    views = list(truth.values())
    placed = Mesh(vertices.astype(np.float32), mesh.faces, mesh.colours, mesh.normals)
    seen, gaps, chosen = _gaps(placed, views)
    gaps /= voxel
    widths, areas = patches(seen[gaps >= NEAR] / voxel)
    gaps = gaps[chosen]
    return CourtyardScores(
        voxel=voxel,
        triangles=len(mesh.faces),
        completeness=100 * float((gaps < NEAR).mean()),
        largest_hole=2 * float(gaps.max()),
        over_40=100 * float((gaps > 20).mean()),
        widest_patch=float(widths.max(initial=0)),
        largest_patch=float(areas.max(initial=0)),
        in_air=100 * float(looked_past(vertices, views, THROUGH * voxel).mean()),
        cpu_seconds=seconds,
    )


def _gaps(mesh: Mesh, views: list[TrueView]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return what two photos truly see (N, 3), its distances (N,) to the mesh, and which of it (N,)
    is at every so many-th pixel.
    """
    import open3d as o3d
    import open3d.core as o3c

    caster = o3d.t.geometry.RaycastingScene()
    caster.add_triangles(
        o3c.Tensor.from_numpy(np.ascontiguousarray(mesh.vertices)),
        o3c.Tensor.from_numpy(mesh.faces.astype(np.uint32)),
    )
    places, gaps, chosen = [], [], []
    for k, view in enumerate(views):
        world = transform_points(view.cam_to_world, unproject(view.depth, view.intrinsics))
        seen = seen_by_another(views, k)
        points = world[seen].astype(np.float32)
        places.append(points.astype(np.float64))
        gaps.append(caster.compute_distance(o3c.Tensor.from_numpy(points)).numpy())
        chosen.append(_every(view.depth.shape)[seen])
    return (
        np.concatenate(places),
        np.concatenate(gaps).astype(np.float64),
        np.concatenate(chosen),
    )


def _every(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    chosen = np.zeros(shape, bool)
    chosen[::EVERY, ::EVERY] = True
    return chosen


def patches(missing: Array) -> tuple[Array, Array]:
    """Return the diameters (M,) and areas (M,) of the connected patches of points (N, 3) of surface
    that are missing, in voxels.

    Points are put into cells two voxels wide, as far apart as pixels may be; cells that touch, at a
    corner at least, are connected. A cell counts as a square of its width, so that areas of slanted
    surface come out up to twice as large.
    """
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree
    from scipy.spatial.distance import pdist

    if not len(missing):
        return np.zeros(0), np.zeros(0)
    cells = np.unique(np.floor(missing / CELL).astype(np.int64), axis=0)
    touching = cKDTree(cells).sparse_distance_matrix(cKDTree(cells), 1, p=np.inf)
    count, patch = connected_components(touching, directed=False)
    areas = CELL**2 * np.bincount(patch, minlength=count)
    # A cell is as wide as itself: what spans n of them in a row is n wide.
    widths = [CELL * (1 + pdist(cells[patch == n]).max(initial=0)) for n in range(count)]
    return np.array(widths), areas.astype(np.float64)


def looked_past(points: Array, views: list[TrueView], margin: float) -> NDArray[np.bool_]:
    """Return which points (P, 3) a photo looks past, to what lies ``margin`` and more behind, with
    the pixels around; sky lies behind everything.
    """
    import cv2

    past = np.zeros(len(points), bool)
    for view in views:
        depth = np.where(view.depth > 0, view.depth, 1e6).astype(np.float32)
        nearest = cv2.erode(depth, np.ones((3, 3), np.uint8))
        height, width = depth.shape
        camera = transform_points(invert_rigid(view.cam_to_world), points)
        xy = project(camera, view.intrinsics)
        with np.errstate(invalid="ignore"):
            inside = np.all((xy >= 0) & (xy < [width, height]), axis=-1)
        column, row = np.where(inside[:, None], xy, 0).astype(int).T
        past |= inside & (nearest[row, column] > camera[:, 2] + margin)
    return past
