"""Points to start a training of Gaussian splats from: spread evenly over all of the surface.

Tracks alone crowd where there is texture and leave plain surfaces bare, where a trainer then has to
invent Gaussians; the whole cloud is more than it wants.
"""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array, Mask, invert_rigid, project, transform_points
from recon.export.grid_cells import grid_cells
from recon.export.usable_tracks import in_placed_photos, kept, of_two_photos
from recon.scene import Scene, Tracks, View

MOST = 5_000_000
_AGREES = 0.02  # a photo whose depth is this near, relative, sees the point


def seed_tracks(scene: Scene, count: int) -> Tracks:
    """Return up to ``count`` points (8 or more) of the scene, one in each cell of a grid.

    A cell's point is a track where it has one, otherwise its surest point of the cloud. Each has
    the photos that see it, two or more: by its matches, or by their depth.
    """
    matched, surface = of_two_photos(in_placed_photos(scene)), of_two_photos(_surface_tracks(scene))
    points = np.concatenate([matched.points, surface.points])
    if not len(points):
        return Tracks.empty()
    # The first of each cell.
    chosen = np.unique(grid_cells(points, count), return_index=True)[1]
    keep = np.zeros(len(points), bool)
    keep[chosen] = True
    both = Tracks(
        points,
        np.concatenate([matched.colours, surface.colours]),
        np.concatenate([matched.point_index, len(matched.points) + surface.point_index]),
        np.concatenate([matched.view_index, surface.view_index]),
        np.concatenate([matched.xy, surface.xy]),
    )
    return kept(both, keep)


def _surface_tracks(scene: Scene) -> Tracks:
    """Return the cloud's points, the surest first, with the photos whose depth shows them."""
    cloud = scene.cloud
    finite = np.flatnonzero(np.isfinite(cloud.points).all(axis=1))
    order = finite[np.argsort(-cloud.confidence[finite], kind="stable")]
    points = cloud.points[order].astype(np.float64)
    point, number, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 2))]
    for k, view in enumerate(scene.views):
        if view.registered:
            shown, xy = _shown(view, points)
            point.append(np.flatnonzero(shown))
            number.append(np.full(shown.sum(), k))
            places.append(xy[shown])
    return Tracks(
        points,
        cloud.colours[order],
        np.concatenate(point),
        np.concatenate(number),
        np.concatenate(places),
    )


def _shown(view: View, points: Array) -> tuple[Mask, Array]:
    """Return which ``points`` (N, 3) a placed photo's depth shows, and where all are in the photo,
    (N, 2) in original pixels.
    """
    depth, camera = view.depth, view.camera
    assert camera.cam_to_world is not None
    in_camera = transform_points(invert_rigid(camera.cam_to_world), points)
    xy = project(in_camera, camera.intrinsics, camera.lens)
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(((xy >= 0) & (xy < [camera.width, camera.height])).all(axis=1))
    height, width = depth.shape
    x, y = (xy[rows] * [width / camera.width, height / camera.height]).astype(np.intp).T
    z = in_camera[rows, 2]
    there = depth[np.minimum(y, height - 1), np.minimum(x, width - 1)]
    shown = np.zeros(len(points), bool)
    shown[rows] = np.abs(there - z) < _AGREES * z
    return shown, xy
