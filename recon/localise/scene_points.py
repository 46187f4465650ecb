"""Which point of the scene a key point of one of its photos shows."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from pointmap.camera import Array, Index, pixel_rays, transform_points
from recon.export.depth_npz import StoredDepth
from recon.scene import Camera, Tracks
from recon.stage_results import CONFIRMED, unit_px

# A key point is that of a track this near to it (pixels of a 640 px photo): the photo's own
# features are found in the same places as when the scene was made.
_SAME_PX = 0.5
# Where depth around a key point differs by more, it lies on an outline and belongs to either side.
_SMOOTH = 0.02


def scene_points(
    camera: Camera, tracks: Tracks, rows: Index, depth: StoredDepth, xy: Array
) -> Array:
    """Return the world points (K, 3) that a photo shows at ``xy`` (K, 2), NaN where unknown.

    The track that was observed there, ``rows`` of ``tracks`` being the photo's observations; else
    what depth that another photo confirmed says.
    """
    points = _from_depth(camera, depth, xy)
    if len(rows) and len(xy):
        distance, nearest = KDTree(tracks.xy[rows]).query(xy)
        known = distance < _SAME_PX * unit_px(camera)
        points[known] = tracks.points[tracks.point_index[rows[nearest[known]]]]
    return points


def _from_depth(camera: Camera, stored: StoredDepth, xy: Array) -> Array:
    """Return world points (K, 3) of confirmed, smooth depth around ``xy`` (K, 2); else NaN."""
    if camera.cam_to_world is None:
        raise ValueError("the photo has no pose")
    height, width = stored.depth.shape
    usable = np.where(stored.confidence > CONFIRMED, stored.depth, 0).astype(np.float64)
    # The pixel centres around each place: (x0, y0) and the next ones.
    at = xy * [width / camera.width, height / camera.height] - 0.5
    corner = np.clip(np.floor(at).astype(int), 0, [max(width - 2, 0), max(height - 2, 0)])
    right, down = np.minimum(corner + 1, [width - 1, height - 1]).T
    left, up = corner.T
    four = np.stack([usable[up, left], usable[up, right], usable[down, left], usable[down, right]])
    near, far = four.min(axis=0), four.max(axis=0)
    known = (near > 0) & (far < (1 + _SMOOTH) * near)
    # Inverse depth, as on a plane it is linear in the pixel.
    s, t = np.clip(at - corner, 0, 1).T
    weights = np.stack([(1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t])
    z = 1 / (weights / np.where(known, four, 1.0)).sum(axis=0)
    rays = pixel_rays(xy, camera.intrinsics, camera.lens)
    points = transform_points(camera.cam_to_world, rays * z[:, None])
    return np.where(known[:, None], points, np.nan)
