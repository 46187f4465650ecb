"""Depth maps of other models: read strictly, brought to the scene by matches and by its points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import Shot, sample_tracks, shoot, visible

from pointmap.camera import pixel_rays, transform_points
from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto
from pointmap.lens import Lens
from recon.depth.given_maps_in_scene import priors_from_scene
from recon.prediction.given_maps import PriorMap, priors_from_matches, read_prior_maps
from recon.scene import Tracks
from recon.stage_results import Alignment, PairMatches, PhotoPrior

WIDTH, HEIGHT, FOCAL = 160, 120, 0.95 * 160


def photo(name: str = "a.jpg", width: int = WIDTH, height: int = HEIGHT) -> Photo:
    return Photo(Path(name), name, width, height, exif_focal_px=None, camera_key="c")


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=WIDTH, height=HEIGHT, span_deg=40)


def maps_of(shots: list[Shot], kind: str) -> list[PriorMap]:
    """Another model's output: its own scale and shift per photo."""
    maps = []
    for n, shot in enumerate(shots):
        exact = 1 / shot.depth if kind == "disparity" else shot.depth
        maps.append(PriorMap(((7 + n) * (exact + (0.1, -0.04, 0.2)[n])).astype(np.float32)))
    return maps


def matches_of(shots: list[Shot]) -> list[PairMatches]:
    rng = np.random.default_rng(0)
    found = []
    for i, j in ((0, 1), (1, 2)):
        column, row = rng.integers(0, WIDTH, 400), rng.integers(0, HEIGHT, 400)
        xy = np.stack([column, row], 1) + 0.5
        z = shots[i].depth[row, column].astype(np.float64)
        rays = pixel_rays(xy, shots[i].intrinsics) * z[:, None]
        other, seen = visible(shots[j], transform_points(shots[i].cam_to_world, rays), 0.003)
        number = np.arange(int(seen.sum()))
        found.append(PairMatches(i, j, xy[seen], other[seen], number, number, 0.5))
    return found


def network_priors(count: int) -> list[PhotoPrior]:
    """A network that sees a wall everywhere, at a quarter of the size."""
    points = np.ones((HEIGHT // 4, WIDTH // 4, 3), np.float32)
    return [PhotoPrior(points, np.full(points.shape[:2], 2, np.float32), 99.0)] * count


def relative_error(prior: PhotoPrior, shot: Shot) -> float:
    h, w = prior.confidence.shape
    step = HEIGHT // h
    truth = shot.depth[step // 2 :: step, step // 2 :: step][:h, :w]
    ratio = prior.points[..., 2] / truth
    return float(np.median(np.abs(ratio / np.median(ratio) - 1)))


@pytest.mark.parametrize("kind", ["disparity", "depth"])
def test_matches_alone_give_shape_and_focal_before_any_camera_is_known(
    shots: list[Shot], kind: str
) -> None:
    priors = priors_from_matches(
        maps_of(shots, kind), [photo()] * 3, matches_of(shots), network_priors(3)
    )
    for prior, shot in zip(priors, shots, strict=True):
        # The size of the network's pointmaps, whose samples it is compared with.
        assert prior.confidence.shape == (HEIGHT // 4, WIDTH // 4)
        assert prior.focal_px == pytest.approx(FOCAL, rel=0.02)
        assert relative_error(prior, shot) < 0.01
        # A pointmap: x is where the pixel's ray is at that depth.
        x = prior.points[10, 30, 0] / prior.points[10, 30, 2] * prior.focal_px
        assert x == pytest.approx(4 * 30.5 - WIDTH / 2, rel=1e-4)


def test_without_matches_the_network_scales_and_shifts_the_map(
    shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    told = PhotoPrior(
        np.repeat(shots[0].depth[2::4, 2::4, None], 3, 2), np.full((30, 40), 2, np.float32), 99.0
    )
    maps = maps_of(shots, "disparity")
    prior, *_ = priors_from_matches(maps[:1], [photo()], [], [told])
    assert relative_error(prior, shots[0]) < 0.01 and prior.focal_px == 99.0
    # A network that sees a wall knows of no scale: the map is left out, and that is said.
    (wall,) = network_priors(1)
    kept, *_ = priors_from_matches(maps[:1], [photo()], [], [wall])
    assert kept is wall and "a.jpg" in caplog.text


@pytest.mark.parametrize("kind", ["disparity", "depth"])
def test_scene_points_scale_and_shift_the_maps_exactly_whatever_they_hold(
    shots: list[Shot], kind: str
) -> None:
    exact = sample_tracks(shots, 80)
    outliers = exact.points.copy()
    rng = np.random.default_rng(0)
    outliers[rng.random(len(outliers)) < 0.2] += rng.normal(size=3)
    tracks = Tracks(outliers, exact.colours, exact.point_index, exact.view_index, exact.xy)
    alignment = Alignment(
        intrinsics=np.stack([s.intrinsics for s in shots]),
        lenses=(Lens(),) * 3,
        cam_to_world=(*(s.cam_to_world for s in shots[:2]), None),
        reasons=(None, None, "no matches"),
        tracks=tracks,
        edges=(),
        used_edges=np.zeros(0, bool),
        pointmap_pairs=np.zeros((0, 2), np.int64),
        depth_scale=np.full(3, np.nan),
    )
    maps = maps_of(shots, kind)
    maps[0].values[5:9, 5:9] = 0
    before = network_priors(3)
    frames = [ResizedPhoto(photo(), shot.pixels) for shot in shots]
    priors, _ = priors_from_scene(maps, frames, alignment, before, before)
    for prior, shot in zip(priors[:2], shots[:2], strict=True):
        known = prior.confidence > 0
        ratio = prior.points[..., 2][known] / shot.depth[known]
        assert np.abs(ratio - 1).max() < 0.02
        assert prior.focal_px == pytest.approx(FOCAL)
    assert (priors[0].confidence[5:9, 5:9] == 0).all()
    assert priors[2] is before[2]
    maps[0].values[5:9, 5:9] = 1


def solved(shots: list[Shot], tracks: Tracks) -> Alignment:
    """The true cameras."""
    return Alignment(
        intrinsics=np.stack([s.intrinsics for s in shots]),
        lenses=(Lens(),) * 3,
        cam_to_world=tuple(s.cam_to_world for s in shots),
        reasons=(None,) * 3,
        tracks=tracks,
        edges=(),
        used_edges=np.zeros(0, bool),
        pointmap_pairs=np.zeros((0, 2), np.int64),
        depth_scale=np.full(3, np.nan),
    )


def test_a_photo_without_points_is_fitted_to_what_its_neighbours_show(shots: list[Shot]) -> None:
    tracks = sample_tracks(shots, 80)
    seen = tracks.view_index != 1
    tracks = Tracks(tracks.points, tracks.colours, tracks.point_index[seen],
                    tracks.view_index[seen], tracks.xy[seen])  # fmt: skip
    frames = [ResizedPhoto(photo(), shot.pixels) for shot in shots]
    network = network_priors(3)
    maps = [replace(m, kind="disparity") for m in maps_of(shots, "disparity")]
    priors, known = priors_from_scene(maps, frames, solved(shots, tracks), network, network)
    ratio = priors[1].points[..., 2] / shots[1].depth
    assert np.abs(np.median(ratio) - 1) < 0.02 and relative_error(priors[1], shots[1]) < 0.02
    # Its depth is in scene units by now, without a point that would tie it to them.
    assert known.depth_scale[1] == 1 and np.isnan(known.depth_scale[[0, 2]]).all()


def test_metres_need_a_scale_alone_and_few_points(shots: list[Shot]) -> None:
    tracks = sample_tracks(shots, 80)
    few = np.concatenate([np.flatnonzero(tracks.view_index == k)[:3] for k in range(3)])
    tracks = Tracks(tracks.points, tracks.colours, tracks.point_index[few],
                    tracks.view_index[few], tracks.xy[few])  # fmt: skip
    frames = [ResizedPhoto(photo(), shot.pixels) for shot in shots]
    maps = [PriorMap(7 * shot.depth, "metres") for shot in shots]
    priors, _ = priors_from_scene(
        maps, frames, solved(shots, tracks), network_priors(3), network_priors(3)
    )
    for prior, shot in zip(priors, shots, strict=True):
        assert np.abs(prior.points[..., 2] / shot.depth - 1).max() < 0.02


def test_a_wrong_map_is_left_out_for_the_networks_depth(
    shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    frames = [ResizedPhoto(photo(), shot.pixels) for shot in shots]
    network = [
        PhotoPrior(np.repeat(shot.depth[2::4, 2::4, None], 3, 2), np.full((30, 40), 2.0), 99.0)
        for shot in shots
    ]
    maps = [PriorMap(1 / shot.depth, "disparity") for shot in shots]
    maps[1] = PriorMap(maps[1].values[:, ::-1].copy(), "disparity")
    alignment = solved(shots, sample_tracks(shots, 80))
    priors, _ = priors_from_scene(maps, frames, alignment, network, network)
    assert priors[1] is network[1] and "1 depth maps fit the scene worse" in caplog.text
    assert relative_error(priors[0], shots[0]) < 0.01


def write(folder: Path, name: str, values: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, disparity=values)
    else:
        Image.fromarray(values).save(path)


def test_maps_are_read_from_all_three_kinds_of_file(tmp_path: Path) -> None:
    ramp = np.linspace(1, 2, 60)[:, None] + np.linspace(0, 1, 80)
    write(tmp_path, "a.npy", ramp.astype(np.float16))
    write(tmp_path, "b.npz", ramp[None].astype(np.float32))
    write(tmp_path, "c.png", (ramp * 20000).astype(np.uint16))
    photos = [photo("a.jpg"), photo("b.HEIC"), photo("c.png", 1600, 1200)]
    maps = read_prior_maps(tmp_path, photos)
    for map_, unit in zip(maps, (1, 1, 20000), strict=True):
        np.testing.assert_allclose(map_.values / unit, ramp, rtol=2e-3)
    # Pixel centres: the middle of the photo is between the middle pixels.
    at = maps[2].at(np.array([[800.0, 600.0], [0.0, 0.0], [1600.0, 0.0]]), photos[2])
    np.testing.assert_allclose(at, [maps[2].values[30, 40], maps[2].values[0, 0], 0])


def test_large_maps_are_reduced(tmp_path: Path) -> None:
    write(tmp_path, "a.npy", np.linspace(1, 2, 1200 * 900).reshape(900, 1200))
    (map_,) = read_prior_maps(tmp_path, [photo()])
    assert map_.values.shape == (384, 512)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("b.npy", np.eye(3), "has no depth map for a.jpg: add a.npy, .npz or .png"),
        ("a.npy", np.ones((3, 60, 80)), "shape (3, 60, 80)"),
        ("a.npy", np.random.default_rng(0).random((80, 60)), "a.npy is 60x80, a.jpg is 160x120"),
        ("a.npy", np.full((60, 80), np.nan), "4800 values that are not finite; write 0"),
        ("a.npz", np.ones((60, 80)), "the same everywhere"),
        ("a.npy", np.zeros((60, 80)), "the same everywhere"),
    ],
)
def test_unusable_maps_are_named_with_the_remedy(
    tmp_path: Path, name: str, values: np.ndarray, says: str
) -> None:
    write(tmp_path, name, values)
    with pytest.raises(InputError) as caught:
        read_prior_maps(tmp_path, [photo()])
    assert says in str(caught.value)


def test_a_missing_folder_and_damaged_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        read_prior_maps(tmp_path / "none", [photo()])
    for name in ("a.png", "a.npz", "a.npy"):
        (tmp_path / name).write_bytes(b"no picture")
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_prior_maps(tmp_path, [photo()])
    np.savez(tmp_path / "a.npz", depth=np.eye(4), confidence=np.eye(4))
    (tmp_path / "a.npy").unlink()
    with pytest.raises(InputError, match="2 arrays"):
        read_prior_maps(tmp_path, [photo()])
