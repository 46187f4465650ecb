"""Which depth takes part in fusion: sure enough, away from edges, in patches rather than specks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, pinhole_grid, project, transform_points, unproject
from recon.depth.derived_maps import on_edge
from recon.fusion.options import FusionOptions
from recon.fusion.sky import sky_mask
from recon.scene import View

# Depth that no other photo confirmed carries at most 0.3; below this it is a guess.
_LEAST_CONFIDENCE = 0.1


@dataclass(frozen=True)
class Frame:
    """One usable depth map: ``depth`` (h, w) float32, 0 where masked; its ``confidence``."""

    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    intrinsics: Array
    cam_to_world: Array
    k1: float = 0.0


def usable_frames(views: Sequence[View], options: FusionOptions) -> list[Frame]:
    """Return the registered views that keep any depth once sky, unsure pixels and edges are masked.

    Less sure depth stays where more photos measured the same than look past it: a plain wall, which
    matching cannot confirm but on which the network's depths of several photos meet. Where less
    than a twentieth of all depth is sure enough (one photo, or depth that was never compared
    between photos) the surest nine tenths are taken instead of next to nothing.
    """
    placed = [view for view in views if view.registered and view.depth.size]
    sure = _threshold(placed, options.min_confidence)
    frames = []
    for view in placed:
        assert view.camera.cam_to_world is not None
        known = _measured(view) & (view.confidence >= min(sure, _LEAST_CONFIDENCE))
        if len(placed) > 1:
            known &= ~sky_mask(view.pixels, _measured(view) & (view.confidence >= sure))
        depth = np.where(known, view.depth, 0).astype(np.float32)
        depth = _without_edges(depth, options.max_depth_jump)
        frames.append(
            Frame(
                depth,
                view.confidence.astype(np.float32),
                view.pixels,
                view.depth_intrinsics,
                view.camera.cam_to_world,
                view.camera.k1,
            )
        )
    supported = [
        _supported(frame, others, sure)
        for frame, others in zip(frames, witnesses(frames), strict=True)
    ]
    return [frame for frame in supported if (frame.depth > 0).any()]


def _supported(frame: Frame, others: Sequence[Frame], sure: float) -> Frame:
    """Return the frame without depth of low confidence that the others don't support."""
    unsure = (frame.depth > 0) & (frame.confidence < sure)
    if not unsure.any():
        return frame
    camera = unproject(frame.depth, frame.intrinsics, frame.k1)[unsure]
    depth = frame.depth.copy()
    depth[unsure] *= count_votes(others, transform_points(frame.cam_to_world, camera)) > 0
    depth[_speckle(depth > 0)] = 0
    return replace(frame, depth=depth)


def witnesses(frames: Sequence[Frame], count: int = 12) -> list[list[Frame]]:
    """Return for each frame the others, at most ``count``, that look at most of what it measured.

    So that the work grows with the number of photos, not with its square.
    """
    if len(frames) <= count + 1:
        return [[other for other in frames if other is not frame] for frame in frames]
    chosen = []
    for number, frame in enumerate(frames):
        rows, columns = np.nonzero(frame.depth > 0)
        few = slice(None, None, max(1, len(rows) // 200))
        camera = unproject(frame.depth, frame.intrinsics, frame.k1)[rows[few], columns[few]]
        world = transform_points(frame.cam_to_world, camera)
        seen = [-1 if other is frame else int(_look_up(other, world)[0].sum()) for other in frames]
        # Of equals the nearest in the order in which the photos were given.
        order = sorted(range(len(frames)), key=lambda k: (-seen[k], abs(k - number)))
        chosen.append([frames[k] for k in order[:count] if seen[k] > 0])
    return chosen


def count_votes(others: Sequence[Frame], world: Array, margin: float = 0.03) -> Array:
    """Return how many more of the frames measured points (P, 3) too than look past them.

    ``margin``: relative difference of depth up to which both are one surface, as wide as the step
    that counts as an edge (``FusionOptions.max_depth_jump``).
    """
    total = np.zeros(len(world))
    for other in others:
        inside, ratio = _look_up(other, world)
        total += inside & (np.abs(ratio - 1) < margin)
        total -= inside & (ratio > 1 + margin)
    return total


def as_pinhole(frame: Frame, max_depth_jump: float) -> Frame:
    """Return the frame as a pinhole would have taken it: itself when there is no distortion.

    Depth along z is the same on both sides, as each pixel keeps its ray. It is interpolated on
    surfaces (inverse depth, linear on planes) and taken from the nearest pixel between them.
    """
    import cv2

    if frame.k1 == 0:
        return frame
    height, width = frame.depth.shape
    intrinsics, xy = pinhole_grid(width, height, frame.intrinsics, frame.k1)
    # OpenCV counts pixels from the centre of the first; beyond the lens there is nothing.
    x, y = np.moveaxis(np.nan_to_num(xy - 0.5, nan=-1e4).astype(np.float32), -1, 0)
    near = cv2.remap(frame.depth, x, y, cv2.INTER_NEAREST)
    inverse = np.where(frame.depth > 0, 1 / np.maximum(frame.depth, 1e-12), 0).astype(np.float32)
    smooth = 1 / np.maximum(cv2.remap(inverse, x, y, cv2.INTER_LINEAR), 1e-12)
    on_surface = np.abs(smooth - near) < max_depth_jump * near
    return Frame(
        np.where(on_surface, smooth, near).astype(np.float32),
        cv2.remap(frame.confidence, x, y, cv2.INTER_NEAREST).astype(np.float32),
        cv2.remap(frame.pixels, x, y, cv2.INTER_LINEAR).astype(np.uint8),
        intrinsics,
        frame.cam_to_world,
    )


def automatic_voxel_size(frames: Sequence[Frame], options: FusionOptions) -> float:
    """Return 1.5 pixel footprints at the median depth, more where the mesh would grow too large.

    A surface of area S gives about 2 S / voxel^2 triangles; S is at most what all photos see.
    """
    footprints, area = [], 0.0
    for frame in frames:
        z = frame.depth[frame.depth > 0].astype(np.float64)
        focal = np.sqrt(frame.intrinsics[0, 0] * frame.intrinsics[1, 1])
        footprints.append(np.median(z) / focal)
        area += float(((z / focal) ** 2).sum())
    # Overlapping photos see the same surface again; half of what they see is a safe guess.
    area *= 0.5 if len(frames) > 2 else 1.0
    return float(max(1.5 * np.median(footprints), np.sqrt(2 * area / options.max_triangles)))


def _look_up(other: Frame, world: Array) -> tuple[NDArray[np.bool_], Array]:
    """Return which points (P, 3) lie inside the frame's picture, and the depth measured there over
    that of the point, 0 where unknown.
    """
    camera = transform_points(invert_rigid(other.cam_to_world), world)
    xy = project(camera, other.intrinsics, other.k1)
    height, width = other.depth.shape
    with np.errstate(invalid="ignore"):
        inside = np.all((xy >= 0) & (xy < [width, height]), axis=-1)
    column, row = np.where(inside[:, None], xy, 0).astype(int).T
    return inside, other.depth[row, column] / np.where(inside, camera[:, 2], 1)


def inside_box(points: NDArray[np.floating], box: Sequence[float] | None) -> NDArray[np.bool_]:
    """Return which points (P, 3) lie in ``box`` (x, y, z of its low corner, then of its high one);
    all without a box.
    """
    if box is None:
        return np.ones(len(points), bool)
    return np.all((points >= np.array(box[:3])) & (points <= np.array(box[3:])), axis=-1)


def _measured(view: View) -> NDArray[np.bool_]:
    return np.isfinite(view.depth) & (view.depth > 0) & (view.confidence > 0)


def _threshold(views: Sequence[View], wanted: float) -> float:
    """Return the confidence to ask for; see ``usable_frames``."""
    found = np.concatenate([np.zeros(0), *(view.confidence[_measured(view)] for view in views)])
    if not len(found) or (found >= wanted).mean() > 0.05:
        return wanted
    return float(np.quantile(found, 0.1))


def _without_edges(depth: NDArray[np.float32], max_jump: float) -> NDArray[np.float32]:
    """Return depth (h, w) with 0 at edges between surfaces and in specks.

    Depth that would lose more than half of itself is rough all over rather than at edges (a poor
    prior that nothing sharpened) and comes back as it is: rough geometry beats none.
    """
    masked = np.where(on_edge(depth, max_jump), 0, depth)
    masked[_speckle(masked > 0)] = 0
    return masked if (masked > 0).sum() > 0.5 * (depth > 0).sum() else depth


def _speckle(known: NDArray[np.bool_], share: float = 3e-4) -> NDArray[np.bool_]:
    """Return pixels (h, w) of connected patches smaller than ``share`` of the photo: by default
    below 60 pixels of 512 x 384.
    """
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(known.astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < share * known.size
    return known & small[labels]
