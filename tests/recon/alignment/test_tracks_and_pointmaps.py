"""Feature tracks and pointmaps together: who places which photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from alignment_scenes import pose_errors_deg
from PIL import Image
from rooms import HEIGHT, WIDTH, Taken, depth_ratio, room, take
from two_views import rotation

from benchmarks.pointmap_scenes import complete_pairs, make_room, predictions
from pointmap.camera import invert_rigid, pinhole, project, rigid, transform_points
from recon import Options, reconstruct
from recon.evaluation.poses import relative_pose_errors
from recon.stage_results import PairEdge, PairMatches, RelativePose


def feature_edges(taken: Taken, photos: Sequence[int], *, seed: int = 0) -> list[PairEdge]:
    """Return exact edges among ``photos``, of points on the walls behind the scene."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2, -1, -1.5], [2, 1, 1.5], (150, 3))
    K = pinhole(taken.scene.intrinsics[0, 0], WIDTH, HEIGHT)
    poses = taken.scene.cam_to_world
    xy = {k: project(transform_points(invert_rigid(poses[k]), points), K) for k in photos}
    edges = []
    for i in photos:
        for j in (k for k in photos if k > i):
            seen = np.flatnonzero(np.isfinite(xy[i]).all(1) & np.isfinite(xy[j]).all(1))
            matches = PairMatches(i, j, xy[i][seen], xy[j][seen], seen, seen, 0.05)
            relative = invert_rigid(poses[i]) @ poses[j]
            relative[:3, 3] /= np.linalg.norm(relative[:3, 3])
            pose = RelativePose(relative, "essential", np.ones(len(seen), bool), 0.9)
            edges.append(PairEdge(matches, pose))
    return edges


def test_tracks_hold_what_they_see_and_pointmaps_carry_the_rest():
    taken = room(6)
    edges = feature_edges(taken, (0, 1, 3))
    alone = taken.align(edges, sketches=())
    found = taken.align(edges)
    assert [pose is None for pose in alone.cam_to_world] == [False, False, True, False, True, True]
    assert found.reasons == (None,) * 6
    for k in (0, 1, 3):
        np.testing.assert_array_equal(found.cam_to_world[k], alone.cam_to_world[k])
    rotations, directions = pose_errors_deg(found, taken.scene.cam_to_world)
    assert rotations.max() < 1.2 and np.median(directions) < 1
    assert len(found.tracks.points) == len(alone.tracks.points)
    # Scene units: the tracks' median depth is 1.
    ratio = depth_ratio(taken, found)
    assert np.abs(ratio / np.median(ratio) - 1).mean() < 0.02


def test_features_that_fold_the_scene_are_overruled():
    """Matches between the two ends of a row say that both stand in one place."""
    scene = make_room(6, WIDTH, HEIGHT, span_deg=150)
    taken = take(scene, list(predictions(scene, complete_pairs(6))))
    poses = scene.cam_to_world.copy()
    fold = poses[0] @ rigid(rotation([0, 4, 0]), [0.3, 0, 0]) @ invert_rigid(poses[3])
    poses[3:] = fold @ poses[3:]
    folded = replace(taken, scene=replace(scene, cam_to_world=poses))
    found = taken.align(feature_edges(folded, range(6)))
    rotations, _ = pose_errors_deg(found, scene.cam_to_world)
    assert found.reasons == (None,) * 6 and rotations.max() < 2


def test_more_photos_by_pointmaps_elsewhere_are_the_scene():
    taken = room(7)
    only = [s for s in taken.sketches if min(s.i, s.j) >= 2]
    found = taken.align(feature_edges(taken, (0, 1)), sketches=only)
    assert [pose is None for pose in found.cam_to_world] == [True] * 2 + [False] * 5
    assert "not connected to the scene" in found.reasons[0]


def test_the_pipeline_places_photos_without_any_texture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A network that knows the room, four photos of plain grey: cameras, depth and mesh."""
    scene = make_room(4, WIDTH, HEIGHT)
    for k in range(4):
        Image.new("RGB", (4 * WIDTH, 4 * HEIGHT), (128, 128, 120 + k)).save(tmp_path / f"{k}.png")
    config = SimpleNamespace(img_size=(WIDTH, WIDTH), patch_size=16, descriptor_dim=0)
    monkeypatch.setattr(
        "pointmap.checkpoint.load_network", lambda _: SimpleNamespace(config=config)
    )
    monkeypatch.setattr("recon.inputs.inputs.Inputs.network_key", "one that knows the room")
    encoded = SimpleNamespace(sizes=[(WIDTH, HEIGHT)] * 4)

    def predicted(network, encoded, batches, **_):
        for batch in batches:
            yield list(predictions(scene, [p for i, j in batch for p in ((i, j), (j, i))]))

    monkeypatch.setattr("pointmap.inference.EncodedOnDemand", lambda *_, **__: encoded)
    monkeypatch.setattr("pointmap.inference.predict_batches", predicted)
    found = reconstruct(tmp_path, Options(refine_depth=False, depth_size=WIDTH))
    assert all(view.registered for view in found.views)
    assert {pair.method for pair in found.pairs} == {"pointmaps"}
    assert all(pair.used for pair in found.pairs)
    errors = relative_pose_errors(
        [view.camera.cam_to_world for view in found.views], list(scene.cam_to_world)
    )
    assert errors.rotation_deg.max() < 1.2
    ratio = np.stack([view.depth for view in found.views]) / scene.depth
    assert np.mean(np.abs(ratio / np.median(ratio) - 1)) < 0.02
    assert len(found.surface.faces) > 500
