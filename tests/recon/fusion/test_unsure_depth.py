from dataclasses import replace

import numpy as np
from fused_room import VOXEL, distance_to_room
from synthetic import Shot, view_of

from recon.fusion import FusionOptions, fuse_mesh, fuse_points
from recon.fusion.usable_depth import usable_depths


def test_unsure_depth_is_left_out(shots: list[Shot]) -> None:
    confidence = np.ones(shots[0].depth.shape, np.float32)
    confidence[:, :96] = 0.2
    depth = np.where(confidence < 0.5, 0.5, shots[0].depth).astype(np.float32)
    view = view_of(shots[0], depth=depth, confidence=confidence)
    for points in (fuse_mesh([view]).vertices, fuse_points([view]).points):
        assert len(points) > 100
        assert (distance_to_room(points.astype(np.float64)) < 0.1).all()


def test_depth_that_was_never_confirmed_is_still_shown(shots: list[Shot]) -> None:
    confidence = np.full(shots[4].depth.shape, 0.2, np.float32)
    confidence[:, :48] = 0.0
    view = view_of(shots[4], confidence=confidence)
    cloud = fuse_points([view], options=FusionOptions(voxel_size=1e-4))
    assert len(cloud.points) > 0.95 * (confidence > 0).sum()
    assert (cloud.confidence > 0).all()
    assert len(fuse_mesh([view]).faces) > 3000


def test_rough_depth_of_one_photo_is_still_shown(shots: list[Shot]) -> None:
    noise = np.random.default_rng(0).normal(size=shots[4].depth.shape)
    view = view_of(shots[4], depth=(shots[4].depth * np.exp(0.2 * noise)).astype(np.float32))
    cloud = fuse_points([view], options=FusionOptions(voxel_size=1e-4))
    assert len(cloud.points) > 0.95 * (shots[4].depth > 0).sum()


def test_unconfirmed_depth_fills_where_photos_agree_and_nowhere_else(shots: list[Shot]) -> None:
    """A plain wall: no match confirms it, yet the depths of three photos meet on it."""
    views, lone = [], []
    for number, shot in enumerate(shots[2:6]):
        confidence = np.ones(shot.depth.shape, np.float32)
        confidence[:, :60] = 0.2
        depth = shot.depth.copy()
        # Three agree with each other; the fourth says something of its own.
        depth[:, :60] *= 1.25 if number == 3 else 1.0
        views.append(view_of(shot, confidence=confidence, depth=depth))
        own = shot.depth.copy()
        own[:, :60] *= (0.7, 0.85, 1.15, 1.3)[number]
        lone.append(view_of(shot, confidence=confidence, depth=own))
    options = FusionOptions(voxel_size=VOXEL)
    sure = fuse_points([view_of(s, depth=_left_out(s)) for s in shots[2:6]], options=options)
    for views_given, gains in ((views, True), (lone, False)):
        cloud, mesh = (fuse(views_given, options=options) for fuse in (fuse_points, fuse_mesh))
        assert (len(cloud.points) > 1.1 * len(sure.points)) == gains
        for points in (cloud.points, mesh.vertices):
            assert (distance_to_room(points.astype(np.float64)) < 0.1).mean() > 0.99


def test_a_measured_surface_has_none_of_what_was_inferred(shots: list[Shot]) -> None:
    confidence = np.ones(shots[2].depth.shape, np.float32)
    # Right, and what all photos agree on, yet next to nothing was sure of it.
    confidence[:, :60] = 0.01
    views = [view_of(shot, confidence=confidence) for shot in shots[2:6]]
    bare = [view_of(s, depth=_left_out(s)) for s in shots[2:6]]
    without, measured, complete = (
        fuse_points(given, options=FusionOptions(voxel_size=VOXEL, surface=surface))
        for given, surface in ((bare, "complete"), (views, "measured"), (views, "complete"))
    )
    np.testing.assert_array_equal(measured.points, without.points)
    assert len(complete.points) > 1.1 * len(measured.points)


def test_inferred_depth_takes_nothing_from_what_was_measured_beside_it(shots: list[Shot]) -> None:
    confidence = np.ones(shots[2].depth.shape, np.float32)
    confidence[:, :60] = 0.01
    off = [np.where(confidence < 0.5, 0.6 * s.depth, s.depth).astype(np.float32) for s in shots]
    views = [view_of(s, confidence=confidence, depth=d) for s, d in zip(shots, off, strict=True)]
    options = FusionOptions(voxel_size=VOXEL)
    for complete, measured in zip(
        usable_depths(views, options),
        usable_depths(views, replace(options, surface="measured")),
        strict=True,
    ):
        # Depth is rounded by another unit: what passes by is not the same to the pixel.
        assert (measured.known & ~complete.known).sum() < 0.005 * measured.known.sum()


def _left_out(shot: Shot) -> np.ndarray:
    depth = shot.depth.copy()
    depth[:, :60] = 0
    return depth


def test_sure_depth_decides_over_unsure(shots: list[Shot]) -> None:
    """Of two measurements a voxel or two apart, the surface lies at the sure one."""
    shot = shots[3]
    off = (shot.depth * (1 + VOXEL / shot.depth)).astype(np.float32)
    unsure = np.full(off.shape, 0.4, np.float32)
    options = FusionOptions(voxel_size=VOXEL, fill_holes=0)
    mesh = fuse_mesh([view_of(shot), view_of(shot, depth=off, confidence=unsure)], options=options)
    middle = fuse_mesh([view_of(shot), view_of(shot, depth=off)], options=options)
    near, far = (np.median(distance_to_room(m.vertices.astype(float))) for m in (mesh, middle))
    assert near < 0.5 * far
