import numpy as np
import pytest
import torch
from synthetic import ROOM, Plane, Shot, sample_tracks, shoot, visible

from pointmap.camera import transform_points, unproject
from recon.stage_results import CONFIRMED, DepthMap
from recon.stereo import refine
from recon.stereo.colour_fill import ColourGrid, spread_along_colours
from recon.stereo.cross_check import DeviceDepth, reproject_confirmed
from recon.stereo.fill_unconfirmed import spread
from recon.stereo.photo import Photo2D
from recon.stereo.refine import refine_depths
from recon.stereo.source_photos import PhotoOverview, choose_sources, photos_to_search
from recon.stereo.view import StereoView


def wrong_prior(shot: Shot, error: float, seed: int) -> DepthMap:
    """The true depth times a smooth random field of ``error`` relative standard deviation."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.normal(size=(1, 1, 6, 8)))
    field = torch.nn.functional.interpolate(noise, shot.depth.shape, mode="bicubic")[0, 0].numpy()
    depth = shot.depth * np.exp(error * field / field.std())
    return DepthMap(depth.astype(np.float32), np.full(depth.shape, 0.5, np.float32))


def stereo_views(shots: list[Shot], error: float = 0.1) -> list[StereoView]:
    tracks = sample_tracks(shots)
    views = []
    for i, shot in enumerate(shots):
        mine = tracks.point_index[tracks.view_index == i]
        prior = wrong_prior(shot, error, seed=i)
        views.append(
            StereoView(
                shot.pixels,
                shot.intrinsics,
                shot.cam_to_world,
                prior,
                tracks.points[mine],
                mine,
            )
        )
    return views


def seen_by_another(shots: list[Shot], index: int) -> np.ndarray:
    """Pixels (h, w) of a photo whose surface another photo truly sees."""
    shot = shots[index]
    world = transform_points(shot.cam_to_world, unproject(shot.depth, shot.intrinsics, shot.lens))
    seen = np.zeros(shot.depth.shape, bool)
    for j, other in enumerate(shots):
        if j != index:
            seen |= visible(other, world.reshape(-1, 3))[1].reshape(seen.shape)
    return seen & (shot.depth > 0)


@pytest.fixture(scope="module")
def room() -> tuple[list[Shot], list[StereoView], list[DepthMap]]:
    shots = shoot(5, width=192, height=144, span_deg=50, wavelength=0.5)
    views = stereo_views(shots)
    return shots, views, refine_depths(views)


def test_poor_prior_becomes_stereo_grade(room: tuple) -> None:
    shots, views, refined = room
    good, before = [], []
    for i, shot in enumerate(shots):
        seen = seen_by_another(shots, i)
        good.append(np.abs(refined[i].depth / shot.depth - 1)[seen] < 0.01)
        before.append(np.abs(views[i].prior.depth / shot.depth - 1)[seen] < 0.01)
    assert np.concatenate(before).mean() < 0.15
    assert np.concatenate(good).mean() > 0.85


def test_confidence_tells_right_from_wrong(room: tuple) -> None:
    shots, _, refined = room
    error = np.stack([np.abs(r.depth / s.depth - 1) for r, s in zip(refined, shots, strict=True)])
    confidence = np.stack([r.confidence for r in refined])
    confirmed = confidence > 0.35
    assert confirmed.mean() > 0.8
    assert (error[confirmed] < 0.02).mean() > 0.97
    assert error[~confirmed].mean() > 5 * error[confirmed].mean()


def test_subpixel_depth_has_no_half_pixel_bias(room: tuple) -> None:
    shots, _, refined = room
    for shot, depth in zip(shots, refined, strict=True):
        ratio = (depth.depth / shot.depth)[depth.confidence > 0.35]
        # Half a pixel at these baselines would be 0.5 % and more.
        assert abs(np.median(ratio) - 1) < 0.001


def test_two_photos_are_enough() -> None:
    shots = shoot(2, width=192, height=144, span_deg=10, wavelength=0.5)
    refined = refine_depths(stereo_views(shots))
    seen = seen_by_another(shots, 0)
    error = np.abs(refined[0].depth / shots[0].depth - 1)[seen]
    assert (error < 0.01).mean() > 0.8
    assert (refined[0].confidence > 0.35).mean() > 0.7


def test_any_number_of_threads_gives_the_same_and_progress_is_told() -> None:
    shots = shoot(2, width=96, height=72, span_deg=10, wavelength=0.6)
    told: list[tuple[int, int]] = []
    views = stereo_views(shots)
    first = refine_depths(views, on_progress=lambda done, total: told.append((done, total)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        again = refine_depths(views)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert told == [(done, 4) for done in (1, 2, 3, 4)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.confidence, b.confidence)


def plain_room(count: int) -> list[Shot]:
    walls = tuple(Plane(s.normal, s.offset, 0.0) for s in ROOM if isinstance(s, Plane))
    return shoot(count, width=96, height=72, span_deg=20, surfaces=walls)


def mean_error(shots: list[Shot], depths: list[DepthMap], chosen: list[np.ndarray]) -> float:
    parts = [
        np.abs(depth.depth / shot.depth - 1)[mask]
        for shot, depth, mask in zip(shots, depths, chosen, strict=True)
    ]
    return float(np.concatenate(parts).mean())


@pytest.mark.parametrize("error", [0.01, 0.1])
def test_plain_room_leaves_the_prior_as_good_as_it_was(error: float) -> None:
    shots = plain_room(3)
    views = stereo_views(shots, error=error)
    refined = refine_depths(views)
    everywhere = [np.ones(shot.depth.shape, bool) for shot in shots]
    before = mean_error(shots, [view.prior for view in views], everywhere)
    assert mean_error(shots, refined, everywhere) < 1.05 * before


def test_plain_half_of_a_scene_does_not_suffer_from_the_other() -> None:
    plain = tuple(
        Plane(s.normal, s.offset, 0.0 if n in (0, 2) else 1.0)
        for n, s in enumerate(ROOM)
        if isinstance(s, Plane)
    )
    shots = shoot(3, width=128, height=96, span_deg=20, wavelength=0.5, surfaces=plain)
    for error in (0.01, 0.1):
        views = stereo_views(shots, error=error)
        refined = refine_depths(views)
        kept = [depth.confidence <= 0.35 for depth in refined]
        assert 0.1 < np.mean(kept) < 0.8
        before = mean_error(shots, [view.prior for view in views], kept)
        assert mean_error(shots, refined, kept) < before


@pytest.mark.parametrize("count", [0, 1])
def test_without_another_photo_the_prior_comes_back(count: int) -> None:
    views = stereo_views(shoot(2, width=64, height=48)[:1])[:count]
    refined = refine_depths(views)
    assert len(refined) == count
    for view, depth in zip(views, refined, strict=True):
        np.testing.assert_array_equal(depth.depth, view.prior.depth)
        np.testing.assert_array_equal(depth.confidence, view.prior.confidence)


def test_unknown_prior_without_points_stays_unknown() -> None:
    shots = shoot(2, width=64, height=48, span_deg=10)
    nothing = DepthMap(np.zeros((48, 64), np.float32), np.zeros((48, 64), np.float32))
    views = [
        StereoView(
            s.pixels, s.intrinsics, s.cam_to_world, nothing, np.zeros((0, 3)), np.zeros(0, int)
        )
        for s in shots
    ]
    for depth in refine_depths(views):
        assert (depth.depth == 0).all()
        assert (depth.confidence == 0).all()


def test_photo_from_the_same_spot_is_no_source() -> None:
    views = stereo_views(shoot(3, width=64, height=48, span_deg=20))
    photos = [PhotoOverview.of(view) for view in (*views, views[0])]
    assert choose_sources(photos, 3)[0] == [1, 2]


@pytest.fixture(scope="module")
def pan() -> list[PhotoOverview]:
    """Sixty tiny photos of a slow pan."""
    shots = shoot(60, width=48, height=36, span_deg=100, wavelength=0.5)
    return [PhotoOverview.of(view) for view in stereo_views(shots)]


def test_sources_among_many_are_those_that_judging_all_finds(pan: list[PhotoOverview]) -> None:
    few = [choose_sources([photo, *pan[::2]], 3)[0] for photo in pan[1::10]]
    among = choose_sources(pan, 3, among=range(0, 60, 2))[1::10]
    assert [[2 * (k - 1) for k in row] for row in few] == among
    # So near by that nothing among the rest is better.
    every = [sorted(row) for row in choose_sources(pan, 3)]
    assert all(max(row) - min(row) < 25 for row in every)


def test_of_a_slow_pan_some_photos_are_searched_and_see_almost_all(
    pan: list[PhotoOverview],
) -> None:
    assert photos_to_search(pan[:40]) == list(range(40))
    searched = photos_to_search(pan)
    assert 5 < len(searched) < 40
    seen = np.bincount(np.concatenate([photo.point_ids for photo in pan]))
    by_searched = np.bincount(
        np.concatenate([pan[k].point_ids for k in searched]), minlength=len(seen)
    )
    assert (by_searched >= np.minimum(seen, 3)).mean() > 0.85
    assert (by_searched[seen > 1] > 0).mean() > 0.97


def test_photos_that_are_not_searched_borrow_their_depth(
    room: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots, views, refined = room
    monkeypatch.setattr(refine, "photos_to_search", lambda photos: [0, 1, 3, 4])
    lent = refine_depths(views)[2]
    seen = seen_by_another(shots, 2)
    confirmed = lent.confidence > CONFIRMED
    error = np.abs(lent.depth / shots[2].depth - 1)
    assert confirmed[seen].mean() > 0.8 * (refined[2].confidence > CONFIRMED)[seen].mean()
    assert np.median(error[confirmed]) < 0.004
    assert (error[confirmed] < 0.02).mean() > 0.97


def test_what_is_known_spreads_along_its_colour() -> None:
    """A red door with a known frame, a blue chair in front of it with another value."""
    pixels = torch.zeros(60, 80, 3)
    pixels[..., 0] = 0.8
    pixels[20:50, 30:55] = torch.tensor([0.1, 0.2, 0.8])
    truth = torch.where(pixels[..., 0] > 0.5, 1.0, 2.0)
    weights = torch.zeros(60, 80)
    weights[:, ::79] = weights[22:48, 32:53] = 1.0
    coarse = spread(truth, weights)
    filled = spread_along_colours(truth * weights, weights, ColourGrid.of(pixels), coarse)
    unknown = weights == 0
    assert (filled - truth)[unknown].abs().mean() < 0.08
    assert (coarse - truth)[unknown].abs().mean() > 0.15
    nothing = spread_along_colours(truth, torch.zeros_like(weights), ColourGrid.of(pixels), coarse)
    assert torch.allclose(nothing, coarse)


def test_confirmed_depth_of_another_photo_is_borrowed_at_the_right_pixels() -> None:
    shots = shoot(3, width=80, height=60, span_deg=20)
    given = [
        DeviceDepth(
            torch.from_numpy(shot.depth),
            torch.ones(shot.depth.shape),
            Photo2D(
                torch.zeros(shot.depth.shape),
                torch.from_numpy(shot.intrinsics),
                torch.from_numpy(shot.cam_to_world),
            ),
        )
        for shot in shots
    ]
    lent = reproject_confirmed(given[0].photo, given[1:])
    there = lent.confidence > 0
    ratio = (lent.depth / given[0].depth)[there]
    assert there.float().mean() > 0.7
    assert ((ratio - 1).abs() < 0.03).float().mean() > 0.85
    assert reproject_confirmed(given[0].photo, []).confidence.sum() == 0
