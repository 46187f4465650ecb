"""The verdict on solved scenes with exact truth: right ones, and ones made wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from alignment_scenes import (
    FOCAL,
    HEIGHT,
    WIDTH,
    Scene,
    all_matches,
    arc_scene,
    evidence,
    evidence_of,
    phone_photos,
    pose_errors_deg,
)
from synthetic import look_at

from pointmap.camera import (
    Array,
    invert_rigid,
    pinhole,
    project,
    rotation_exp,
    transform_points,
)
from pointmap.images import Photo
from pointmap.lens import PINHOLE
from recon.alignment.align import align
from recon.alignment.compared_pictures import ComparedPictures
from recon.alignment.explained import pair_fits
from recon.scene import Tracks
from recon.stage_results import Alignment, Focals, PairEdge
from recon.two_view.relative_pose import verify_pair
from recon.verdict.evidence import scene_evidence
from recon.verdict.judge import judge, judge_alike, verdict_of
from recon.verdict.network_witness import NetworkWitness
from recon.verdict.uncertainty import centre_sigma, uncertainty

COUNT = 6
PHOTOS = phone_photos(COUNT)
MIDDLE = np.array([WIDTH, HEIGHT]) / 2


def _scene(noise_px: float = 0.3, points: int = 400) -> Scene:
    return arc_scene(COUNT, points, noise_px=noise_px, span_deg=70, seed=1)


def _solved(xy: Array) -> Alignment:
    """Return the cameras that matches at ``xy`` (N, P, 2) give, focal lengths and all."""
    outside = np.asarray(((xy < 0) | (xy > 2 * MIDDLE)).any(axis=2))
    xy = np.where(outside[..., None], np.nan, xy)
    photos = PHOTOS[: len(xy)]
    return align(photos, evidence_of(photos, all_matches(xy)))


@pytest.fixture(scope="module")
def right() -> Alignment:
    return _solved(_scene().xy)


def _placed(alignment: Alignment, change: Callable[[int, Array], None]) -> Alignment:
    """Return the alignment with each pose changed in place."""
    poses = [np.array(pose) for pose in alignment.cam_to_world]
    for k, pose in enumerate(poses):
        change(k, pose)
    return replace(alignment, cam_to_world=tuple(poses))


def test_a_right_scene_is_sound_and_its_errors_are_as_expected(right: Alignment) -> None:
    verdict = judge(PHOTOS, right)
    assert verdict is not None
    assert verdict.word == "sound"
    assert [photo.word for photo in verdict.photos if photo] == ["sound"] * COUNT
    rotation, direction = pose_errors_deg(right, _scene().cam_to_world)
    assert verdict.rotation_error_deg is not None
    assert verdict.direction_error_deg is not None
    assert np.median(rotation) / 2 < verdict.rotation_error_deg < 0.5
    assert np.median(direction) / 2 < verdict.direction_error_deg < 0.5


@pytest.mark.parametrize(
    ("network", "sound", "reason"),
    [
        (NetworkWitness(-1.5, 2.0, 0.02), True, "fit"),
        (NetworkWitness(0.0, 15.0, 0.1), True, "fit"),
        (NetworkWitness(3.0, 40.0, 0.02), False, "40 degrees otherwise"),
        (NetworkWitness(0.0, 10.0, 0.7), False, "2.0 times off what the network sees"),
    ],
)
def test_of_two_photos_the_network_is_the_witness(
    network: NetworkWitness, sound: bool, reason: str
) -> None:
    two = _solved(_scene().xy[:2])
    evidence = replace(scene_evidence(PHOTOS[:2], two), network=network)
    verdict = verdict_of(evidence, ["a", "b"])
    assert (verdict.word == "sound") == sound
    assert reason in verdict.reason


def test_pictures_in_which_much_is_missing_show_two_places_that_look_alike(
    right: Alignment,
) -> None:
    count = len(PHOTOS)
    pairs = np.array([(i, j) for i in range(count) for j in range(i + 1, count) if (i + j) % 2])
    compared = ComparedPictures(pairs, *np.full((2, len(pairs)), [[25], [35]]))
    verdict = judge(PHOTOS, right, compared)
    assert verdict is not None
    assert verdict.word == "wrong" and "look alike" in verdict.reason


def test_what_little_of_the_pictures_misses_makes_a_sound_scene_doubtful(
    right: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    for missing, word in ((16, "doubtful"), (0, "sound")):
        found = ComparedPictures(pairs, np.full(3, missing), np.full(3, 50))
        monkeypatch.setattr(
            "recon.verdict.judge.compare_pictures", lambda *_, found=found, **__: found
        )
        verdict = judge_alike(judge(PHOTOS, right), PHOTOS, right)
        assert verdict is not None and verdict.word == word


@pytest.mark.parametrize(
    ("by_points", "in_all", "word"),
    [(0.0, 1.5, "doubtful"), (3.7, 3.7, "sound"), (3.7, 5.0, "doubtful"), (7.0, 7.0, "doubtful")],
)
def test_what_pictures_add_to_points_weighs_more(
    right: Alignment, monkeypatch: pytest.MonkeyPatch, by_points: float, in_all: float, word: str
) -> None:
    """Points of who walks through are missing in other photos; pictures are asked with care."""

    def strength(photos: object, alignment: object, *compared: ComparedPictures) -> list[float]:
        return [in_all if len(one.pairs) else by_points for one in compared]

    some = ComparedPictures(np.array([[0, 1]]), np.array([3]), np.array([10]))
    verdict = judge(PHOTOS, right)
    monkeypatch.setattr("recon.verdict.judge.suspicion", strength)
    monkeypatch.setattr("recon.verdict.judge.compare_pictures", lambda *_, **__: some)
    again = judge_alike(verdict, PHOTOS, right)
    assert again is not None and again.word == word


def test_two_photos_whose_learned_matches_mostly_disagree_are_doubtful() -> None:
    pair = _solved(_scene().xy[:2])
    assert judge(PHOTOS[:2], pair, learned=True) == judge(PHOTOS[:2], pair)
    (edge,) = pair.edges
    # Twice as many that agree with nothing.
    matches = edge.matches
    often = replace(
        matches,
        xy_i=np.tile(matches.xy_i, (3, 1)),
        xy_j=np.tile(matches.xy_j, (3, 1)),
        index_i=np.tile(matches.index_i, 3),
        index_j=np.tile(matches.index_j, 3),
    )
    inliers = np.concatenate([edge.pose.inliers, np.zeros(2 * len(matches), bool)])
    worse = replace(edge, matches=often, pose=replace(edge.pose, inliers=inliers))
    verdict = judge(PHOTOS[:2], replace(pair, edges=(worse,)), learned=True)
    before = judge(PHOTOS[:2], replace(pair, edges=(worse,)))
    assert verdict is not None and before is not None
    assert verdict.word == "doubtful" and {photo.word for photo in verdict.photos} == {"doubtful"}
    if before.word == "sound":
        assert "most matches of the two photos contradict" in verdict.reason


def test_it_is_the_same_each_time(right: Alignment) -> None:
    assert judge(PHOTOS, right) == judge(PHOTOS, right)


def test_zooms_that_nothing_tells_of_are_found() -> None:
    xy = _scene().xy.copy()
    xy[::2] = MIDDLE + 1.5 * (xy[::2] - MIDDLE)
    verdict = judge(PHOTOS, _solved(xy))
    assert verdict is not None
    assert verdict.word == "wrong"


def test_crops_off_the_centre_are_found() -> None:
    alignment = _solved(_scene().xy + np.array([170, 110]))
    rotation, direction = pose_errors_deg(alignment, _scene().cam_to_world)
    assert np.median(np.maximum(rotation, direction)) > 5
    verdict = judge(PHOTOS, alignment)
    assert verdict is not None
    assert verdict.word != "sound"
    assert "zoomed or cropped" in verdict.reason
    told = judge(PHOTOS, alignment, given_lenses=True)
    assert told is not None and "than were given" in told.reason


@pytest.mark.parametrize(
    ("parallax_deg", "turn_deg", "reason"),
    [(1.3, 0.5, "turntable"), (1.3, 12.0, "zoomed or cropped"), (20.0, 0.5, "zoomed or cropped")],
)
def test_a_camera_that_hardly_moved_is_the_reason(
    right: Alignment, parallax_deg: float, turn_deg: float, reason: str
) -> None:
    """A thing on a turntable, before a background that stands still and has most of the matches."""
    evidence = replace(
        scene_evidence(PHOTOS, right),
        parallax_deg=parallax_deg,
        turn_deg=turn_deg,
        shift_deg=20.0,
        error_deg=2.0,
        left=0.5,
    )
    verdict = verdict_of(evidence, [""] * COUNT)
    assert verdict.word != "sound" and reason in verdict.reason


def test_zooms_far_apart_that_no_file_tells_of_speak_against_a_scene(right: Alignment) -> None:
    def spread(times: float, photos: list[Photo]) -> float:
        intrinsics = right.intrinsics.copy()
        intrinsics[1, :2, :2] *= times
        return scene_evidence(photos, replace(right, intrinsics=intrinsics)).focal_spread

    told = [
        replace(photo, exif_focal_px=400.0) if k == 1 else photo for k, photo in enumerate(PHOTOS)
    ]
    assert spread(1.0, PHOTOS) == 0
    assert spread(3.0, PHOTOS) == pytest.approx(np.log(3))
    assert spread(3.0, told) == 0
    # Another size of the same picture is no zoom.
    half = replace(PHOTOS[1], width=WIDTH // 2, height=HEIGHT // 2)
    assert spread(0.5, [PHOTOS[0], half, *PHOTOS[2:]]) == pytest.approx(0)
    # Another shape is another camera, whose lens may be longer, too.
    wide = replace(PHOTOS[1], height=HEIGHT // 2)
    assert spread(3.0, [PHOTOS[0], wide, *PHOTOS[2:]]) == pytest.approx(np.log(1.5))
    evidence = replace(scene_evidence(PHOTOS, right), error_deg=1.0, shift_deg=1.0, left=0.9)
    one, usual, far = (
        verdict_of(replace(evidence, focal_spread=np.log(times)), [""] * COUNT)
        for times in (1.0, 1.9, 4.0)
    )
    assert one.word == "sound"
    assert one.probability_wrong == usual.probability_wrong
    assert far.word != "sound"
    assert "4.0 times apart" in far.reason


def test_zooms_that_are_given_are_not_put_in_doubt() -> None:
    """However far they are apart."""
    scene = _scene()
    zoom = np.where(np.arange(COUNT) % 2, 3.0, 1.0)
    xy = (scene.xy - MIDDLE) / zoom[:, None, None] + MIDDLE
    focals = Focals(FOCAL / zoom, np.zeros(COUNT), ("given",) * COUNT, np.arange(COUNT))
    solved = align(PHOTOS, evidence_of(PHOTOS, all_matches(xy), focals))
    given, found = judge(PHOTOS, solved, given_lenses=True), judge(PHOTOS, solved)
    assert given is not None
    assert found is not None
    assert given.word == "sound"
    assert given.probability_wrong < found.probability_wrong


def test_photos_that_were_exchanged_are_found(right: Alignment) -> None:
    poses = right.cam_to_world
    verdict = judge(PHOTOS, replace(right, cam_to_world=(*poses[1:], poses[0])))
    assert verdict is not None
    assert verdict.word == "wrong"
    assert "fit the cameras" in verdict.reason


@pytest.mark.parametrize("axes", [True, False])
def test_given_cameras_of_another_kind_are_told(right: Alignment, axes: bool) -> None:
    poses = [np.asarray(pose) for pose in right.cam_to_world]
    opengl = np.diag([1.0, -1.0, -1.0, 1.0])
    others = [pose @ opengl if axes else invert_rigid(pose) for pose in poses]
    told = evidence(PHOTOS, list(right.edges), right.intrinsics[:, 0, 0])
    given = align(PHOTOS, told, known_cam_to_world=others)
    verdict = judge(PHOTOS, given, given_poses=True)
    assert verdict is not None
    assert verdict.word == "wrong"
    assert "cameras that were given" in verdict.reason
    assert judge(PHOTOS, right, given_poses=True, given_lenses=True) == judge(PHOTOS, right)


@pytest.mark.parametrize("how", ["moved", "turned", "mirrored"])
def test_a_part_that_was_moved_is_found(right: Alignment, how: str) -> None:
    turn, flip = rotation_exp(np.array([[0.0, 0.2, 0.0]]))[0], np.diag([-1.0, 1.0, 1.0])

    def change(photo: int, pose: Array) -> None:
        if photo < 3:
            return
        if how == "moved":
            pose[:3, 3] += [0.3, -0.2, 0.4]
        elif how == "turned":
            pose[:3, :3] = pose[:3, :3] @ turn
        else:
            pose[:3, :3], pose[:3, 3] = flip @ pose[:3, :3] @ flip, flip @ pose[:3, 3]

    verdict = judge(PHOTOS, _placed(right, change))
    assert verdict is not None
    assert verdict.word == "wrong"


def test_a_label_on_two_sides_of_a_thing_says_nothing_against_its_cameras(
    right: Alignment,
) -> None:
    """Pairs of photos far apart match a label with the same one on the other side, a flat thing."""
    label = np.random.default_rng(4).uniform(0, 1, (50, 2)) * [90, 70]

    def matched(edge: PairEdge, flags: frozenset[str]) -> PairEdge:
        i, j = edge.matches.i, edge.matches.j
        if (i < 3) == (j < 3):
            return edge
        inliers = np.flatnonzero(edge.pose.inliers)
        if j - i == 1:
            few = edge.matches.select(inliers[:40])
            return replace(edge, matches=few, pose=replace(edge.pose, inliers=np.ones(40, bool)))
        some = edge.matches.select(inliers[:50])
        at = np.array([80.0 * i, 60.0 * j])
        some = replace(some, xy_i=label + at, xy_j=[620, 460] - label - at)
        pose = replace(edge.pose, inliers=np.ones(50, bool), flags=flags)
        return replace(edge, matches=some, pose=pose)

    for flags, word in ((frozenset({"planar"}), "sound"), (frozenset(), "doubtful")):
        labelled = replace(right, edges=tuple(matched(edge, flags) for edge in right.edges))
        assert verdict_of(scene_evidence(PHOTOS, labelled), [""] * COUNT).word == word


def test_groups_whose_pairs_mostly_contradict_each_other_are_doubtful(right: Alignment) -> None:
    def turned(edge: PairEdge) -> PairEdge:
        if (edge.matches.i < 3) == (edge.matches.j < 3):
            return edge
        # Too few matches for a pair to count by itself, and of another place.
        some = edge.matches.select(np.flatnonzero(edge.pose.inliers)[:50])
        some = replace(some, xy_j=some.xy_j[:, ::-1] + [80, 40])
        return replace(edge, matches=some, pose=replace(edge.pose, inliers=np.ones(50, bool)))

    parted = replace(right, edges=tuple(turned(edge) for edge in right.edges))
    verdict = verdict_of(scene_evidence(PHOTOS, parted), [""] * COUNT)
    assert verdict.word == "doubtful" and "two groups" in verdict.reason
    # Solved for again, each group by itself holds, and the two of them to each other don't.
    judged = judge(PHOTOS, parted)
    assert judged is not None
    assert judged.word != "sound"


def test_one_pair_that_shows_what_repeats_makes_no_doubt_of_the_others(right: Alignment) -> None:
    first, *others = right.edges
    elsewhere = replace(first.matches, xy_j=first.matches.xy_j[:, ::-1] + [80, 40])
    every = replace(first.pose, inliers=np.ones(len(elsewhere), bool))
    verdict = judge(PHOTOS, replace(right, edges=(PairEdge(elsewhere, every), *others)))
    assert verdict is not None and verdict.word == "sound"


def test_one_photo_that_is_off_is_named(right: Alignment) -> None:
    def change(photo: int, pose: Array) -> None:
        if photo == 4:
            pose[:3, :3] = pose[:3, :3] @ rotation_exp(np.array([[0.0, 0.3, 0.0]]))[0]

    verdict = judge(PHOTOS, _placed(right, change))
    assert verdict is not None
    odd = {photo.name for photo in verdict.photos if photo and photo.word != "sound"}
    assert odd == {"4.jpg"}


@pytest.mark.parametrize("shared", [0, 3])
def test_a_photo_that_hangs_on_one_other_has_its_distance_open(shared: int) -> None:
    """No point that the two share is seen by a third photo, or a few by chance."""
    scene = _scene()
    xy = scene.xy.copy()
    points = np.arange(xy.shape[1])
    xy[5, points < 250], xy[:4, points >= 250 + shared] = np.nan, np.nan
    alignment = _solved(xy)
    assert alignment.placed.all()
    verdict = judge(PHOTOS, alignment)
    assert verdict is not None and verdict.word == "sound"
    (odd,) = verdict.in_doubt
    assert odd.name == "5.jpg"
    assert odd.reason is not None and "shares with 4.jpg" in odd.reason


def test_a_photo_that_sees_few_points_is_doubtful(right: Alignment) -> None:
    """However well they fit: as many wrong matches may."""
    tracks = right.tracks
    left_out = tracks.seen_by(5)[20:]
    rows = np.delete(np.arange(len(tracks.xy)), left_out)
    few = replace(
        tracks,
        point_index=tracks.point_index[rows],
        view_index=tracks.view_index[rows],
        xy=tracks.xy[rows],
    )
    verdict = judge(PHOTOS, replace(right, tracks=few))
    assert verdict is not None and verdict.word == "sound"
    (odd,) = verdict.in_doubt
    assert odd.name == "5.jpg" and odd.reason is not None and "only 20 points" in odd.reason


def test_where_most_pairs_have_a_photo_in_doubt_the_scene_is() -> None:
    """Of four photos one that hangs on another is enough, of six it is not."""
    xy = _scene().xy[[0, 2, 4, 5]]
    points = np.arange(xy.shape[1])
    xy[3, points < 250], xy[:2, points >= 250] = np.nan, np.nan
    verdict = judge(PHOTOS[:4], _solved(xy))
    assert verdict is not None and verdict.word == "doubtful"
    assert "are in doubt" in verdict.reason and "seen by a third photo" in verdict.reason
    assert [photo.name for photo in verdict.in_doubt] == ["3.jpg"]


def test_few_inaccurate_matches_leave_more_open(right: Alignment) -> None:
    rough = uncertainty(PHOTOS, _solved(_scene(noise_px=1.0, points=90).xy))
    fine = uncertainty(PHOTOS, right)
    assert np.median(rough.rotation_deg) > 1.5 * np.median(fine.rotation_deg)


def test_errors_that_are_alike_side_by_side_leave_more_open_than_scattered_ones(
    right: Alignment,
) -> None:
    """As many pixels off, but what a lens or a zoom does does not average out."""
    tracks, rng = right.tracks, np.random.default_rng(0)
    count = len(tracks.xy)
    scattered = rng.choice([-0.6, 0.6], (count, 2))
    across = tracks.xy / [WIDTH, HEIGHT]
    phase = rng.uniform(0, 2, (2, COUNT))[:, tracks.view_index].T
    alike = np.where((across + phase) % 1 < 0.5, -0.6, 0.6)
    found = [
        uncertainty(PHOTOS, replace(right, tracks=replace(tracks, xy=tracks.xy + off)))
        for off in (scattered, alike)
    ]
    assert found[1].pair_deg > 1.5 * found[0].pair_deg


def test_a_richer_camera_explains_no_more_of_a_right_scene(right: Alignment) -> None:
    found = uncertainty(PHOTOS, right)
    assert 0.9 < found.left <= 1.0
    assert np.median(found.shift_deg) < 0.5
    assert found.pair_shift_deg < 0.5


def test_photos_that_turn_about_one_axis_hardly_hold_a_principal_point() -> None:
    """All are tilted alike, as on a turntable: tilt and focal length do what it would."""
    K, angles = pinhole(550.0, WIDTH, HEIGHT), np.radians(np.linspace(-25, 25, COUNT))
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.2, 1.2, (100, 3))
    eyes = np.stack([4 * np.sin(angles), np.full(COUNT, -0.8), -4 * np.cos(angles)], axis=1)
    apart = rng.uniform(-0.5, 0.5, (2, COUNT, 3))
    sigmas = []
    for freely in (0.0, 1.0):
        seen_from, looked_at = eyes + freely * apart[0], [0.0, -0.5, 0.0] + freely * apart[1]
        poses = [look_at(*ends) for ends in zip(seen_from, looked_at, strict=True)]
        xy = [project(transform_points(invert_rigid(pose), points), K) for pose in poses]
        view, point = np.divmod(np.arange(COUNT * len(points)), len(points))
        black = np.zeros((len(points), 3), np.uint8)
        placed = Alignment(
            np.tile(K, (COUNT, 1, 1)),
            (PINHOLE,) * COUNT,
            tuple(poses),
            (None,) * COUNT,
            Tracks(points, black, point, view, np.concatenate(xy)),
            (),
            np.zeros(0, bool),
            np.zeros((0, 2), np.int64),
            np.full(COUNT, np.nan),
        )
        sigmas.append(centre_sigma(PHOTOS, placed))
    assert sigmas[0] > 0.2 and sigmas[1] < 0.05


def _turning(step_deg: float) -> Alignment:
    """Return photos from one place that turn by a step, matched and placed as they are."""
    rng = np.random.default_rng(0)
    far = rng.uniform(-1, 1, (400, 3)) * [6, 2, 0.1] + [0, 0, 4]
    turns = rotation_exp(np.radians(step_deg) * np.arange(4)[:, None] * [[0.0, 1.0, 0.0]])
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, :3, :3] = turns
    K = np.array([[550.0, 0, WIDTH / 2], [0, 550.0, HEIGHT / 2], [0, 0, 1]])
    p = np.einsum("kba,pb->kpa", turns, far)
    xy = 550 * p[..., :2] / p[..., 2:] + MIDDLE
    xy[((xy <= 0) | (xy >= 2 * MIDDLE)).any(axis=2)] = np.nan
    found = [verify_pair(PHOTOS[:4], pair, None, np.full(4, 550.0)) for pair in all_matches(xy)]
    edges = [edge for edge in found if edge is not None]
    return Alignment(
        np.tile(K, (4, 1, 1)),
        (PINHOLE,) * 4,
        tuple(poses),
        (None,) * 4,
        Tracks.empty(),
        tuple(edges),
        np.ones(len(edges), bool),
        np.zeros((0, 2), np.int64),
        np.full(4, np.nan),
    )


def test_photos_from_one_place_are_told_of() -> None:
    verdict = judge(PHOTOS[:4], _turning(6.0))
    assert verdict is not None
    assert verdict.word == "sound"
    assert "one place" in verdict.reason
    assert verdict.rotation_error_deg is None


def test_one_photo_from_aside_makes_no_doubt_of_those_from_one_place() -> None:
    rng = np.random.default_rng(0)
    far = rng.uniform(-1, 1, (500, 3)) * [5, 2, 1.5] + [0, 0, 5]
    turns = np.radians([-20, -12, -4, 4, 12, 3])[:, None] * [[0.0, 1.0, 0.0]]
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, :3, :3] = rotation_exp(turns)
    poses[-1, :3, 3] = [0.8, 0, 0]
    K = pinhole(550.0, WIDTH, HEIGHT)
    xy = np.stack([project(transform_points(invert_rigid(pose), far), K) for pose in poses])
    solved = _solved(xy + rng.normal(0, 0.3, xy.shape))
    verdict = judge(PHOTOS, solved)
    assert verdict is not None and verdict.word == "sound"


def test_photos_that_show_the_same_from_the_same_place_are_doubtful() -> None:
    verdict = judge(PHOTOS[:4], _turning(0.0))
    assert verdict is not None
    assert verdict.word == "doubtful"
    assert "mask what stands still" in verdict.reason


def test_one_placed_photo_has_no_verdict(right: Alignment) -> None:
    alone = (right.cam_to_world[0], *[None] * (COUNT - 1))
    assert judge(PHOTOS, replace(right, cam_to_world=alone)) is None


def test_matches_fit_where_cameras_are_right(right: Alignment) -> None:
    fits = pair_fits(PHOTOS, right)
    assert fits.moves.all()
    assert fits.share.min() > 0.97
