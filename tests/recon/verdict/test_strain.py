"""How much better matches fit their own pair's geometry than the cameras of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from alignment_scenes import FOCAL, HEIGHT, WIDTH, Scene, all_matches, arc_scene, phone_photos

from pointmap.camera import Array, pinhole, rotation_exp
from pointmap.lens import PINHOLE
from recon.alignment.moving_things import MovingThings
from recon.scene import Tracks
from recon.stage_results import Alignment, PairEdge, RelativePose
from recon.verdict.strain import strain

COUNT = 5
PHOTOS = phone_photos(COUNT)
STANDS = MovingThings((None,) * COUNT)


def _scene(noise_px: float = 0.3) -> Scene:
    return arc_scene(COUNT, 300, noise_px=noise_px, span_deg=60, seed=3)


def _placed(scene: Scene, *, focals_px: Sequence[float] = (FOCAL,) * COUNT) -> Alignment:
    """Return the scene's cameras with all matches of each pair verified."""
    edges = []
    for matches in all_matches(scene.xy):
        pose = RelativePose(np.eye(4), "essential", np.ones(len(matches), bool), 1.0)
        edges.append(PairEdge(matches, pose))
    view, point = np.nonzero(np.isfinite(scene.xy).all(axis=2))
    black = np.zeros((len(scene.points), 3), np.uint8)
    return Alignment(
        np.stack([pinhole(focal, WIDTH, HEIGHT) for focal in focals_px]),
        (PINHOLE,) * COUNT,
        tuple(scene.cam_to_world),
        (None,) * COUNT,
        Tracks(scene.points, black, point, view, scene.xy[view, point]),
        tuple(edges),
        np.ones(len(edges), bool),
        np.zeros((0, 2), np.int64),
        np.full(COUNT, np.nan),
    )


def _turned(scene: Scene, photos: Sequence[int], degrees: float) -> Array:
    poses = scene.cam_to_world.copy()
    poses[list(photos), :3, :3] @= rotation_exp(np.radians([[0.0, degrees, 0.0]]))[0]
    return poses


@pytest.mark.parametrize("noise_px", [0.05, 0.5, 2.0])
def test_right_cameras_are_not_strained_however_inaccurate_matches_are(noise_px: float) -> None:
    assert strain(PHOTOS, _placed(_scene(noise_px)), STANDS) < 0.08


def test_zooms_and_turned_cameras_strain() -> None:
    scene = _scene()
    zooms = _placed(scene, focals_px=[FOCAL, 1.1 * FOCAL, FOCAL, 1.1 * FOCAL, FOCAL])
    assert strain(PHOTOS, zooms, STANDS) > 0.7
    turned = _placed(replace(scene, cam_to_world=_turned(scene, [1, 3], 1.0)))
    assert strain(PHOTOS, turned, STANDS) > 0.7


def test_one_pair_of_something_else_does_not_strain_all_others() -> None:
    alignment = _placed(_scene())
    first, *others = alignment.edges
    elsewhere = replace(first.matches, xy_j=first.matches.xy_j[:, ::-1] + [90.0, 40.0])
    one_wrong = replace(alignment, edges=(replace(first, matches=elsewhere), *others))
    assert 0.1 < strain(PHOTOS, one_wrong, STANDS) < 0.25


def test_few_matches_and_photos_that_were_not_placed_say_nothing() -> None:
    scene = _scene()
    turned = _placed(replace(scene, cam_to_world=_turned(scene, [1], 5.0)))
    away = list(turned.cam_to_world)
    away[1] = None
    assert strain(PHOTOS, replace(turned, cam_to_world=tuple(away)), STANDS) < 0.08
    some = [replace(e.pose, inliers=np.arange(len(e.matches)) < 20) for e in turned.edges]
    few = tuple(replace(e, pose=pose) for e, pose in zip(turned.edges, some, strict=True))
    assert strain(PHOTOS, replace(turned, edges=few), STANDS) == 0.0
