"""The frame of a scene's coordinates: z up from the floor, y the way that the photos look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array, rigid
from recon.scene import View, World, WorldKind, cameras_and_maps
from recon.work.content_key import content_key
from recon.work.folder import Work
from recon.world.gravity import estimate_up
from recon.world.surfaces import Surfaces, find_surfaces
from recon.world.vertical_lines import find_lines, joined

# Of settled, for results that were kept.
_VERSION = 1
# Photos that are looked at, evenly spaced: more say nothing new.
_MOST_VIEWS = 60
# Surfaces within so much of level or upright are floors or walls.
_LEVEL_DEG, _UPRIGHT_DEG = 15.0, 10.0
# Walls stand square to each other: within so much of one direction (mod 90 degrees) so large a
# share of what stands upright. By chance it would be a ninth.
_WALL_DEG, _WALL_SHARE = 5.0, 0.25
# The floor is the lowest level whose area is so large a part of the largest's.
_FLOOR_PART = 0.25
_HEIGHTS = 60  # in which heights are counted
# Less than that of a scene is no floor, but noise.
_LEVEL_SHARE = 0.05


def settled(
    views: Sequence[View],
    kind: WorldKind,
    given: World | None = None,
    *,
    work: Work | None = None,
) -> tuple[tuple[View, ...], World, Array | None]:
    """Return the views in the world that a scene gets, what is known of it, and the rigid
    new_from_old (4, 4) that took them there, None where they stay as they are.

    ``given``: the world of known cameras, which stays. ``kind`` says what becomes of any other.
    What is found is kept in ``work``, if there is one.
    """
    if given is not None and given.up is not None:
        return tuple(views), given, None
    placed = [view for view in views if view.registered]
    if not placed:
        return tuple(views), given or World("first-camera"), None
    if work is None:
        world, turn = _world_of(placed, kind, given)
    else:
        key = content_key("world", _VERSION, cameras_and_maps(placed), kind, given)
        world, turn = work.once(key, lambda: _world_of(placed, kind, given))
    if turn is None:
        return tuple(views), world, None
    return tuple(moved(view, turn) for view in views), world, turn


def _world_of(
    placed: Sequence[View], kind: WorldKind, given: World | None
) -> tuple[World, Array | None]:
    """Return what is known of the world of placed views, and new_from_old (4, 4) as above."""
    chosen = placed[:: -(-len(placed) // _MOST_VIEWS)]
    surfaces = find_surfaces(chosen)
    poses = np.array([view.camera.cam_to_world for view in placed])
    lines = joined([find_lines(view) for view in chosen])
    up = estimate_up(poses, lines, surfaces)
    direction = (float(up.direction[0]), float(up.direction[1]), float(up.direction[2]))
    if given is not None or kind == "first-camera":
        return World("given" if given else kind, direction, up.sigma_deg), None
    new_from_old = upright_from(poses, up.direction, surfaces)
    return World("upright", (0.0, 0.0, 1.0), up.sigma_deg), new_from_old


def moved(view: View, new_from_old: Array) -> View:
    """Return the view in another world."""
    pose = view.camera.cam_to_world
    if pose is None:
        return view
    return replace(view, camera=replace(view.camera, cam_to_world=new_from_old @ pose))


def upright_from(cam_to_world: Array, up: Array, surfaces: Surfaces) -> Array:
    """Return new_from_old (4, 4) of cameras (N, 4, 4) and their scene's ``surfaces``.

    z is ``up``, and y the level direction in which the cameras look, or the nearest to it of the
    main walls' four; the floor is near z = 0 and the scene's middle above the origin.
    """
    forward = level_forward(cam_to_world[:, :3, 2], up)
    forward = _along_walls(forward / np.linalg.norm(forward), up, surfaces.normals)
    axes = np.stack([np.cross(forward, up), forward, up])
    points = surfaces.points if len(surfaces.points) else cam_to_world[:, :3, 3]
    placed, normals = points @ axes.T, surfaces.normals @ axes.T
    origin = np.append(np.median(placed[:, :2], axis=0), _floor(placed[:, 2], normals))
    return rigid(axes, -origin)


def level_forward(forwards: Array, up: Array) -> Array:
    """Return the level direction (3,) in which cameras looking along ``forwards`` (N, 3) look.

    Cameras all around an object have no such direction: the first camera's then stands for it.
    """
    for candidate in (forwards.mean(axis=0), forwards[0]):
        level = candidate - up * (candidate @ up)
        if np.linalg.norm(level) > 0.3:
            return level
    # Looking straight up or down: any level direction will do.
    return np.cross(up, np.eye(3)[np.argmin(np.abs(up))])


def _along_walls(forward: Array, up: Array, normals: Array) -> Array:
    """Return the unit level ``forward`` (3,), turned onto the main walls' nearest direction."""
    right = np.cross(forward, up)
    upright = normals[np.abs(normals @ up) < np.sin(np.radians(_UPRIGHT_DEG))]
    if not len(upright):
        return forward
    quarter = np.pi / 2
    heading = np.arctan2(upright @ right, upright @ forward) % quarter
    counts, edges = np.histogram(heading, 90, (0, quarter))
    smooth = sum(np.roll(counts, k) for k in range(-3, 4))
    wall = edges[np.argmax(smooth)] + edges[1] / 2
    for _ in range(3):
        off = (heading - wall + quarter / 2) % quarter - quarter / 2
        near = np.abs(off) < np.radians(_WALL_DEG)
        if near.mean() < _WALL_SHARE:
            return forward
        wall += off[near].mean()
    turn = (wall + quarter / 2) % quarter - quarter / 2
    return np.cos(turn) * forward + np.sin(turn) * right


def _floor(heights: Array, normals: Array) -> float:
    """Return the height of the floor among points at ``heights`` (N,) with ``normals`` (N, 3).

    The lowest of the levels that much surface lies at; without one, the height that almost all of
    the scene is above.
    """
    lowest, highest = np.percentile(heights, [2, 98])
    # Without surfaces the heights are the cameras', which have no normals.
    level = heights[: len(normals)][normals[:, 2] > np.cos(np.radians(_LEVEL_DEG))]
    level = level[(level >= lowest - 0.1 * (highest - lowest)) & (level <= highest)]
    if len(level) < _LEVEL_SHARE * len(heights) or not highest > lowest:
        return float(lowest)
    counts, edges = np.histogram(level, _HEIGHTS)
    smooth = np.convolve(counts, np.ones(3), "same")
    first = int(np.argmax(smooth >= _FLOOR_PART * smooth.max()))
    # On to the top of that level.
    while first + 1 < _HEIGHTS and smooth[first + 1] > smooth[first]:
        first += 1
    near = (level >= edges[max(first - 1, 0)]) & (level <= edges[min(first + 2, _HEIGHTS)])
    return float(np.median(level[near]))
