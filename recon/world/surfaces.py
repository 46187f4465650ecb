"""Points of a scene's surfaces with their normals: an even choice of what the depth maps hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, scale_intrinsics, unproject
from recon.depth.derived_maps import depth_normals
from recon.scene import View
from recon.stage_results import CONFIRMED

_ALONG = 96  # points along a depth map's long side
_ENOUGH = 0.1  # share of confirmed depth that can do without the rest


@dataclass(frozen=True)
class Surfaces:
    """``points`` and ``normals`` (N, 3) float64, world; normals face the cameras. ``confirmed``:
    whether photos confirmed each other's depth there.
    """

    points: Array
    normals: Array
    confirmed: bool


def find_surfaces(views: Sequence[View]) -> Surfaces:
    """Return points on a grid of pixels of every placed photo.

    Of confirmed depth, or of all depth where hardly any is confirmed (one photo by itself).
    """
    parts = [_of_photo(view) for view in views]
    points = np.concatenate([np.zeros((0, 3)), *(part[0] for part in parts)])
    normals = np.concatenate([np.zeros((0, 3)), *(part[1] for part in parts)])
    sure = np.concatenate([np.zeros(0, bool), *(part[2] for part in parts)])
    confirmed = len(views) > 1 and bool(sure.sum() > _ENOUGH * len(sure))
    keep = sure if confirmed else np.ones(len(sure), bool)
    return Surfaces(points[keep], normals[keep], confirmed)


def _of_photo(view: View) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return points and normals (N, 3), and whether each was confirmed."""
    pose, depth = view.camera.cam_to_world, view.depth
    assert pose is not None
    height, width = depth.shape
    step = max(1, max(height, width) // _ALONG)
    first = step // 2
    sparse = depth[first::step, first::step]
    sparse = np.where(np.isfinite(sparse), sparse, 0)
    # The pinhole whose pixels are every so many of the map's: normals of neighbours far apart.
    K = view.camera.intrinsics_at(width, height)
    K[:2, 2] -= first + 0.5
    K = scale_intrinsics(K, 1 / step, 1 / step)
    K[:2, 2] += 0.5
    lens, rotation, known = view.camera.lens, pose[:3, :3], sparse > 0
    return (
        unproject(sparse, K, lens)[known] @ rotation.T + pose[:3, 3],
        depth_normals(sparse, K, lens)[known] @ rotation.T,
        view.confidence[first::step, first::step][known] > CONFIRMED,
    )
