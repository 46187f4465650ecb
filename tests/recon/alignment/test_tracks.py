from dataclasses import replace

import numpy as np
import pytest
from alignment_scenes import FOCAL, HEIGHT, WIDTH, Scene, arc_scene, pinhole_cameras, scene_edges

from pointmap.camera import Array
from recon.alignment.cameras import Cameras
from recon.alignment.tracks import (
    MatchTable,
    TrackSet,
    build_match_table,
    fitting_matches,
    keep_observations,
    triangulate_tracks,
)
from recon.alignment.triangulation import midpoints, refine_points, widest_angles_deg
from recon.stage_results import PairEdge, PairMatches, RelativePose


def true_cameras(scene: Scene) -> Cameras:
    return pinhole_cameras(scene.cam_to_world)


def tracks_of(table: MatchTable, scene: Scene, **changes) -> TrackSet:
    settings = {"threshold_px": 2.0, "min_angle_deg": 1.5} | changes
    return triangulate_tracks(table, true_cameras(scene), **settings)


def truth_index(table: MatchTable, tracks: TrackSet) -> Array:
    """The scene point of each track; in these scenes a key point's number is its point's."""
    keypoint = table.node_keypoint[tracks.node]
    first = np.searchsorted(tracks.point, np.arange(len(tracks.points)))
    assert (keypoint == keypoint[first][tracks.point]).all(), "a track mixes two points"
    return keypoint[first]


def test_clean_matches_give_every_point_once_and_exactly():
    scene = arc_scene(6, 100)
    edges, _ = scene_edges(scene)
    table = build_match_table(edges)
    tracks = tracks_of(table, scene)
    point = truth_index(table, tracks)
    seen_twice = np.flatnonzero(np.isfinite(scene.xy[..., 0]).sum(axis=0) >= 2)
    assert sorted(point) == seen_twice.tolist()
    assert np.abs(tracks.points - scene.points[point]).max() < 1e-6
    assert len(tracks.node) == np.isfinite(scene.xy[..., 0])[:, seen_twice].sum()


def test_chains_of_neighbours_reach_across_all_photos():
    scene = arc_scene(6, 100, visible=1.0)
    table = build_match_table(scene_edges(scene, neighbours=1)[0])
    lengths = np.bincount(tracks_of(table, scene).point)
    assert np.median(lengths) == 6


def test_wrong_edges_do_not_mix_points():
    scene = arc_scene(8, 300, noise_px=0.5)
    edges, _ = scene_edges(scene, wrong=0.3)
    table = build_match_table(edges)
    tracks = tracks_of(table, scene)
    point = truth_index(table, tracks)
    assert len(point) > 290
    assert np.median(np.linalg.norm(tracks.points - scene.points[point], axis=1)) < 0.01


def test_no_photo_sees_a_point_twice():
    scene = arc_scene(5, 60, visible=1.0)
    edges, _ = scene_edges(scene)
    # A second key point of photo 2, one pixel off, is matched in place of the first by photo 4.
    doubled = [
        replace(
            e,
            matches=replace(
                e.matches,
                xy_i=e.matches.xy_i + np.array([1.0, 0]),
                index_i=e.matches.index_i + 1000,
            ),
        )
        if (e.matches.i, e.matches.j) == (2, 4)
        else e
        for e in edges
    ]
    table = build_match_table(doubled)
    tracks = tracks_of(table, scene)
    seen = np.stack([tracks.point, table.node_view[tracks.node]], axis=1)
    assert len(np.unique(seen, axis=0)) == len(seen)
    # The position that fits better stays.
    assert (table.node_keypoint[tracks.node] < 1000).all()


def test_pointmap_matches_form_tracks_of_their_own():
    scene = arc_scene(4, 50, visible=1.0)
    edges = []
    for edge in scene_edges(scene)[0]:
        unnumbered = np.full(len(edge.matches), -1)
        matches = replace(edge.matches, index_i=unnumbered, index_j=unnumbered)
        edges.append(replace(edge, matches=matches))
    table = build_match_table(edges)
    tracks = tracks_of(table, scene)
    assert (np.bincount(tracks.point) == 2).all()
    assert len(tracks.points) == sum(len(e.matches) for e in edges)


def test_key_points_seen_in_several_edges_are_one_node():
    scene = arc_scene(3, 20, visible=1.0)
    table = build_match_table(scene_edges(scene)[0])
    assert len(table.node_view) == np.isfinite(scene.xy[..., 0]).sum()
    assert np.array_equal(table.node_xy, scene.xy[table.node_view, table.node_keypoint])


def test_points_under_small_angles_are_left_out():
    scene = arc_scene(2, 50, span_deg=10.0, visible=1.0)
    table = build_match_table(scene_edges(scene)[0])
    rays = scene.points - scene.cam_to_world[:, None, :3, 3]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    angle = np.degrees(np.arccos((rays[0] * rays[1]).sum(axis=1)))
    limit = float(np.median(angle))
    tracks = tracks_of(table, scene, min_angle_deg=limit)
    assert sorted(truth_index(table, tracks)) == np.flatnonzero(angle >= limit).tolist()


def test_photos_not_placed_and_matches_not_used_give_nothing():
    scene = arc_scene(3, 50, visible=1.0)
    table = build_match_table(scene_edges(scene)[0])
    cameras = replace(true_cameras(scene), registered=np.array([True, False, True]))
    tracks = triangulate_tracks(table, cameras, threshold_px=2.0, min_angle_deg=1.5)
    assert set(table.node_view[tracks.node]) == {0, 2}
    assert len(tracks_of(table, scene, use=np.zeros(len(table.first), bool)).points) == 0


def test_points_behind_the_cameras_are_no_points():
    """Rays swapped between the photos meet behind both."""
    scene = arc_scene(2, 50, span_deg=20.0, visible=1.0)
    count = np.arange(50)
    swapped = PairMatches(0, 1, scene.xy[1], scene.xy[0], count, count, 0.7)
    edge = PairEdge(swapped, RelativePose(np.eye(4), "essential", np.ones(50, bool), 1.0))
    table = build_match_table([edge])
    tracks = tracks_of(table, scene, threshold_px=1000.0)
    cameras = true_cameras(scene)
    depth = cameras.to_camera(table.node_view[tracks.node], tracks.points[tracks.point])[:, 2]
    assert (depth > 0).all()


def test_no_edges_no_tracks():
    scene = arc_scene(2, 10)
    tracks = tracks_of(build_match_table([]), scene)
    assert tracks.points.shape == (0, 3) and len(tracks.node) == 0


def test_far_points_fit_although_their_rays_hardly_meet():
    scene = arc_scene(2, 50, span_deg=10.0, visible=1.0)
    far = 1e6 * np.array([0.1, 0.05, 1.0])
    cameras = true_cameras(scene)
    rng = np.random.default_rng(0)
    local = [cameras.to_camera(np.full(40, k), np.tile(far, (40, 1))) for k in range(2)]
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    xy = [FOCAL * p[:, :2] / p[:, 2:] + centre + rng.normal(0, 0.3, (40, 2)) for p in local]
    none = np.full(40, -1)
    matches = PairMatches(0, 1, xy[0], xy[1], none, none, 0.7)
    edge = PairEdge(matches, RelativePose(np.eye(4), "essential", np.ones(40, bool), 1.0))
    table = build_match_table([edge])
    assert fitting_matches(table, cameras, limits=np.full(80, 2.0)).all()
    assert len(tracks_of(table, scene).points) == 0


def test_a_point_left_with_one_observation_goes():
    tracks = TrackSet(np.arange(9.0).reshape(3, 3), np.array([0, 0, 1, 1, 2, 2]), np.arange(6))
    kept = keep_observations(tracks, np.array([True, True, True, False, True, True]))
    assert np.array_equal(kept.points, tracks.points[[0, 2]])
    assert kept.point.tolist() == [0, 0, 1, 1] and kept.node.tolist() == [0, 1, 4, 5]


def test_midpoint_of_two_rays():
    centres = np.array([[0.0, 0, 0]]), np.array([[2.0, 0, 0]])
    diagonal = np.array([[1.0, 0, 1]]) / np.sqrt(2)
    mirrored = diagonal * [-1, 1, 1]
    points, angles = midpoints(centres[0], diagonal, centres[1], mirrored)
    assert np.allclose(points, [[1, 0, 1]]) and np.allclose(angles, 90)
    points, angles = midpoints(centres[0], diagonal, centres[1], diagonal)
    assert np.isnan(points).all() and np.allclose(angles, 0, atol=1e-6)


def test_refined_points_beat_midpoints():
    scene = arc_scene(6, 100, noise_px=1.0)
    cameras = true_cameras(scene)
    point, view = np.nonzero(np.isfinite(scene.xy[..., 0]).T)
    rng = np.random.default_rng(0)
    start = scene.points + rng.normal(0, 0.1, scene.points.shape)
    settings = {"point": point, "view": view, "xy": scene.xy[view, point]}
    found = refine_points(cameras, start, **settings, sigma_px=np.ones(len(point)))
    errors = [np.median(np.linalg.norm(p - scene.points, axis=1)) for p in (start, found)]
    assert errors[1] < 0.05 * errors[0]


def test_widest_angle_counts_every_pair_of_photos():
    scene = arc_scene(5, 20, visible=1.0)
    cameras = true_cameras(scene)
    point, view = np.nonzero(np.isfinite(scene.xy[..., 0]).T)
    found = widest_angles_deg(cameras, scene.points, point=point, view=view)
    rays = scene.points[3] - scene.cam_to_world[view[point == 3], :3, 3]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    assert found[3] == pytest.approx(np.degrees(np.arccos((rays @ rays.T).min())), abs=1e-6)


def test_the_few_points_are_spread_over_the_whole_picture() -> None:
    """Of a photo that was cut out, whose principal point is near its left rim, too."""
    scene = arc_scene(4, 2000, visible=1.0, extent=1.5)
    cut = WIDTH / 2 - 20
    table = build_match_table(scene_edges(scene)[0])
    whole = true_cameras(scene)
    table = replace(table, node_xy=table.node_xy - [cut, 0])
    cameras = replace(whole, principal=whole.principal - [cut, 0], size_px=whole.size_px - [cut, 0])

    few = triangulate_tracks(table, cameras, threshold_px=2.0, min_angle_deg=1.5, few=True)
    x = table.node_xy[few.node[table.node_view[few.node] == 0], 0]
    # The same with a size of twice the principal point: 8 of 102.
    assert (x > cameras.size_px[0, 0] / 2).mean() > 0.3
