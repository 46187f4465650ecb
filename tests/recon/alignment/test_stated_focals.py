from dataclasses import replace

import numpy as np
from alignment_scenes import (
    FOCAL,
    HEIGHT,
    WIDTH,
    Scene,
    arc_scene,
    evidence,
    phone_photos,
    scene_edges,
)

from pointmap.camera import invert_rigid, pinhole, project, rigid, transform_points
from recon.alignment import AlignOptions, align
from recon.alignment.stated_focals import as_stated
from recon.stage_results import Alignment, PairEvidence
from recon.two_view.focal_lengths import EXIF_LOG_SIGMA


def straight_walk() -> Scene:
    """Seven photos straight ahead, which fit any focal length: depth and steps follow it."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-4, -2, 4], [4, 2, 14], (500, 3))
    poses = np.stack([rigid(np.eye(3), [0, 0, 0.5 * k]) for k in range(7)])
    K = pinhole(FOCAL, WIDTH, HEIGHT)
    xy = np.stack([project(transform_points(invert_rigid(pose), points), K) for pose in poses])
    xy += rng.normal(0, 0.2, xy.shape)
    seen = (xy >= 0).all(axis=2) & (xy < [WIDTH, HEIGHT]).all(axis=2)
    return Scene(poses, points, np.where(seen[..., None], xy, np.nan))


def found_with(scene: Scene, focal_px: float, stated_px: float) -> tuple[PairEvidence, Alignment]:
    """What EXIF and matches say, and the cameras of a scene at another focal length."""
    count = len(scene.cam_to_world)
    photos, edges = phone_photos(count), scene_edges(scene)[0]
    found = align(photos, evidence(photos, edges, focal_px, focal_log_sigma=0.0))
    told = evidence(photos, edges, stated_px, focal_log_sigma=EXIF_LOG_SIGMA)
    return replace(told, focals=replace(told.focals, sources=("exif",) * count)), found


def test_a_walk_straight_ahead_keeps_the_focal_length_that_files_state():
    told, found = found_with(straight_walk(), 0.75 * FOCAL, FOCAL)
    held = as_stated(phone_photos(7), told, found, AlignOptions())
    assert held is not None
    np.testing.assert_allclose(held[1].intrinsics[:, 0, 0], FOCAL, rtol=0.03)
    # What comes after goes by it, too.
    assert (held[0].focals.log_sigma < EXIF_LOG_SIGMA).all()


def test_matches_that_tell_are_believed_against_the_files():
    told, found = found_with(arc_scene(7, 300, noise_px=0.3), FOCAL, 1.3 * FOCAL)
    assert as_stated(phone_photos(7), told, found, AlignOptions()) is None


def test_nothing_is_done_where_both_agree():
    told, found = found_with(straight_walk(), 1.05 * FOCAL, FOCAL)
    assert as_stated(phone_photos(7), told, found, AlignOptions()) is None
