from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Shot, sample_tracks, shoot

from pointmap.camera import unproject
from pointmap.images import Photo, ResizedPhoto
from pointmap.lens import Lens
from recon.depth.anchored_prior import DepthOptions, fuse_depths, upsample_prior
from recon.scene import Tracks
from recon.stage_results import Alignment, PhotoPrior

WIDTH, HEIGHT = 160, 120


def prior_of(
    shot: Shot, *, scale: float = 1.0, slope: float = 1.0, bend: float = 0.0
) -> PhotoPrior:
    """A network-like pointmap: the true one in another unit, stretched in log depth and bent."""
    x = np.linspace(-1, 1, shot.depth.shape[1])[None]
    depth = scale * shot.depth.astype(np.float64) ** slope * np.exp(bend * np.sin(3 * x))
    points = unproject(depth, shot.intrinsics).astype(np.float32)
    return PhotoPrior(points, np.full(depth.shape, 5.0, np.float32), 100.0)


def frame_of(shot: Shot, *, original: tuple[int, int] = (4 * WIDTH, 4 * HEIGHT)) -> ResizedPhoto:
    photo = Photo(Path("a.jpg"), "a.jpg", *original, exif_focal_px=None, camera_key="c")
    return ResizedPhoto(photo, shot.pixels)


def aligned(shots: list[Shot], tracks: Tracks) -> Alignment:
    """The true cameras; track positions in the pixels of originals four times as large."""
    tracks = Tracks(
        tracks.points, tracks.colours, tracks.point_index, tracks.view_index, 4 * tracks.xy
    )
    intrinsics = np.stack([np.diag([4, 4, 1]) @ shot.intrinsics for shot in shots])
    return Alignment(
        intrinsics=intrinsics,
        lenses=(Lens(),) * len(shots),
        cam_to_world=tuple(shot.cam_to_world for shot in shots),
        reasons=(None,) * len(shots),
        tracks=tracks,
        edges=(),
        used_edges=np.zeros(0, bool),
        pointmap_pairs=np.zeros((0, 2), np.int64),
        depth_scale=np.full(len(shots), np.nan),
    )


def relative_error(depth: np.ndarray, shot: Shot) -> float:
    return float(np.median(np.abs(depth / shot.depth - 1)))


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=WIDTH, height=HEIGHT, span_deg=20)


@pytest.mark.parametrize(
    ("scale", "slope", "bend", "allowed"),
    [(7.0, 1.0, 0.0, 1e-3), (0.1, 1.6, 0.0, 0.02), (3.0, 1.0, 0.2, 0.035)],
)
def test_scale_stretch_and_bend_are_undone(
    shots: list[Shot], scale: float, slope: float, bend: float, allowed: float
) -> None:
    priors = [prior_of(s, scale=scale, slope=slope, bend=bend) for s in shots]
    alignment = aligned(shots, sample_tracks(shots, 80))
    for depth, shot in zip(
        fuse_depths(priors, alignment, [frame_of(s) for s in shots]), shots, strict=True
    ):
        assert depth is not None
        assert relative_error(depth.depth, shot) < allowed


def test_scale_only_leaves_the_shape(shots: list[Shot]) -> None:
    priors = [prior_of(s, bend=0.2) for s in shots]
    alignment = aligned(shots, sample_tracks(shots))
    frames = [frame_of(s) for s in shots]
    fused = fuse_depths(priors, alignment, frames, options=DepthOptions(correct_shape=False))
    assert fused[0] is not None
    ratio = fused[0].depth / priors[0].points[..., 2]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-4)


def test_wrong_points_do_not_move_the_depth(shots: list[Shot]) -> None:
    tracks = sample_tracks(shots)
    rng = np.random.default_rng(0)
    points = tracks.points.copy()
    wrong = rng.random(len(points)) < 0.3
    points[wrong] += rng.normal(size=(wrong.sum(), 3))
    spoiled = Tracks(points, tracks.colours, tracks.point_index, tracks.view_index, tracks.xy)
    fused = fuse_depths(
        [prior_of(s, scale=2.0) for s in shots],
        aligned(shots, spoiled),
        [frame_of(s) for s in shots],
    )
    for depth, shot in zip(fused, shots, strict=True):
        assert depth is not None
        assert relative_error(depth.depth, shot) < 0.05


def test_confidence_falls_with_the_error_that_is_left(shots: list[Shot]) -> None:
    alignment = aligned(shots, sample_tracks(shots))
    frames = [frame_of(s) for s in shots]
    rng = np.random.default_rng(0)
    rough = []
    for shot in shots:
        noisy = shot.depth * np.exp(0.3 * rng.normal(size=shot.depth.shape))
        points = unproject(noisy, shot.intrinsics).astype(np.float32)
        rough.append(PhotoPrior(points, np.full(noisy.shape, 5.0, np.float32), 100.0))
    clean = fuse_depths([prior_of(s) for s in shots], alignment, frames)
    noisy_maps = fuse_depths(rough, alignment, frames)
    for good, bad in zip(clean, noisy_maps, strict=True):
        assert good is not None and bad is not None
        assert 0 < bad.confidence.max() < 0.5 * good.confidence.mean()
        assert good.confidence.max() <= 1


def test_prior_that_is_noise_gives_way_to_the_points(shots: list[Shot]) -> None:
    rng = np.random.default_rng(0)
    priors = []
    for shot in shots:
        noise = np.exp(0.8 * rng.normal(size=shot.depth.shape))
        points = unproject(noise, shot.intrinsics).astype(np.float32)
        priors.append(PhotoPrior(points, np.full(noise.shape, 5.0, np.float32), 100.0))
    alignment = aligned(shots, sample_tracks(shots))
    fused = fuse_depths(priors, alignment, [frame_of(s) for s in shots])
    for depth, shot in zip(fused, shots, strict=True):
        assert depth is not None
        assert relative_error(depth.depth, shot) < 0.12


def test_one_photo_alone_keeps_the_networks_depth(shots: list[Shot]) -> None:
    prior = prior_of(shots[0], scale=3.0)
    fused = fuse_depths([prior], aligned(shots[:1], Tracks.empty()), [frame_of(shots[0])])
    assert fused[0] is not None
    np.testing.assert_allclose(fused[0].depth, 3 * shots[0].depth, rtol=1e-4)
    np.testing.assert_allclose(fused[0].confidence, 0.8)


def test_unplaced_photo_has_no_depth_and_unseen_points_no_confidence(
    shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    full = aligned(shots, Tracks.empty())
    partly = replace(
        full,
        cam_to_world=(None, *full.cam_to_world[1:]),
        reasons=("no matches", None, None),
        depth_scale=np.array([np.nan, np.nan, 3.0]),
    )
    fused = fuse_depths([prior_of(s) for s in shots], partly, [frame_of(s) for s in shots])
    assert fused[0] is None
    assert fused[1] is not None and (fused[1].confidence == 0).all()
    assert caplog.text.count("a.jpg") == 1
    # The third photo's scale is known from pointmaps.
    assert fused[2] is not None and (fused[2].confidence > 0).any()
    assert np.median(fused[2].depth / shots[2].depth) == pytest.approx(3.0, rel=1e-3)


def test_points_behind_the_camera_and_unpredicted_pixels_stay_unknown() -> None:
    points = np.ones((6, 8, 3), np.float32)
    points[:, :3, 2] = -1.0
    points[0, 7, 2] = np.nan
    confidence = np.full((6, 8), 3.0, np.float32)
    confidence[5, 7] = 0
    map_ = upsample_prior(PhotoPrior(points, confidence, 10.0), 12, 16)
    assert (map_.depth[:, :5] == 0).all() and (map_.confidence[:, :5] == 0).all()
    np.testing.assert_allclose(map_.depth[2:10, 7:14], 1.0)
    assert map_.depth[0, 15] == 0 and map_.depth[11, 15] == 0
    assert np.isfinite(map_.depth).all()


def test_upsampling_keeps_pixel_centres() -> None:
    # Log depth linear in x over the whole photo, at a third of the size.
    x = (np.arange(20) + 0.5) / 20
    points = np.zeros((6, 20, 3), np.float32)
    points[..., 2] = np.exp(x)
    map_ = upsample_prior(PhotoPrior(points, np.full((6, 20), 2.0, np.float32), 1.0), 18, 60)
    fine = (np.arange(60) + 0.5) / 60
    np.testing.assert_allclose(
        map_.depth[:, 3:-3], np.exp(fine)[None, 3:-3].repeat(18, 0), rtol=1e-5
    )
