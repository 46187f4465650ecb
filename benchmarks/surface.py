"""How good the fused surface is: on exact depth, and how many floaters real scenes lose.

    python -m benchmarks.surface [SAVED_SCENE...] [--courtyard SAVED_SCENE] [--json FILE]

Exact depth and poses of a box with balls, so that every error is the fusion's own. Saved scenes are
those that run_recon.py wrote; their depth is fused again. The one of the sample photos is also
compared with the solids they were rendered from.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.courtyard_surface import CourtyardScores, courtyard
from benchmarks.figures import write_figures
from benchmarks.pointmap_scenes import BALLS, HALF_BOX, RoomScene, make_room
from pointmap.camera import (
    Array,
    invert_rigid,
    pixel_centres,
    pixel_rays,
    project,
    transform_points,
    unproject,
)
from recon.depth.derived_maps import on_edge
from recon.evaluation.tables import markdown
from recon.fusion import FusionOptions, fuse_surface
from recon.scene import Camera, LoadedMaps, Mesh, View


@dataclass(frozen=True)
class ExactScores:
    """``accuracy``: distances of the mesh to the truth; ``completeness``: of truth that at least
    two photos see to the mesh; medians and 95th percentiles, in voxels. ``colour``: median error in
    levels. ``holes``: share of the pixels of surface that two photos see, 3 pixels from outlines,
    where the mesh is missing.
    """

    photos: int
    voxel: float
    triangles: int
    accuracy: float
    accuracy_95: float
    completeness: float
    completeness_95: float
    colour: float
    holes: float
    cpu_seconds: float
    seconds: float


@dataclass(frozen=True)
class CleaningScores:
    """Pieces of one saved scene's mesh before cleaning, and what cleaning removed."""

    scene: str
    pieces: float
    floaters_removed: float
    floater_triangles_removed: float
    triangles_before: float
    triangles: int
    seconds: float


def exact(count: int = 10, width: int = 512, height: int = 384) -> ExactScores:
    """Fuse ``count`` exact photos and compare with the truth."""
    room = make_room(count, width, height)
    views = [_view(room, k) for k in range(count)]
    # What a first call costs is importing and starting threads, not fusing.
    fuse_surface(views[:1], options=FusionOptions(voxel_size=0.2))
    start, cpu = time.perf_counter(), time.process_time()
    surface = fuse_surface(views)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    voxel = surface.statistics["voxel_size"]
    accuracy = distance_to_truth(surface.mesh.vertices.astype(np.float64)) / voxel
    colour = np.abs(surface.mesh.colours - colours_at(surface.mesh.vertices)).mean(axis=1)
    gaps, holes = _compare(room, surface.mesh, voxel)
    return ExactScores(
        photos=count,
        voxel=voxel,
        triangles=len(surface.mesh.faces),
        accuracy=float(np.median(accuracy)),
        accuracy_95=float(np.quantile(accuracy, 0.95)),
        completeness=float(np.median(gaps)),
        completeness_95=float(np.quantile(gaps, 0.95)),
        colour=float(np.median(colour)),
        holes=holes,
        cpu_seconds=cpu,
        seconds=seconds,
    )


def _view(room: RoomScene, index: int) -> View:
    depth = room.depth[index]
    height, width = depth.shape
    pose = room.cam_to_world[index]
    world = transform_points(pose, unproject(depth, room.intrinsics))
    camera = Camera(room.intrinsics, width, height, pose)
    name = f"{index:03d}.jpg"
    pixels = colours_at(world).round().astype(np.uint8)
    return View(
        name, Path(name), camera, LoadedMaps(pixels, depth, np.ones(depth.shape, np.float32))
    )


def colours_at(points: NDArray[np.floating]) -> Array:
    """Return the true colours (..., 3), 0 to 255, of points (..., 3): waves about a unit long."""
    waves = np.sin(np.asarray(points, np.float64) @ [[5, 2, -3], [1, 6, 2], [-2, 3, 5]] + [0, 1, 2])
    return 127.5 + 100 * waves


def distance_to_truth(points: Array) -> Array:
    """Return how far points (P, 3) are from the nearest wall or ball."""
    distances = [np.abs(np.abs(points[:, axis]) - HALF_BOX[axis]) for axis in range(3)]
    for x, y, z, radius in BALLS:
        distances.append(np.abs(np.linalg.norm(points - [x, y, z], axis=1) - radius))
    return np.asarray(np.min(distances, axis=0))


def _compare(room: RoomScene, mesh: Mesh, voxel: float) -> tuple[Array, float]:
    """Return distances in voxels to the mesh from truth that two photos see, and the holes."""
    import cv2
    import open3d as o3d
    import open3d.core as o3c

    rim = np.ones((7, 7), np.uint8)
    caster = o3d.t.geometry.RaycastingScene()
    caster.add_triangles(
        o3c.Tensor.from_numpy(mesh.vertices), o3c.Tensor.from_numpy(mesh.faces.astype(np.uint32))
    )
    height, width = room.depth.shape[1:]
    rays = pixel_rays(pixel_centres(width, height), room.intrinsics)
    gaps, missing, seen_twice = [], 0, 0
    for index, pose in enumerate(room.cam_to_world):
        world = transform_points(pose, unproject(room.depth[index], room.intrinsics))
        twice = _seen_by_another(room, index, world)
        points = world[twice].astype(np.float32)
        gaps.append(caster.compute_distance(o3c.Tensor.from_numpy(points[::7])).numpy() / voxel)
        origins = np.broadcast_to(pose[:3, 3], rays.shape)
        table = np.concatenate([origins, rays @ pose[:3, :3].T], -1).astype(np.float32)
        # With z = 1 along each ray, the distance is depth.
        found = caster.cast_rays(o3c.Tensor.from_numpy(table))["t_hit"].numpy()
        # A ray along an outline passes the rim of a surface that is fine within half a voxel.
        edges = on_edge(room.depth[index], 0.03).astype(np.uint8)
        inner = twice & (cv2.dilate(edges, rim) == 0)
        missing += int((found > room.depth[index] + 5 * voxel)[inner].sum())
        seen_twice += int(inner.sum())
    return np.concatenate(gaps).astype(np.float64), missing / max(seen_twice, 1)


def _seen_by_another(room: RoomScene, index: int, world: Array) -> NDArray[np.bool_]:
    """Return which pixels (h, w) of a photo show what another photo sees, too."""
    height, width = world.shape[:2]
    seen = np.zeros((height, width), bool)
    for other, pose in enumerate(room.cam_to_world):
        if other == index:
            continue
        camera = transform_points(invert_rigid(pose), world)
        xy = project(camera, room.intrinsics)
        with np.errstate(invalid="ignore"):
            inside = np.all((xy >= 0) & (xy < [width, height]), axis=-1)
        column, row = np.moveaxis(np.where(inside[..., None], xy, 0).astype(int), -1, 0)
        same = np.abs(room.depth[other][row, column] / camera[..., 2] - 1) < 0.01
        seen |= inside & same
    return seen


def cleaning(folder: Path) -> CleaningScores:
    """Fuse a saved scene again and return what was removed from it."""
    from recon.export import load_scene

    scene = load_scene(folder)
    start = time.perf_counter()
    surface = fuse_surface(scene.views)
    found = surface.statistics
    return CleaningScores(
        scene=folder.name,
        pieces=found.get("pieces", 0),
        floaters_removed=found.get("floaters_removed", 0),
        floater_triangles_removed=found.get("floater_triangles_removed", 0),
        triangles_before=found.get("triangles_before_cleaning", 0),
        triangles=len(surface.mesh.faces),
        seconds=time.perf_counter() - start,
    )


def _table(
    rows: Sequence[ExactScores] | Sequence[CleaningScores] | Sequence[CourtyardScores],
) -> str:
    cells = [{name: _text(value) for name, value in asdict(row).items()} for row in rows]
    return markdown(list(cells[0]), [list(row.values()) for row in cells])


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value == int(value) else f"{value:.4g}"
    return str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables and write the JSON; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="benchmarks.surface", description=__doc__)
    parser.add_argument("scenes", nargs="*", type=Path)
    parser.add_argument("--courtyard", type=Path, help="a saved scene of the sample photos")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    measured = [exact()]
    print(_table(measured))
    cleaned = [cleaning(folder) for folder in given.scenes]
    if cleaned:
        print(f"\n{_table(cleaned)}")
    sample = [courtyard(given.courtyard)] if given.courtyard else []
    if sample:
        print(f"\n{_table(sample)}")
    write_figures(given.json, exact=measured, scenes=cleaned, courtyard=sample)
    return 0


if __name__ == "__main__":
    sys.exit(main())
