"""Relative pose from matches: exact, robust, the same in any batch."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from pointmap.camera import rotation_angle_deg
from pointmap.network.matched.pose_solver import (
    FOCALS,
    SolvedPose,
    agreement,
    at_focal,
    relative_pose,
    triangulate,
)


def pair(
    seed: int, *, noise: float = 0.0, wrong: float = 0.0, count: int = 300, plane: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rays of matches between two cameras turned by up to 30 degrees; R and t (unit)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1

    axis = draw(3)
    angle = math.radians(30) * float(draw(1)) * axis / axis.norm()
    x, y, z = angle.tolist()
    R = torch.linalg.matrix_exp(
        torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    )
    points = torch.cat([draw(count, 2) * 2, 4 + draw(count, 1)], dim=1)
    if plane:
        points[:, 2] = 4 + 0.4 * points[:, 0]
    # Camera 2 looks at the same middle: where it is follows from its turn, and a little more.
    middle = torch.tensor([0.0, 0, 4], dtype=torch.float64)
    t = middle - R @ middle + 0.6 * draw(3)
    t = t * max(1.0, 0.6 / float(t.norm()))
    second = (points - t) @ R
    rays = [points / points[:, 2:], second / second[:, 2:]]
    for ray in rays:
        ray[:, :2] += noise * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    swapped = int(wrong * count)
    rays[1][:swapped, :2] = draw(swapped, 2) * 0.5
    return rays[0][None], rays[1][None], R, t / t.norm()


def errors_deg(found: SolvedPose, R: torch.Tensor, t: torch.Tensor) -> tuple[float, float]:
    turn = float(rotation_angle_deg((found.R[0].T @ R).numpy()))
    return turn, math.degrees(math.acos(min(1.0, float(found.t[0] @ t))))


@pytest.mark.parametrize("seed", range(12))
def test_exact_matches_give_the_pose(seed: int) -> None:
    rays1, rays2, R, t = pair(seed)
    found = relative_pose(rays1, rays2, torch.ones(1, 300, dtype=torch.float64))
    turn, shift = errors_deg(found, R, t)
    assert turn < 0.5 and shift < 3
    assert float(found.focal[0]) == pytest.approx(1, rel=0.03)
    assert float(found.support[0, FOCALS.index(1)]) > 0.98


@pytest.mark.parametrize("times", [0.65, 0.9, 1.37, 2.0])
def test_matches_tell_the_focal_length(times: float) -> None:
    """Rays that were made for another focal length.

    Two cameras that turn around one point tell little of it, and what is usual weighs a little: the
    middle of six pairs comes near.
    """
    rows = []
    for seed in range(6):
        rays1, rays2, R, t = pair(seed)
        usual = torch.full((1,), 1 / times, dtype=torch.float64)
        given1, given2 = at_focal(rays1, usual), at_focal(rays2, usual)
        found = relative_pose(given1, given2, torch.ones(1, 300, dtype=torch.float64))
        rows.append((float(found.focal[0]), *errors_deg(found, R, t)))
        assert float(found.support[0].amax()) > float(found.support[0, FOCALS.index(1)])
    focal, turn, shift = map(statistics.median, zip(*rows, strict=True))
    assert focal == pytest.approx(times, rel=0.1)
    assert turn < 1.5 and shift < 5


def test_long_lenses_are_found_among_wrong_matches() -> None:
    """At the usual focal length, no pose is near enough to begin from."""
    near = 0
    for seed in range(8):
        rays1, rays2, R, t = pair(seed, noise=0.001, wrong=0.15)
        usual = torch.full((1,), 1 / 2.3, dtype=torch.float64)
        given1, given2 = at_focal(rays1, usual), at_focal(rays2, usual)
        found = relative_pose(given1, given2, torch.ones(1, 300, dtype=torch.float64))
        turn, shift = errors_deg(found, R, t)
        near += abs(float(found.focal[0]) / 2.3 - 1) < 0.11 and turn < 1 and shift < 2
    assert near >= 7


def test_at_half_the_focal_length_rays_are_twice_as_slanted() -> None:
    rays = torch.tensor([[[0.1, -0.2, 1.0], [0.0, 0.4, 1.0]]])
    half = at_focal(rays, torch.tensor([0.5]))
    assert torch.allclose(half, torch.tensor([[[0.2, -0.4, 1.0], [0.0, 0.8, 1.0]]]))


@pytest.mark.parametrize("seed", range(12))
def test_a_third_of_wrong_matches_and_a_pixel_of_noise_are_borne(seed: int) -> None:
    rays1, rays2, R, t = pair(seed, noise=0.004, wrong=0.33)
    found = relative_pose(rays1, rays2, torch.ones(1, 300, dtype=torch.float64))
    turn, shift = errors_deg(found, R, t)
    assert turn < 3 and shift < 10
    good = agreement(found.R, found.t, found.focal, rays1, rays2)[0]
    assert float(good[99:].mean()) > 0.65 > 0.4 > float(good[:99].mean())


def test_weights_of_zero_silence_wrong_matches() -> None:
    rays1, rays2, R, t = pair(3, wrong=0.6)
    weights = torch.ones(1, 300, dtype=torch.float64)
    weights[:, :180] = 0
    turn, shift = errors_deg(relative_pose(rays1, rays2, weights), R, t)
    assert turn < 0.5 and shift < 3


def test_rays_meet_at_the_true_depths() -> None:
    rays1, rays2, R, t = pair(4)
    z1, z2 = triangulate(R[None], t[None], rays1, rays2)
    first = rays1 * z1[..., None]
    second = rays2 * z2[..., None] @ R.T + t
    assert torch.allclose(first, second, atol=1e-6)
    assert (z1 > 0).all() and (z2 > 0).all()


def test_a_pair_has_the_same_answer_in_any_batch() -> None:
    pairs = [pair(seed, noise=0.003, wrong=0.2) for seed in range(4)]
    weights = torch.ones(4, 300, dtype=torch.float64)
    together = relative_pose(
        torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]), weights
    )
    for k, (rays1, rays2, _, _) in enumerate(pairs):
        alone = relative_pose(rays1, rays2, weights[:1])
        assert torch.allclose(alone.R[0], together.R[k], atol=1e-7)
        assert torch.allclose(alone.t[0], together.t[k], atol=1e-6)


def test_a_pair_has_one_pose_whichever_photo_comes_first() -> None:
    weights = torch.ones(1, 300, dtype=torch.float64)
    for seed in range(4):
        # Hard enough that other draws would end elsewhere.
        rays1, rays2, _, _ = pair(seed, noise=0.006, wrong=0.5)
        forth, back = relative_pose(rays1, rays2, weights), relative_pose(rays2, rays1, weights)
        again = back.inverse()
        assert torch.allclose(forth.R, again.R, atol=1e-6)
        assert torch.allclose(forth.t, again.t, atol=1e-6)
        assert torch.allclose(forth.focal, again.focal)


@pytest.mark.parametrize("what", ["nothing weighs", "one place", "no motion"])
def test_degenerate_matches_give_finite_numbers(what: str) -> None:
    rays1, rays2, _, _ = pair(5)
    weights = torch.ones(1, 300)
    rays1, rays2 = rays1.float(), rays2.float()
    if what == "nothing weighs":
        weights = torch.zeros(1, 300)
    elif what == "one place":
        rays1, rays2 = rays1[:, :1].expand(-1, 300, -1), rays2[:, :1].expand(-1, 300, -1)
    else:
        rays2 = rays1
    found = relative_pose(rays1, rays2, weights)
    assert all(bool(x.isfinite().all()) for x in found)
    assert torch.allclose(found.R[0] @ found.R[0].T, torch.eye(3), atol=1e-4)
    assert all(bool(x.isfinite().all()) for x in triangulate(found.R, found.t, rays1, rays2))
