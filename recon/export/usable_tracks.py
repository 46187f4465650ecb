"""Tracks without what is no evidence for a point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pointmap.camera import Mask
from recon.scene import Scene, Tracks


def in_placed_photos(scene: Scene) -> Tracks:
    """Return the tracks without what unplaced photos show of them."""
    tracks = scene.tracks
    placed = np.array([view.registered for view in scene.views], bool)
    rows = placed[tracks.view_index] if len(placed) else np.zeros(0, bool)
    return replace(
        tracks,
        point_index=tracks.point_index[rows],
        view_index=tracks.view_index[rows],
        xy=tracks.xy[rows],
    )


def of_two_photos(tracks: Tracks) -> Tracks:
    """Return the points that two photos see: fewer are no evidence for one."""
    return kept(tracks, np.bincount(tracks.point_index, minlength=len(tracks.points)) >= 2)


def kept(tracks: Tracks, keep: Mask) -> Tracks:
    """Return the points (P,) of ``keep`` with their observations."""
    rows, number = keep[tracks.point_index], np.cumsum(keep) - 1
    return Tracks(
        points=tracks.points[keep],
        colours=tracks.colours[keep],
        point_index=number[tracks.point_index[rows]],
        view_index=tracks.view_index[rows],
        xy=tracks.xy[rows],
    )
