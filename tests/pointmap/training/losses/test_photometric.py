"""Photometric terms: hand-worked values, exact warps, invariances, gradients, bad corners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from synthetic import Shot, shoot
from torch import Tensor

from pointmap.training.losses.photometric import (
    Warped,
    depth_consistency,
    inverse_warp,
    minimum_reprojection,
    photometric_error,
    sample,
    smoothness,
    ssim,
)

WIDTH, HEIGHT = 64, 48


def double(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float64))[None]


def photo(shot: Shot) -> Tensor:
    return double(shot.pixels).permute(0, 3, 1, 2) / 255


def to_source(target: Shot, source: Shot) -> Tensor:
    return double(np.linalg.inv(source.cam_to_world) @ target.cam_to_world)


def warp_of(target: Shot, source: Shot, depth: Tensor | None = None) -> Warped:
    return inverse_warp(
        photo(source),
        double(target.depth) if depth is None else depth,
        double(target.intrinsics),
        double(source.intrinsics),
        to_source(target, source),
    )


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=WIDTH, height=HEIGHT, span_deg=8, wavelength=1.0)


def test_ssim_of_worked_windows() -> None:
    ones = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    # Constant windows of 1 and 0.5: means 1 and 0.5, no variance.
    expected = (2 * 0.5 + 1e-4) * 9e-4 / ((1 + 0.25 + 1e-4) * 9e-4)
    torch.testing.assert_close(ssim(ones, 0.5 * ones), torch.full_like(ones, expected))
    # A checkerboard against its negative: at the centre of 3x3, means 5/9 and 4/9, variances
    # 20/81, covariance -20/81.
    board = (torch.arange(3)[:, None] + torch.arange(3)) % 2 == 0
    a = board.double()[None, None]
    mean, var = 20 / 81, 20 / 81
    worked = (2 * mean + 1e-4) * (-2 * var + 9e-4)
    worked /= ((25 + 16) / 81 + 1e-4) * (2 * var + 9e-4)
    assert ssim(a, 1 - a)[0, 0, 1, 1].item() == pytest.approx(worked, rel=1e-9)


def test_photometric_error_of_worked_values_and_zero_at_equality() -> None:
    ones = torch.ones(1, 3, 4, 4, dtype=torch.float64)
    structure = (1 - (1 + 1e-4) / (1.25 + 1e-4)) / 2
    torch.testing.assert_close(
        photometric_error(ones, 0.5 * ones),
        torch.full((1, 4, 4), 0.85 * structure + 0.15 * 0.5, dtype=torch.float64),
    )
    noise = torch.rand(1, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert photometric_error(noise, noise).abs().max() < 1e-12


def test_sampling_at_pixel_centres_returns_the_pixels() -> None:
    values = torch.arange(12, dtype=torch.float64).reshape(1, 1, 3, 4)
    centres = torch.tensor([[[[0.5, 0.5], [3.5, 2.5], [1.0, 0.5], [0.0, 0.0]]]]).double()
    torch.testing.assert_close(
        sample(values, centres)[0, 0, 0], torch.tensor([0, 11, 0.5, 0]).double()
    )


def test_a_photo_warped_by_the_truth_is_the_other_photo(shots: list[Shot]) -> None:
    target, source = shots[1], shots[0]
    warped = warp_of(target, source)
    right = photometric_error(photo(target), warped.image)[warped.visible].median()
    still = photometric_error(photo(target), photo(source)).median()
    assert right < 0.15 * still
    # A pose the wrong way round, and centres at integers, are no explanation.
    wrong = inverse_warp(
        photo(source),
        double(target.depth),
        double(target.intrinsics),
        double(source.intrinsics),
        torch.linalg.inv(to_source(target, source)),
    )
    error = photometric_error(photo(target), wrong.image)[wrong.visible].median()
    assert right < 0.2 * error


def test_what_lies_behind_the_source_or_outside_it_is_not_visible(shots: list[Shot]) -> None:
    shot = shots[0]
    forward, aside = (torch.eye(4, dtype=torch.float64)[None].clone() for _ in range(2))
    forward[:, 2, 3], aside[:, 0, 3] = -1000.0, 1000.0
    K = double(shot.intrinsics)
    for pose in (forward, aside):
        warped = inverse_warp(photo(shot), double(shot.depth), K, K, pose)
        assert not warped.visible.any()
        assert torch.isfinite(warped.image).all()
        found = minimum_reprojection(photo(shot), [photo(shot)], [warped])
        assert found.loss == 0 and not found.counted.any()


def test_the_minimum_over_sources_ignores_one_that_is_wrong(shots: list[Shot]) -> None:
    target = photo(shots[1])
    good = warp_of(shots[1], shots[0])
    noise = torch.rand(target.shape, dtype=torch.float64)
    bad = Warped(noise, good.pixels, good.z, torch.ones_like(good.visible))
    sources = [photo(shots[0]), noise]
    alone = minimum_reprojection(target, sources[:1], [good], auto_mask=False)
    both = minimum_reprojection(target, sources, [good, bad], auto_mask=False)
    assert both.error[good.visible].mean() <= alone.error[good.visible].mean()
    average = photometric_error(target, noise)[good.visible].mean()
    assert both.error[good.visible].mean() < 0.5 * average


def test_what_stands_still_in_the_picture_is_masked(shots: list[Shot]) -> None:
    target, source = photo(shots[1]).clone(), photo(shots[0]).clone()
    patch = torch.rand(1, 3, 16, 20, dtype=torch.float64)
    for image in (target, source):
        image[..., 10:26, 20:40] = patch
    warped = inverse_warp(
        source,
        double(shots[1].depth),
        double(shots[1].intrinsics),
        double(shots[0].intrinsics),
        to_source(shots[1], shots[0]),
    )
    counted = minimum_reprojection(target, [source], [warped]).counted
    assert counted[..., 11:25, 21:39].float().mean() < 0.02
    elsewhere = counted.clone()
    elsewhere[..., 8:28, 18:42] = True
    assert elsewhere.float().mean() > 0.6
    everything = minimum_reprojection(target, [source], [warped], auto_mask=False).counted
    assert torch.equal(everything, warped.visible)


def test_a_camera_that_stands_still_teaches_nothing(shots: list[Shot]) -> None:
    image = photo(shots[0])
    depth = double(shots[0].depth).requires_grad_()
    K = double(shots[0].intrinsics)
    still = torch.eye(4, dtype=torch.float64)[None]
    warped = inverse_warp(image, depth, K, K, still)
    # Sampled at its own pixel centres, a photo is itself but for rounding.
    exact = Warped(image, warped.pixels, warped.z, warped.visible)
    assert not minimum_reprojection(image, [image], [exact]).counted.any()


def test_smoothness_of_worked_values_and_its_invariance_to_scale() -> None:
    inverse = torch.tensor([[[1.0, 3.0], [1.0, 3.0]]]).double()
    image = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    # Over the mean 2: steps of 1 in x, none in y.
    assert smoothness(inverse, image).item() == pytest.approx(1.0)
    assert smoothness(7 * inverse, image).item() == pytest.approx(1.0)
    image[..., 1] = 1.0
    assert smoothness(inverse, image).item() == pytest.approx(np.exp(-1))
    assert smoothness(torch.ones_like(inverse), image).item() == 0


def test_consistency_is_zero_at_the_truth_and_monodepths_for_a_stereo_pair() -> None:
    # Rectified: focal 10, baseline 1; a wall of disparity 2 and one claimed to be of 2.5.
    K = torch.tensor([[[10.0, 0, 8], [0, 10, 4], [0, 0, 1]]]).double()
    pose = torch.eye(4, dtype=torch.float64)[None].clone()
    pose[:, 0, 3] = -1.0
    left = torch.full((1, 8, 16), 10 / 2, dtype=torch.float64)
    warped = inverse_warp(torch.zeros(1, 1, 8, 16).double(), left, K, K, pose)
    # Disparity 2: x moves by two pixels, and the first two columns leave the photo.
    assert torch.equal(warped.visible[0, 0], torch.arange(16) >= 2)
    assert depth_consistency(warped, left).item() == pytest.approx(0, abs=1e-12)
    right = torch.full_like(left, 10 / 2.5)
    assert depth_consistency(warped, right).item() == pytest.approx(0.5 / 2.25)
    assert depth_consistency(warped, 1e3 * right).item() > 0.5


def test_gradients_are_those_of_finite_differences(shots: list[Shot]) -> None:
    generator = torch.Generator().manual_seed(1)
    target, source = torch.rand(2, 1, 3, 6, 7, generator=generator, dtype=torch.float64)
    K = torch.tensor([[[6.0, 0, 3.5], [0, 6, 3], [0, 0, 1]]]).double()
    pose = torch.eye(4, dtype=torch.float64)[None].clone()
    pose[:, 0, 3] = 0.13
    depth = 2 + 0.2 * torch.rand(1, 6, 7, generator=generator, dtype=torch.float64)

    def loss(depth: Tensor, shift: Tensor) -> Tensor:
        moved = pose.clone()
        moved[:, 0, 3] = shift
        warped = inverse_warp(source, depth, K, K, moved)
        found = minimum_reprojection(target, [source], [warped], auto_mask=False)
        consistent = depth_consistency(warped, 1.1 * depth)
        return found.loss + 0.1 * smoothness(1 / depth, target) + consistent

    shift = torch.tensor(0.13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (depth.requires_grad_(), shift))
