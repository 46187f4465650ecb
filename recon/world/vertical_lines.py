"""Edges of walls, doors, trunks: what stands upright in the photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pointmap.camera import Array, pixel_rays
from recon.scene import View

# Shorter ones are of leaves and gravel; as a share of the picture's long side.
_SHORTEST = 0.04
_MOST_PER_PHOTO = 150


@dataclass(frozen=True)
class Lines:
    """Line segments of photos, as the planes through them and the camera's centre.

    ``normals`` (L, 3) unit, world: square to up where the segment stands upright, and where it lies
    in an upright plane with the camera; ``lengths`` (L,) as shares of the picture's long side.
    """

    normals: Array
    lengths: Array


def find_lines(view: View) -> Lines:
    """Return the longest line segments of one placed photo.

    Detector: von Gioi et al., LSD, IPOL 2012, as OpenCV has it.
    """
    import cv2

    pose = view.camera.cam_to_world
    assert pose is not None
    grey = cv2.cvtColor(view.pixels, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    found = cv2.createLineSegmentDetector().detect(grey)[0]
    # OpenCV 4 gives (L, 1, 4), 5 gives (L, 4), and None stands for no line.
    ends = np.zeros((0, 2, 2)) if found is None else np.asarray(found, float).reshape(-1, 2, 2)
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / max(height, width)
    order = np.argsort(-lengths, kind="stable")[:_MOST_PER_PHOTO]
    order = order[lengths[order] >= _SHORTEST]
    # OpenCV counts pixels from the first one's centre.
    K = view.camera.intrinsics_at(width, height)
    rays = pixel_rays(ends[order] + 0.5, K, view.camera.lens) @ pose[:3, :3].T
    normals = np.cross(rays[:, 0], rays[:, 1])
    sizes = np.linalg.norm(normals, axis=1, keepdims=True)
    return Lines(normals / sizes.clip(1e-12), lengths[order])


def joined(parts: list[Lines]) -> Lines:
    """Return the lines of several photos in one."""
    return Lines(
        np.concatenate([np.zeros((0, 3)), *(part.normals for part in parts)]),
        np.concatenate([np.zeros(0), *(part.lengths for part in parts)]),
    )
