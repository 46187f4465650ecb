"""Photos that files take for one camera, though some were zoomed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from alignment_scenes import HEIGHT, WIDTH, all_matches, arc_scene, evidence_of, phone_photos

from pointmap.camera import (
    Array,
    invert_rigid,
    pinhole,
    project,
    rotation_exp,
    transform_points,
)
from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.alignment.zooms import cameras_by_zoom, every_match, longer_from_one_place
from recon.evaluation.poses import relative_pose_errors
from recon.stage_results import Focals, PairEdge, PairEvidence, PairMatches

COUNT = 8
ALL = frozenset(range(COUNT))
PHOTOS = phone_photos(COUNT)


def _evidence(
    zoomed: set[int],
    focals: Focals | None = None,
    *,
    zoom: float = 1.5,
    points: int = 600,
    seen_by: frozenset[int] = ALL,
) -> PairEvidence:
    """Return what matches say of photos, some of them cut out and enlarged by a ``zoom``, which
    match those that they are ``seen_by`` alone.
    """
    scene = arc_scene(COUNT, points, noise_px=0.2, span_deg=70, seed=1)
    xy = scene.xy.copy()
    middle = np.array([WIDTH, HEIGHT]) / 2
    for k in zoomed:
        xy[k] = middle + zoom * (xy[k] - middle)
        xy[k][((xy[k] < 0) | (xy[k] > 2 * middle)).any(axis=1)] = np.nan
    matches = [
        pair
        for pair in all_matches(xy)
        if {pair.i, pair.j} <= zoomed | seen_by or not zoomed & {pair.i, pair.j}
    ]
    return evidence_of(PHOTOS, matches, focals)


def _zoomed_against_the_way(seed: int) -> tuple[list[Photo], PairEvidence, list[Array]]:
    """Return five photos taken one ahead of the other, with shorter and shorter lenses, so that
    what is seen looks smaller from nearer by; what their matches say; and their true poses.
    """
    rng, count = np.random.default_rng(seed), 5
    points = rng.uniform((-2.5, -1.8, 5.0), (2.5, 1.8, 7.5), (400, 3))
    ahead = np.linspace(0, 1.6, count)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = rotation_exp(np.radians(rng.uniform(-4, 4, (count, 3))))
    poses[:, :3, 3] = np.column_stack([rng.uniform(-0.15, 0.15, (count, 2)), ahead])
    xy = np.zeros((count, len(points), 2))
    for k, focal in enumerate(560 * ((6 - ahead) / 6) ** 1.6):
        seen = transform_points(invert_rigid(poses[k]), points)
        xy[k] = project(seen, pinhole(float(focal), WIDTH, HEIGHT)) + rng.normal(0, 0.2, (400, 2))
        xy[k][((xy[k] < 0) | (xy[k] > [WIDTH, HEIGHT])).any(axis=1)] = np.nan
    photos = PHOTOS[:count]
    return photos, evidence_of(photos, all_matches(xy)), list(poses)


@pytest.mark.parametrize("zoomed", [{1, 3, 5, 7}, {2, 3}])
def test_zoomed_photos_become_a_camera_of_their_own(
    zoomed: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    evidence = _evidence(zoomed)
    zooms = cameras_by_zoom(PHOTOS, evidence, align(PHOTOS, evidence), AlignOptions())
    assert zooms is not None
    keys = [key for key, _ in zooms.cameras]
    different = {k for k in range(COUNT) if keys[k] != keys[min(set(range(COUNT)) - zoomed)]}
    assert different == zoomed
    assert len(np.unique(zooms.focals.groups)) == 2
    larger = zooms.focals.focals_px[min(zoomed)] / zooms.focals.focals_px[0]
    assert larger == pytest.approx(1.5, rel=0.01)
    assert "zooms" in caplog.text


@pytest.mark.parametrize("seed", [0, 3])
def test_cameras_that_one_focal_length_put_behind_each_other_come_to_the_front(seed: int) -> None:
    photos, evidence, poses = _zoomed_against_the_way(seed)
    alignment = align(photos, evidence)
    before = relative_pose_errors(alignment.cam_to_world, poses)
    zooms = cameras_by_zoom(photos, evidence, alignment, AlignOptions())
    assert zooms is not None
    after = relative_pose_errors(zooms.alignment.cam_to_world, poses)
    assert np.median(before.translation_deg) > 170
    assert np.median(after.pose_deg) < 1
    assert len(np.unique(zooms.focals.groups)) == len(photos)


def test_zooms_from_one_place_are_told_by_how_much_larger_they_show_everything() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((-4, -2.5, 5), (4, 2.5, 9), (600, 3))
    # Three from one place, turned by a degree between them, not in the order of their zooms; two
    # from places beside it; and two from above a plain, which is shifted and nothing else.
    focals, steps = 450 * np.array([1.4, 1, 2, 1, 1]), (0, 0, 0, -0.8, 0.8)
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, :3] = rotation_exp(np.radians(np.outer([0, 1, 2, 3, -3], [0.0, 1.0, 0.0])))
    poses[:, 0, 3] = steps
    xy = np.zeros((7, len(points), 2))
    for k, focal in enumerate(focals.tolist()):
        seen = transform_points(invert_rigid(poses[k]), points)
        xy[k] = project(seen, pinhole(focal, WIDTH, HEIGHT))
    xy[5] = rng.uniform(0, [WIDTH, HEIGHT], (len(points), 2))
    xy[6] = xy[5] + [80, 30]
    xy += rng.normal(0, 0.3, xy.shape)
    xy[((xy < 0) | (xy > [WIDTH, HEIGHT])).any(axis=2)] = np.nan
    # The two are another place: points of the same numbers are not the same ones.
    matches = [pair for pair in all_matches(xy) if (pair.i > 4) == (pair.j > 4)]
    longer = np.exp(longer_from_one_place(matches, 7))
    np.testing.assert_allclose(longer, [1.4, 1, 2, 1, 1, 1, 1], rtol=0.02)


def test_exif_is_not_believed_of_photos_that_were_enlarged_since() -> None:
    told = Focals(np.full(COUNT, 600.0), np.full(COUNT, 0.05), ("exif",) * COUNT,
                  np.zeros(COUNT, np.int64))  # fmt: skip
    evidence = _evidence({1, 4, 6}, told)
    photos = [replace(photo, exif_focal_px=600.0) for photo in PHOTOS]
    cameras = cameras_by_zoom(photos, evidence, align(photos, evidence), AlignOptions())
    assert cameras is not None
    assert [focal for _, focal in cameras.cameras] == [
        None if k in (1, 4, 6) else 600.0 for k in range(8)
    ]


@pytest.mark.parametrize(("seen_by", "believed"), [({2, 3}, False), ({2, 3, 5, 6}, True)])
def test_the_farther_zooms_are_apart_the_more_pairs_have_to_tell_of_them(
    seen_by: set[int], believed: bool
) -> None:
    """Two pairs of a wallpaper fit any zoom that it takes; they may both be wrong."""
    evidence = _evidence({4}, zoom=3.0, points=2000, seen_by=frozenset(seen_by))
    zooms = cameras_by_zoom(PHOTOS, evidence, align(PHOTOS, evidence), AlignOptions())
    assert (zooms is not None) == believed
    if zooms is not None:
        larger = zooms.focals.focals_px[4] / zooms.focals.focals_px[0]
        assert larger == pytest.approx(3.0, rel=0.01)


def test_photos_of_one_camera_stay_one(caplog: pytest.LogCaptureFixture) -> None:
    evidence = _evidence(set())
    alignment = align(PHOTOS, evidence)
    assert cameras_by_zoom(PHOTOS, evidence, alignment, AlignOptions()) is None
    # Nor does a focal length 15 % off make several of it, though matches don't all fit then.
    focals = Focals(np.full(COUNT, 640.0), np.full(COUNT, 0.01), ("default",) * COUNT,
                    np.zeros(COUNT, np.int64))  # fmt: skip
    evidence = _evidence(set(), focals)
    alignment = align(PHOTOS, evidence)
    assert cameras_by_zoom(PHOTOS, evidence, alignment, AlignOptions()) is None
    assert not caplog.records


def test_a_focal_length_that_was_given_is_believed() -> None:
    given = Focals(np.full(COUNT, 600.0), np.zeros(COUNT), ("given",) * COUNT, np.arange(COUNT))
    evidence = _evidence({1, 3}, given)
    alignment = align(PHOTOS, evidence)
    assert cameras_by_zoom(PHOTOS, evidence, alignment, AlignOptions()) is None


def test_what_was_matched_since_counts() -> None:
    def pair(i: int, j: int, count: int) -> PairMatches:
        xy, index = np.zeros((count, 2)), np.arange(count)
        return PairMatches(i, j, xy, xy, index, index, 0.5)

    matches = [pair(0, 1, 20), pair(1, 2, 30)]
    edges = [PairEdge.unverified(pair(1, 2, 90)), PairEdge.unverified(pair(0, 3, 40))]
    found = [(m.i, m.j, len(m)) for m in every_match(matches, edges)]
    assert found == [(0, 1, 20), (0, 3, 40), (1, 2, 90)]
