"""Test-time adaptation: what is measured, what is learnt, and that the guard guards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import Shot, sample_tracks, shoot

from pointmap.camera import Array, unproject
from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto
from pointmap.lens import Lens
from pointmap.network import DUSt3R, DUSt3RConfig
from recon.depth.adaptation import (
    Adaptation,
    AdaptOptions,
    Agreement,
    adapt,
    confirmed_views,
    draw_pairs,
    refill,
    reprojection_agreement,
)
from recon.inputs import Inputs
from recon.inputs.known_cameras import KnownCameras
from recon.options import Options
from recon.scene import Tracks
from recon.stage_results import Alignment, DenseDepths, DepthMap, PhotoPrior

WIDTH, HEIGHT, COUNT = 64, 48, 5
CONFIG = DUSt3RConfig(
    img_size=(WIDTH, WIDTH),
    enc_embed_dim=32,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=32,
    dec_depth=1,
    dec_num_heads=2,
    head_type="linear",
)


@dataclasses.dataclass(frozen=True)
class World:
    shots: list[Shot]
    photos: list[ResizedPhoto]
    alignment: Alignment
    depths: list[DepthMap | None]

    def priors(self, bend: float = 0.0) -> list[PhotoPrior]:
        x = np.linspace(-1, 1, WIDTH)[None]
        priors = []
        for n, shot in enumerate(self.shots):
            depth = (1 + n) * shot.depth * np.exp(bend * np.sin(3 * x))
            points = unproject(depth, shot.intrinsics).astype(np.float32)
            priors.append(PhotoPrior(points, np.full(depth.shape, 5, np.float32), 1.0))
        return priors


def alignment_of(intrinsics: Array, poses: list[Array], tracks: Tracks) -> Alignment:
    return Alignment(
        intrinsics=intrinsics,
        lenses=(Lens(),) * len(poses),
        cam_to_world=tuple(poses),
        reasons=(None,) * len(poses),
        tracks=tracks,
        edges=(),
        used_edges=np.zeros(0, bool),
        pointmap_pairs=np.zeros((0, 2), np.int64),
        depth_scale=np.full(len(poses), np.nan),
    )


@pytest.fixture(scope="module")
def world() -> World:
    shots = shoot(COUNT, width=WIDTH, height=HEIGHT, span_deg=25)
    photos = [
        ResizedPhoto(Photo(Path("a.jpg"), "a.jpg", 2 * WIDTH, 2 * HEIGHT, None, "c"), shot.pixels)
        for shot in shots
    ]
    exact = sample_tracks(shots, 60)
    tracks = dataclasses.replace(exact, xy=2 * exact.xy)
    alignment = alignment_of(
        np.stack([np.diag([2, 2, 1]) @ shot.intrinsics for shot in shots]),
        [shot.cam_to_world for shot in shots],
        tracks,
    )
    depths = []
    for shot in shots:
        # The right third is not confirmed, and wrong.
        confirmed = np.arange(WIDTH)[None] < 44
        depth = np.where(confirmed, shot.depth, 9.0).astype(np.float32)
        depths.append(DepthMap(depth, np.where(confirmed, 0.9, 0.2) * np.ones_like(depth)))
    return World(shots, photos, alignment, depths)


def test_agreement_is_zero_at_the_truth_and_blind_to_the_scale_of_each_photo(world: World) -> None:
    def found(bend: float) -> Agreement:
        result = reprojection_agreement(
            world.priors(bend), world.depths, world.alignment, world.photos, (1, 3)
        )
        assert result is not None
        return result

    exact, bent = found(0.0), found(0.1)
    assert exact.scaled < 0.05 and exact.tied < 0.1
    assert bent.scaled > 0.4
    # Tying lets the scene points bend the prior back.
    assert bent.tied < 0.8 * bent.scaled
    # Only confirmed depth is a judge: what the right third says does not matter.
    priors = world.priors()
    for prior in priors:
        prior.points[:, 44:] *= 3
    nothing = reprojection_agreement(priors, world.depths, world.alignment, world.photos, (1, 3))
    assert nothing is not None and nothing.scaled < 0.1


def test_agreement_of_a_worked_wall(world: World) -> None:
    # Two cameras side by side, focal 100 px, baseline 0.1; a wall at 1 whose upper half the prior
    # puts at 2: seen 10 px and 5 px aside, so that half of the pixels err by 5 px of 128.
    K = np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])
    aside = np.eye(4)
    aside[0, 3] = 0.1
    count = 40
    x = np.linspace(-0.4, 0.4, count)
    tracks = Tracks(
        np.stack([x, 0 * x + 0.2, 0 * x + 1], 1),
        np.zeros((count, 3), np.uint8),
        np.arange(count),
        np.zeros(count, np.int64),
        np.stack([64 + 100 * x, 68 + 0 * x], 1),
    )
    alignment = alignment_of(np.stack([K, K]), [np.eye(4), aside], tracks)
    points = np.ones((HEIGHT, WIDTH, 3), np.float32)
    points[: HEIGHT // 2] *= 2
    prior = PhotoPrior(points, np.full((HEIGHT, WIDTH), 5, np.float32), 1.0)
    wall = DepthMap(np.ones((HEIGHT, WIDTH), np.float32), np.ones((HEIGHT, WIDTH), np.float32))
    found = reprojection_agreement([prior] * 2, [wall, None], alignment, world.photos[:2], (0,))
    assert found is not None
    assert found.scaled == pytest.approx(0.5 * 100 * 5 / 128, rel=0.05)


def test_the_guard_wants_a_real_gain_and_no_loss() -> None:
    before = Agreement(2.0, 1.0, 0.5)
    assert Agreement(1.9, 0.9, 0.45).better_than(before)
    assert not Agreement(1.9, 0.99, 0.4).better_than(before)
    assert not Agreement(2.1, 0.5, 0.4).better_than(before)
    # A prior may describe the photo better and still fill its holes worse.
    assert not Agreement(1.0, 0.5, 0.49).better_than(before)


def test_only_confirmed_depth_of_the_chosen_photos_is_taught(world: World) -> None:
    (size, views), *none = confirmed_views(
        world.photos, world.depths, world.alignment, [0, 2]
    ).items()
    assert size == (HEIGHT, WIDTH) and not none
    assert views.images.shape == (2, 3, HEIGHT, WIDTH)
    assert (views.depth[:, :, 44:] == 0).all()
    np.testing.assert_array_equal(views.depth[1, :, :44], world.shots[2].depth[:, :44])
    np.testing.assert_allclose(views.intrinsics[0], world.shots[0].intrinsics, rtol=1e-6)
    batch = draw_pairs([views], torch.Generator().manual_seed(0), torch.device("cpu"))
    # Never a photo with itself while there are two; points of 2 in 1's frame are right.
    assert not (batch.image1 == batch.image2).all(dim=(1, 2, 3)).any()
    relative = np.linalg.inv(world.shots[0].cam_to_world) @ world.shots[2].cam_to_world
    found = batch.cam2_to_cam1.numpy()
    assert all(
        np.allclose(m, relative, atol=1e-5) or np.allclose(m, np.linalg.inv(relative), atol=1e-5)
        for m in found
    )


def small_network() -> DUSt3R:
    torch.manual_seed(0)
    network = DUSt3R(CONFIG)
    for head in (network.downstream_head1, network.downstream_head2):
        torch.nn.init.normal_(head.proj.weight, std=0.02)
        head.proj.bias.data.unflatten(0, (4, -1))[2] = 1.0
    return network.eval()


def inputs_of(world: World, network: DUSt3R) -> Inputs:
    """The world's photos as if they had been decoded at the network's size."""

    class OfWorld(Inputs):
        def network_frames(self) -> Sequence[ResizedPhoto]:  # type: ignore[override]
            return world.photos

    photos = tuple(frame.photo for frame in world.photos)
    nothing = (None,) * len(photos)
    return OfWorld(photos, KnownCameras(nothing, nothing), None, network, torch.device("cpu"))


def dense_of(world: World) -> DenseDepths:
    return DenseDepths(tuple(world.photos), tuple(world.priors(bend=0.2)), tuple(world.depths))


def run(world: World, after: list[PhotoPrior], seconds: float = 60.0) -> Adaptation:
    return adapt(
        inputs_of(world, small_network()),
        world.alignment,
        dense_of(world),
        lambda network: after,
        AdaptOptions(seconds, max_steps=6),
    )


def test_better_priors_are_kept_and_worse_ones_are_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = world.priors(), world.priors(bend=0.4)
    kept = run(world, good)
    assert kept.kept and kept.priors is good and kept.held_out == (1,)
    assert not caplog.records
    refused = run(world, bad)
    assert not refused.kept and refused.priors is not bad
    np.testing.assert_array_equal(refused.priors[0].points, world.priors(bend=0.2)[0].points)
    assert "no better" in caplog.text
    assert refused.before == kept.before and refused.after != kept.after


def test_the_copy_learns_and_the_network_stays_as_it_was(world: World) -> None:
    network = small_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    image = torch.from_numpy(world.photos[1].pixels).permute(2, 0, 1)[None] / 127.5 - 1
    truth = torch.from_numpy(world.shots[1].depth)
    errors = []

    def predict(adapted: DUSt3R) -> list[PhotoPrior]:
        for net in (network, adapted):
            with torch.no_grad():
                z = net(image, image)[0].pts3d[0, ..., 2]
            ratio = (z / truth)[:, :44]
            errors.append(float((ratio / ratio.median() - 1).abs().mean()))
        return world.priors()

    options = AdaptOptions(600.0, max_steps=100)
    adapt(inputs_of(world, network), world.alignment, dense_of(world), predict, options)
    # Photo 1 is the one held out, confirmed are the first 44 columns.
    assert errors[1] < 0.8 * errors[0]
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_too_few_photos_or_too_little_time_leave_everything(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    two = dataclasses.replace(world, depths=[*world.depths[:2], None, None, None])
    assert not run(two, world.priors()).kept
    assert "3 are needed" in caplog.text
    assert not run(world, world.priors(), 1e-6).kept
    assert "more time" in caplog.text
    with pytest.raises(InputError, match="--adapt must be between"):
        Options(adapt=0.0).check()
    with pytest.raises(InputError, match="--no-refine-depth"):
        Options(adapt=60.0, refine_depth=False).check()


def test_refilling_leaves_what_is_confirmed_and_follows_the_prior_elsewhere(world: World) -> None:
    truth = world.shots[0].depth
    # The prior is right but for its scale, the depth it replaces was wrong.
    prior = DepthMap(0.8 * truth, np.full(truth.shape, 0.6, np.float32))
    filled, unplaced = refill([world.depths[0], None], [prior, None])
    assert filled is not None and unplaced is None
    np.testing.assert_array_equal(filled.depth[:, :44], truth[:, :44])
    np.testing.assert_array_equal(filled.confidence[:, :44], world.depths[0].confidence[:, :44])
    np.testing.assert_allclose(filled.depth[:, 50:], truth[:, 50:], rtol=1e-3)
    assert (filled.confidence[:, 50:] <= 0.3).all()
