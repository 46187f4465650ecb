"""Who walks through is told from the scene by matches that contradict all the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from alignment_scenes import phone_photos

from pointmap.camera import Array, pinhole, project
from pointmap.lens import PINHOLE
from recon.alignment.explained import pair_fits
from recon.alignment.moving_things import MovingThings
from recon.scene import Tracks
from recon.stage_results import Alignment, PairEdge, PairMatches, RelativePose
from recon.verdict.evidence import scene_evidence

PHOTOS = phone_photos(6)
K = pinhole(560.0, 640, 480)
WALKER = 60
RNG = np.random.default_rng(0)
POINTS = np.column_stack([RNG.uniform(-2, 2, (300, 2)), RNG.uniform(4, 6, 300)])
FIGURE = np.array([-20.0, -80.0]) + RNG.uniform(0, 1, (WALKER, 2)) * [40.0, 160.0]


def _seen(k: int, *, walks: bool) -> Array:
    """Return where photo ``k`` has the points, and below them the walker, which moves against the
    cameras, and up and down.
    """
    pose = _pose(k)
    xy = project((POINTS - pose[:3, 3]) @ pose[:3, :3], K)
    at = np.array([140.0 + 70 * k, 250.0 + 12 * (k % 2)])
    return np.concatenate([xy, FIGURE + at]) if walks else xy


def _pose(k: int) -> Array:
    pose = np.eye(4)
    pose[0, 3] = 0.15 * k
    return pose


def _alignment(*, walks: bool) -> Alignment:
    xy = [_seen(k, walks=walks) for k in range(6)]
    number = np.arange(len(xy[0]))
    edges = []
    for i in range(6):
        for j in range(i + 1, 6):
            matches = PairMatches(i, j, xy[i], xy[j], number, number, 0.5)
            # What of the walker a pair's own pose takes in by mistake.
            verified = (number < len(POINTS)) | (j == i + 3)
            edges.append(PairEdge(matches, RelativePose(np.eye(4), "essential", verified, 1.0)))
    points = np.pad(POINTS, ((0, len(number) - len(POINTS)), (0, 0)), constant_values=5.0)
    tracks = Tracks(
        points,
        np.zeros((len(points), 3), np.uint8),
        np.tile(number, 6),
        np.repeat(np.arange(6), len(number)),
        np.concatenate(xy),
    )
    return Alignment(
        intrinsics=np.tile(K, (6, 1, 1)),
        lenses=(PINHOLE,) * 6,
        cam_to_world=tuple(_pose(k) for k in range(6)),
        reasons=(None,) * 6,
        tracks=tracks,
        edges=tuple(edges),
        used_edges=np.ones(len(edges), bool),
        pointmap_pairs=np.zeros((0, 2), np.int64),
        depth_scale=np.ones(6),
    )


def test_a_walker_is_found_where_it_is() -> None:
    alignment = _alignment(walks=True)
    moving = MovingThings.of(PHOTOS, alignment).observations(alignment)
    walker = alignment.tracks.point_index >= len(POINTS)
    assert moving[walker].mean() > 0.95
    # Points beside it, and behind it, may count with it.
    assert moving[~walker].mean() < 0.05


def test_a_walker_speaks_not_against_the_cameras() -> None:
    alignment = _alignment(walks=True)
    assert pair_fits(PHOTOS, alignment).share.min() < 0.9
    fits = MovingThings.of(PHOTOS, alignment).fits_without(PHOTOS, alignment)
    assert fits.share.min() > 0.97
    assert fits.matches.min() > 0.9 * len(POINTS)
    assert scene_evidence(PHOTOS, alignment).explained > 0.97


def test_nothing_moves_where_all_matches_fit_or_wrong_ones_are_scattered() -> None:
    alignment = _alignment(walks=False)
    assert not MovingThings.of(PHOTOS, alignment).observations(alignment).any()
    rng = np.random.default_rng(1)
    edges = []
    for edge in alignment.edges:
        xy = edge.matches.xy_j.copy()
        wrong = rng.random(len(xy)) < 0.2
        xy[wrong] = rng.uniform(0, 480, (wrong.sum(), 2))
        edges.append(replace(edge, matches=replace(edge.matches, xy_j=xy)))
    scattered = replace(alignment, edges=tuple(edges))
    assert MovingThings.of(PHOTOS, scattered).observations(scattered).mean() < 0.02


def test_cameras_that_are_wrong_are_not_excused() -> None:
    """Half of the cameras were moved: what contradicts them lies everywhere."""
    alignment = _alignment(walks=False)
    poses = [pose.copy() for pose in alignment.cam_to_world if pose is not None]
    for pose in poses[3:]:
        pose[:3, 3] += [0.0, 0.5, 0.1]
    moved = replace(alignment, cam_to_world=tuple(poses))
    assert scene_evidence(PHOTOS, moved).explained < 0.7
