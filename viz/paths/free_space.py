"""Where a film may fly: ways through a scene that cross no surface."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, project, transform_points
from recon.scene import Scene, View
from viz.drawing.viewpoint import Viewpoint, registered_cameras, scene_frame

_CLEARANCE = 0.02  # radii of the scene: how near to a surface the eye may come
_CELLS = 44  # along the longest side of the space that is searched for ways
_PHOTOS = 60  # that tell which of it is empty
_PROBES = np.linspace(-0.9, 0.9, 12)  # across a picture of which it is asked what fills it
_BEFORE = 0.98  # share of a photo's depth up to which what lies before it is empty


class FreeSpace:
    """What is known to be empty: before the surface, as the photos of ``scene`` see it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.clearance = _CLEARANCE * scene_frame(scene).radius

    def clear(self, starts: Array, ends: Array) -> NDArray[np.bool_]:
        """Return whether the straight way from each of ``starts`` (N, 3) to ``ends`` meets no
        surface.
        """
        if self._surface is None:
            return np.ones(len(starts), bool)
        import open3d as o3d

        rays = np.hstack([starts, ends - starts]).astype(np.float32)
        hit = self._surface.test_occlusions(o3d.core.Tensor.from_numpy(rays), tnear=0.0, tfar=1.0)
        return np.asarray(~hit.numpy())

    def room(self, points: Array) -> Array:
        """Return how far ``points`` (N, 3) are from the surface; infinity where there is none."""
        if self._surface is None:
            return np.full(len(points), np.inf)
        import open3d as o3d

        query = o3d.core.Tensor.from_numpy(points.astype(np.float32))
        return np.asarray(self._surface.compute_distance(query).numpy(), np.float64)

    def filled(self, view: Viewpoint) -> float:
        """Return the share of a picture from ``view`` that shows some surface; 1 where there is no
        mesh to tell.
        """
        if self._surface is None:
            return 1.0
        import open3d as o3d

        cam_to_world = invert_rigid(view.world_to_cam())
        slope = np.tan(np.radians(view.field_of_view_deg) / 2)
        x, y = np.meshgrid(1.6 * slope * _PROBES, slope * _PROBES)
        along = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1) @ cam_to_world[:3, :3].T
        rays = np.hstack([np.broadcast_to(view.eye, along.shape), along]).astype(np.float32)
        hit = self._surface.test_occlusions(o3d.core.Tensor.from_numpy(rays))
        return float(hit.numpy().mean())

    def way(self, start: Array, end: Array) -> Array | None:
        """Return corners (N, 3) of a way from ``start`` to ``end`` (3,), both included, that meets
        no surface and leaves nothing that photos saw; None where there is none.
        """
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import dijkstra

        if self.clear(start[None], end[None])[0]:
            return np.stack([start, end])
        points, pairs = self._lattice
        nodes = np.vstack([points, start, end])
        near = [(len(points) + k, self._beside(place)) for k, place in enumerate((start, end))]
        links = [np.stack([np.full(len(to), node), to], axis=1) for node, to in near]
        pairs = np.concatenate([pairs, *links])
        lengths = np.linalg.norm(nodes[pairs[:, 0]] - nodes[pairs[:, 1]], axis=1)
        graph = coo_matrix((lengths, pairs.T), shape=(len(nodes), len(nodes))).tocsr()
        cost, before = dijkstra(
            graph, directed=False, indices=len(points), return_predecessors=True
        )
        if not np.isfinite(cost[-1]):
            return None
        corners = [len(points) + 1]
        while corners[-1] != len(points):
            corners.append(int(before[corners[-1]]))
        return self._straightened(nodes[corners[::-1]])

    @cached_property
    def _surface(self) -> Any:
        """Open3D's scene to cast rays in; None without a surface."""
        mesh = self._scene.surface
        if not len(mesh.faces):
            return None
        import open3d as o3d

        surface = o3d.t.geometry.RaycastingScene()
        surface.add_triangles(
            o3d.core.Tensor.from_numpy(np.ascontiguousarray(mesh.vertices, np.float32)),
            o3d.core.Tensor.from_numpy(np.ascontiguousarray(mesh.faces, np.uint32)),
        )
        return surface

    def _beside(self, place: Array) -> NDArray[np.intp]:
        """Return the lattice's points that ``place`` (3,) is joined to."""
        points, _ = self._lattice
        apart = np.linalg.norm(points - place, axis=1)
        nearest = np.argsort(apart)[:40]
        return nearest[self.clear(np.repeat(place[None], len(nearest), axis=0), points[nearest])]

    @cached_property
    def _lattice(self) -> tuple[Array, NDArray[np.intp]]:
        """Empty places (N, 3) on a regular grid about the cameras, and which of them are joined."""
        eyes = np.array([pose[:3, 3] for _, _, pose in registered_cameras(self._scene)])
        margin = 0.3 * scene_frame(self._scene).radius
        low, high = eyes.min(axis=0) - margin, eyes.max(axis=0) + margin
        step = float((high - low).max()) / _CELLS
        counts = np.maximum(1, np.ceil((high - low) / step)).astype(int)
        cells = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1)
        points = low + (cells.reshape(-1, 3) + 0.5) * step
        empty = self._seen_empty(points) & (self.room(points) > self.clearance)
        number = np.where(empty, np.cumsum(empty) - 1, -1).reshape(counts)
        pairs = []
        # One of the two ways along each of a cell's thirteen lines to its neighbours.
        for offset in np.argwhere(np.ones((3, 3, 3)))[14:] - 1:
            here = [slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, counts, strict=True)]
            there = [slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, counts, strict=True)]
            both = np.stack([number[tuple(here)].ravel(), number[tuple(there)].ravel()], axis=1)
            pairs.append(both[(both >= 0).all(axis=1)])
        joined = np.concatenate(pairs)
        points = points[empty]
        return points, joined[self.clear(points[joined[:, 0]], points[joined[:, 1]])]

    def _seen_empty(self, points: Array) -> NDArray[np.bool_]:
        """Return which ``points`` (N, 3) lie before what a photo sees there."""
        placed = [view for view in self._scene.views if view.registered]
        chosen = placed[:: -(-len(placed) // _PHOTOS)]
        empty = np.zeros(len(points), bool)
        for view in chosen:
            empty |= _before_surface(view, points)
        return empty

    def _straightened(self, corners: Array) -> Array:
        """Return the way without the corners that a straight way passes by."""
        kept = [0]
        while kept[-1] < len(corners) - 1:
            ahead = np.arange(len(corners) - 1, kept[-1], -1)
            starts = np.repeat(corners[kept[-1]][None], len(ahead), axis=0)
            free = self.clear(starts, corners[ahead])
            free[-1] = True  # the next one: the way came from there
            kept.append(int(ahead[np.argmax(free)]))
        return corners[kept]


def _before_surface(view: View, points: Array) -> NDArray[np.bool_]:
    """Return which ``points`` (N, 3) the photo of ``view`` sees through."""
    depth, pose = view.depth, view.camera.cam_to_world
    assert pose is not None
    in_camera = transform_points(invert_rigid(pose), points)
    pixels = project(in_camera, view.depth_intrinsics, view.camera.lens)
    height, width = depth.shape
    with np.errstate(invalid="ignore"):
        inside = (in_camera[:, 2] > 0) & ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
    rows = np.flatnonzero(inside)
    x, y = np.floor(pixels[rows]).astype(np.intp).T
    before = np.zeros(len(points), bool)
    before[rows] = in_camera[rows, 2] < _BEFORE * depth[y, x]
    return before
