"""Points of a scene's surfaces with their normals: an even choice of what the depth maps hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_centres, pixel_rays
from recon.depth.derived_maps import depth_normals
from recon.scene import View
from recon.stage_results import CONFIRMED

_ALONG = 64  # points along a depth map's long side
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
    pose, depth, confidence = view.camera.cam_to_world, view.depth, view.confidence
    assert pose is not None
    height, width = depth.shape
    K, k1 = view.camera.intrinsics_at(width, height), view.camera.k1
    step = max(1, max(height, width) // _ALONG)
    grid = slice(step // 2, None, step), slice(step // 2, None, step)
    known = np.isfinite(depth[grid]) & (depth[grid] > 0)
    rays = pixel_rays(pixel_centres(width, height)[grid][known], K, k1)
    points = rays * depth[grid][known][:, None]
    normals = depth_normals(np.where(np.isfinite(depth), depth, 0), K, k1)[grid][known]
    rotation = pose[:3, :3]
    return (
        points @ rotation.T + pose[:3, 3],
        normals @ rotation.T,
        confidence[grid][known] > CONFIRMED,
    )
