"""A photo with a depth at every pixel, and what is hidden just behind its edges.

Layered depth images (Shade et al., SIGGRAPH 1998) with two layers: the photo, and a strip of
background behind the near side of each step in depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.errors import InputError
from pointmap.lens import Lens
from recon.depth.resampling import upsample_depth
from recon.fusion.full_photos import full_photo
from recon.scene import Scene, View
from recon.stage_results import DepthMap

JUMP = 0.04
"""A relative step in depth above this separates two surfaces."""

_LONG_SIDE = 1280
_SURE = 1e-3  # share of known neighbours from which a level of the pyramid counts as known


@dataclass(frozen=True)
class PhotoDepth:
    """``pixels`` (h, w, 3) uint8 and the ``depth`` (h, w) float32 along z, > 0 everywhere.

    ``intrinsics`` (3, 3) are those of this size, the ``lens``, ``cam_to_world``
    (4, 4) or None. ``measured`` (h, w): where the depth was known, not filled in. ``up`` (3,): the
    direction away from the ground in the camera's frame, that of the picture where nothing tells.
    """

    name: str
    pixels: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: Array
    lens: Lens
    cam_to_world: Array | None
    measured: NDArray[np.bool_]
    up: Array


def photo_depth(scene: Scene, name: str | None = None) -> PhotoDepth:
    """Return a photo of ``scene`` with its depth, both 1280 pixels long, if the photo is.

    ``name`` is the photo's in the scene, by default the first placed one's; a scene of ``--mode
    depth`` has one photo. Raises ``InputError`` for a name that there is not, and for a photo
    without any depth.
    """
    view = _view(scene, name)
    scale = min(1.0, _LONG_SIDE / max(view.camera.width, view.camera.height))
    known = np.isfinite(view.depth) & (view.depth > 0)
    if not known.any():
        raise InputError(f"{view.name} has no depth: choose another photo")
    pixels = full_photo(view, scale)
    depth = np.where(known, view.depth, 0).astype(np.float32)
    fine = upsample_depth(DepthMap(depth, np.zeros_like(depth)), pixels).depth
    height, width = fine.shape
    return PhotoDepth(
        view.name,
        pixels,
        filled(fine),
        view.camera.intrinsics_at(width, height),
        view.camera.lens,
        view.camera.cam_to_world,
        fine > 0,
        _up(scene, view),
    )


def place_in_photo(photo: PhotoDepth, at: tuple[float, float]) -> tuple[int, int]:
    """Return the row and column of the place ``at``, (x, y) in shares of the picture.

    Raises ``InputError`` outside it.
    """
    x, y = at
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise InputError(f"--at {x} {y} is not in the picture: give shares from 0 to 1")
    h, w = photo.depth.shape
    return min(int(y * h), h - 1), min(int(x * w), w - 1)


def _up(scene: Scene, view: View) -> Array:
    if scene.world.up is None or view.camera.cam_to_world is None:
        return np.array([0.0, -1.0, 0.0])
    up: Array = view.camera.cam_to_world[:3, :3].T @ np.array(scene.world.up)
    return up / np.linalg.norm(up)


def _view(scene: Scene, name: str | None) -> View:
    views = {view.name: view for view in scene.views}
    if name is not None:
        if name not in views:
            raise InputError(f"the scene has no photo {name}: it has {', '.join(list(views)[:8])}")
        return views[name]
    with_pose = [view for view in scene.views if view.registered]
    if not scene.views:
        raise InputError("the scene has no photos")
    return (with_pose or list(scene.views))[0]


def filled(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``depth`` (h, w) with what is unknown (0) filled smoothly from around it.

    Pull and push (Gortler et al., SIGGRAPH 1996) of depth, not of its inverse: a hole between near
    and far is mostly far. At least one pixel is known.
    """
    import cv2

    weights: list[NDArray[Any]] = [(depth > 0).astype(np.float32)]
    sums: list[NDArray[Any]] = [depth * weights[0]]
    while min(sums[-1].shape) > 1:
        sums.append(cv2.pyrDown(sums[-1]))
        weights.append(cv2.pyrDown(weights[-1]))
    whole = float(depth[depth > 0].mean())
    guess: NDArray[Any] = np.full(sums[-1].shape, whole, np.float32)
    for total, weight in zip(reversed(sums), reversed(weights), strict=True):
        size = (total.shape[1], total.shape[0])
        guess = cv2.resize(guess, size, interpolation=cv2.INTER_LINEAR)
        here = weight > _SURE
        guess = np.where(here, total / np.maximum(weight, _SURE), guess)
    return np.where(depth > 0, depth, guess).astype(np.float32)


@dataclass(frozen=True)
class Hidden:
    """The background behind near edges: ``pixels`` (h, w, 3) uint8 and ``depth`` (h, w) float32
    where ``there`` (h, w), the photo's own elsewhere.
    """

    pixels: NDArray[np.uint8]
    depth: NDArray[np.float32]
    there: NDArray[np.bool_]


def hidden_behind(photo: PhotoDepth, reach_px: int) -> Hidden:
    """Return what probably lies behind ``photo``'s surfaces, up to ``reach_px`` from their edges.

    The far side is mirrored at the edge, which continues its texture; where that leads back onto
    something nearer, the edge's own pixel is repeated.
    """
    import cv2

    far = _far_sides(photo.depth)
    if not far.any():
        return Hidden(photo.pixels, photo.depth, far)
    distance, labels = cv2.distanceTransformWithLabels(
        (~far).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(far)
    of_label = np.zeros((labels.max() + 1, 2), np.intp)
    of_label[labels[rows, columns]] = np.stack([rows, columns], axis=1)
    edge = of_label[labels]
    edge_depth = photo.depth[edge[..., 0], edge[..., 1]]
    there = (distance <= reach_px) & (photo.depth * (1 + JUMP) < edge_depth)
    here = np.stack(np.nonzero(there), axis=1)
    at = edge[there]
    mirrored = np.clip(2 * at - here, 0, np.array(photo.depth.shape) - 1)
    alike = photo.depth[mirrored[:, 0], mirrored[:, 1]] * (1 + JUMP) > edge_depth[there]
    source = np.where(alike[:, None], mirrored, at)
    pixels, depth = photo.pixels.copy(), photo.depth.copy()
    pixels[there] = photo.pixels[source[:, 0], source[:, 1]]
    depth[there] = edge_depth[there]
    # Neighbours mirrored at different edges would show as streaks.
    pixels[there] = cv2.medianBlur(pixels, 5)[there]
    return Hidden(pixels, depth, there)


def _far_sides(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the pixels (h, w) beside a nearer surface."""
    far = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        first, second = (np.moveaxis(depth, axis, 0)[part] for part in (slice(-1), slice(1, None)))
        marked = np.moveaxis(far, axis, 0)
        marked[:-1] |= first > second * (1 + JUMP)
        marked[1:] |= second > first * (1 + JUMP)
    return far
