"""What colour a point is drawn in: its photo's, or that of its depth, normal or confidence.

Shared by the window, the browser viewer and the pages, so that one choice looks the same in all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recon.export.colour import UNKNOWN_GREY, confidence_to_rgb, depth_to_rgb
from recon.scene import Mesh, PointCloud, Scene
from viz.drawing.viewpoint import registered_cameras, scene_frame

Colouring = Literal["photo", "depth", "normal", "confidence"]
"""The choices of colour."""

COLOURINGS: tuple[Colouring, ...] = get_args(Colouring)

_MOST_SEARCHED = 200_000  # cloud points that lend the surface their confidence


def cloud_colours(scene: Scene, colouring: Colouring) -> NDArray[np.uint8]:
    """Return the colours (N, 3) of the cloud's points by ``colouring``."""
    cloud = scene.cloud
    if colouring == "confidence":
        return confidence_to_rgb(cloud.confidence)
    return _colours(scene, colouring, cloud.points, cloud.normals, cloud.colours)


def confident_cloud(scene: Scene, colouring: Colouring, least_confidence: float) -> PointCloud:
    """Return the cloud's points of at least that confidence, so coloured."""
    cloud = scene.cloud
    keep = (cloud.confidence >= least_confidence) & np.isfinite(cloud.points).all(axis=1)
    colours = cloud_colours(scene, colouring)
    return PointCloud(
        cloud.points[keep], colours[keep], cloud.normals[keep], cloud.confidence[keep]
    )


def coloured_surface(scene: Scene, colouring: Colouring) -> Mesh:
    """Return the mesh, its vertices coloured by ``colouring``.

    A vertex is as sure as the cloud's point next to it; without a cloud all are grey.
    """
    mesh = scene.surface
    if colouring != "confidence":
        colours = _colours(scene, colouring, mesh.vertices, mesh.normals, mesh.colours)
    elif len(scene.cloud.points):
        colours = confidence_to_rgb(confidence_near(scene.cloud, mesh.vertices))
    else:
        colours = np.full(mesh.colours.shape, UNKNOWN_GREY, np.uint8)
    return replace(mesh, colours=colours)


def _colours(
    scene: Scene,
    colouring: Colouring,
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    photo: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    if colouring == "depth":
        return depth_to_rgb(_distance(scene, points))
    if colouring == "normal":
        # Right is red, up is green, towards the viewer is blue, as normal maps have it.
        upright = normals @ scene_frame(scene).axes * [1.0, -1.0, -1.0]
        return np.rint(127.5 * (1 + np.clip(np.nan_to_num(upright), -1, 1))).astype(np.uint8)
    return photo


def _distance(scene: Scene, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each point (N, 3) lies from the nearest placed camera; 0 without any."""
    from scipy.spatial import cKDTree

    centres = [pose[:3, 3] for _, _, pose in registered_cameras(scene)]
    finite = np.isfinite(points).all(axis=1)
    distance = np.zeros(len(points), np.float32)
    if centres and finite.any():
        distance[finite] = cKDTree(np.array(centres)).query(points[finite])[0]
    return distance


def confidence_near(cloud: PointCloud, places: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the confidence (N,) of the cloud's point next to each place (N, 3); 0 without any."""
    from scipy.spatial import cKDTree

    finite = np.flatnonzero(np.isfinite(cloud.points).all(axis=1))
    chosen = finite[:: max(1, len(finite) // _MOST_SEARCHED)]
    if len(chosen) == 0:
        return np.zeros(len(places), np.float32)
    nearest = cKDTree(cloud.points[chosen]).query(places, workers=-1)[1]
    return cloud.confidence[chosen][nearest]
