"""A flight past the photos' places, as a person would steer it: smooth, level, through no wall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.scene import Scene
from viz.drawing.viewpoint import Viewpoint, registered_cameras, scene_frame
from viz.paths.free_space import FreeSpace
from viz.paths.tour import tour
from viz.paths.turntable import swing

FRAMES_PER_SECOND = 24  # cinema's
LEAST_S, MOST_S = 8.0, 40.0  # length of a film, seconds
LEAST_CAMERAS = 4  # fewer make no path
_SECONDS_PER_CAMERA = 1.0  # slow enough to see what each photo saw
_SAMPLES_PER_STOP, _FEWEST, _MOST = 12, 240, 960  # of the curve that is smoothed
# The curve is pulled straight so often: over about half the way from stop to stop.
_PULLS = 80
# Of what the stops show: where a photo shows less it is no stop, and between two the film cuts.
_WORTH_SEEING = 0.25
_LOOK_WIDTH = 8.0  # samples, standard deviation: looks turn more slowly than places change


def flight(scene: Scene, *, aspect: float) -> list[Viewpoint]:
    """Return the film's view points, one per frame.

    Four or more cameras: a smooth way past them that crosses no surface, looking about where their
    photos looked, level, at a steady pace. Where no way leads on, the film cuts. Fewer cameras: a
    swing about the scene.
    """
    if len(registered_cameras(scene)) < LEAST_CAMERAS:
        return swing(scene, aspect=aspect, count=round(LEAST_S * FRAMES_PER_SECOND))
    free = FreeSpace(scene)
    stops = [stop for _, stop in tour(scene, free, aspect=aspect)]
    filled = np.array([free.filled(stop) for stop in stops])
    least = _WORTH_SEEING * np.median(filled)
    stops = [stop for stop, share in zip(stops, filled, strict=True) if share >= least]
    seconds = float(np.clip(_SECONDS_PER_CAMERA * len(stops), LEAST_S, MOST_S))
    field = float(np.median([stop.field_of_view_deg for stop in stops]))
    up = -scene_frame(scene).axes[:, 1]
    pieces = list(_pieces(stops, free))
    # A single photo between two cuts is no flight.
    shots = [_Shot(piece, free, up) for piece in pieces if len(piece) > 1]
    shots = shots or [_Shot(piece, free, up) for piece in pieces]
    costs = np.array([shot.cost for shot in shots])
    shares = costs / costs.sum() if costs.sum() > 0 else np.full(len(shots), 1 / len(shots))
    # Whole frames, all together as long as the film.
    ends = np.rint(np.cumsum(shares) * seconds * FRAMES_PER_SECOND).astype(int)
    counts = np.diff(ends, prepend=0)
    return [
        view for shot, n in zip(shots, counts, strict=True) for view in shot.frames(int(n), field)
    ]


def _pieces(
    stops: Sequence[Viewpoint], free: FreeSpace
) -> Iterator[list[tuple[Viewpoint, Array | None]]]:
    """Yield runs of stops that a way leads along, each with its way (N, 3) from the one before.

    None leads where there would be next to nothing to be seen.
    """
    piece: list[tuple[Viewpoint, Array | None]] = [(stops[0], None)]
    for before, stop in pairwise(stops):
        way = free.way(before.eye, stop.eye)
        if way is None or _shows_nothing(before, stop, free):
            yield piece
            piece = []
        piece.append((stop, way))
    yield piece


def _shows_nothing(before: Viewpoint, after: Viewpoint, free: FreeSpace) -> bool:
    """Return whether somewhere between two views next to none of what they show is in sight."""
    from scipy.spatial.transform import Rotation, Slerp

    axes = np.array([view.world_to_cam()[:3, :3].T for view in (before, after)])
    turned = Slerp([0, 1], Rotation.from_matrix(axes))
    least = _WORTH_SEEING * min(free.filled(before), free.filled(after))
    for share in (0.25, 0.5, 0.75):
        eye, axes_there = before.eye + share * (after.eye - before.eye), turned(share).as_matrix()
        between = replace(before, eye=eye, target=eye + axes_there[:, 2], up=-axes_there[:, 1])
        if free.filled(between) < least:
            return True
    return False


class _Shot:
    """A piece of the film without a cut: ``eyes``, ``forwards``, ``ups``, ``ahead`` on a curve.

    ``cost`` is how long it should take, in radii of the view and radians turned.
    """

    def __init__(
        self, piece: Sequence[tuple[Viewpoint, Array | None]], free: FreeSpace, up: Array
    ) -> None:
        from scipy.ndimage import gaussian_filter1d

        count = int(np.clip(_SAMPLES_PER_STOP * len(piece), _FEWEST, _MOST))
        corners, at_stop = _corners(piece)
        places, along = _evenly(corners, at_stop, count)
        self.eyes = _pulled_straight(places, free)
        self.forwards, self.ups, self.ahead = _looks([stop for stop, _ in piece], along, up)
        steps = np.linalg.norm(np.diff(self.eyes, axis=0), axis=1) / np.median(self.ahead)
        turns = np.linalg.norm(np.diff(self.forwards, axis=0), axis=1)
        # Smooth, too: nobody brakes at once where a turn begins.
        costs = gaussian_filter1d(np.hypot(steps, turns), _LOOK_WIDTH, mode="nearest")
        self._way = np.concatenate([[0.0], np.cumsum(costs)])
        self.cost = float(self._way[-1])

    def frames(self, count: int, field_of_view_deg: float) -> Iterator[Viewpoint]:
        """Yield ``count`` view points at a steady pace that starts and ends gently."""
        time = np.linspace(0, 1, count)
        gentle = time - np.sin(2 * np.pi * time) / (2 * np.pi)
        at = (0.7 * time + 0.3 * gentle) * self.cost
        columns = np.column_stack([self.eyes, self.forwards, self.ups, self.ahead])
        rising = np.concatenate([[True], np.diff(self._way) > 0])
        for row in np.array([np.interp(at, self._way[rising], c[rising]) for c in columns.T]).T:
            forward = row[3:6] / np.linalg.norm(row[3:6])
            yield Viewpoint(row[:3], row[:3] + row[9] * forward, row[6:9], field_of_view_deg)


def _corners(piece: Sequence[tuple[Viewpoint, Array | None]]) -> tuple[Array, NDArray[np.intp]]:
    """Return all corners (N, 3) of the way, and which of them are the stops."""
    corners, at_stop = [piece[0][0].eye], [0]
    for _, way in piece[1:]:
        assert way is not None
        corners.extend(way[1:])
        at_stop.append(len(corners) - 1)
    return np.array(corners), np.array(at_stop)


def _evenly(corners: Array, at_stop: NDArray[np.intp], count: int) -> tuple[Array, Array]:
    """Return ``count`` places (count, 3) evenly along the way, and where among the stops each is:
    1.5 halfway between the second and the third.
    """
    steps = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    # Two photos from one place: the eye stands while it turns.
    steps = np.maximum(steps, 1e-6 * max(float(steps.sum()), 1e-12))
    way = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0, way[-1], count)
    places = np.array([np.interp(at, way, column) for column in corners.T]).T
    return places, np.interp(at, way[at_stop], np.arange(len(at_stop)))


def _pulled_straight(places: Array, free: FreeSpace) -> Array:
    """Return the curve (N, 3) smoothed as far as it stays clear; both ends stay.

    As an elastic band (Quinlan and Khatib, ICRA 1993): each place goes towards the middle of its
    neighbours, unless a surface is in the way there, or nearer than the clearance.
    """
    places = places.copy()
    room = free.room(places)
    for pull in range(_PULLS):
        # Every other one, so that what a place was checked against stays.
        inner = np.arange(1 + pull % 2, len(places) - 1, 2)
        before, after = places[inner - 1], places[inner + 1]
        to = 0.5 * places[inner] + 0.25 * (before + after)
        there = free.room(to)
        good = (there >= np.minimum(free.clearance, room[inner])) & free.clear(before, to)
        good &= free.clear(to, after)
        places[inner[good]], room[inner[good]] = to[good], there[good]
    return places


def _looks(stops: Sequence[Viewpoint], along: Array, level_up: Array) -> tuple[Array, Array, Array]:
    """Return smooth directions of view (N, 3), up (N, 3) and distances ahead (N,) at ``along``.

    Up is level, but for photos that look along it: there it is theirs.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.spatial.transform import Rotation, Slerp

    axes = np.array([stop.world_to_cam()[:3, :3] for stop in stops])
    turned = Rotation.from_matrix(axes.transpose(0, 2, 1))
    if len(stops) > 1:
        turned = Slerp(np.arange(len(stops)), turned)(along)
    matrices = np.broadcast_to(turned.as_matrix(), (len(along), 3, 3))
    matrices = gaussian_filter1d(matrices, _LOOK_WIDTH, axis=0, mode="nearest")
    forwards, ups = matrices[..., 2], -matrices[..., 1]
    forwards = forwards / np.linalg.norm(forwards, axis=1, keepdims=True)
    ups = ups / np.linalg.norm(ups, axis=1, keepdims=True)
    level = 1 - (forwards @ level_up) ** 2  # 0 where the view is along it
    share = np.clip(4 * level, 0, 1)[:, None]
    ahead = [float(np.linalg.norm(stop.target - stop.eye)) for stop in stops]
    return (
        forwards,
        share * level_up + (1 - share) * ups,
        np.interp(along, np.arange(len(stops)), ahead),
    )
