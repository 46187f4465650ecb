"""The parts that run on a GPU: the same results as on the CPU, nothing left on the wrong device.

``pytest -m cuda`` runs them on the first CUDA device. Without one they run on a pretended device
(tests/helpers/pretend_cuda.py), which finds tensors of two devices that meet, and counts how often
the host waits for the device; whole scenes are left out there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_cuda import pretend_cuda, waits
from synthetic import shoot
from tiny_network import tiny_config, tiny_matched_config
from wall_shard import wall_shard

import recon
from pointmap.checkpoint import load_network
from pointmap.images import load_photo, open_photos
from pointmap.inference import PairPrediction, encode_photos, predict_pairs
from pointmap.network import NetworkConfig, PointmapNetwork
from pointmap.network.matched.pose_solver import relative_pose
from pointmap.photo_files import find_photos
from pointmap.training.batches.shards import ShardPairs, save_shard
from pointmap.training.loop import trainer as trainer_module
from pointmap.training.loop.trainer import Trainer, TrainOptions
from recon.stage_results import DepthMap
from recon.stereo import plane_sweep, refine_depths, torch_sweep
from recon.stereo.photo import Photo2D
from recon.stereo.view import StereoView

SAMPLE = Path(__file__).parents[1] / "examples" / "courtyard" / "images"
REAL = torch.cuda.is_available()
pytestmark = pytest.mark.cuda


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    if REAL:
        # What is compared is arithmetic, not its short cuts.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        yield torch.device("cuda", 0)
    else:
        with pretend_cuda() as device:
            yield device


def predictions(network: PointmapNetwork, device: torch.device) -> list[PairPrediction]:
    opened = open_photos(find_photos([SAMPLE]))[0][:2]
    photos = [load_photo(photo, long_side=128, multiple=32) for photo in opened]
    given = {"device": device, "dtype": torch.float32}
    encoded = encode_photos(network, photos, **given)
    return list(predict_pairs(network, encoded, [(0, 1)], **given))


def test_inference(gpu: torch.device) -> None:
    network = load_network(None)
    here = predictions(network, torch.device("cpu"))
    there = predictions(network, gpu)
    for a, b in zip(here, there, strict=True):
        for one, other in ((a.points_i, b.points_i), (a.points_j, b.points_j)):
            distance = np.linalg.norm(one - other, axis=-1)
            assert np.median(distance / np.linalg.norm(one, axis=-1)) < 2e-3


def test_poses_of_all_starts_at_once(gpu: torch.device) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 3], [1, 1, 6], (2, 60, 3))
    shifted = points + np.array([0.4, 0.05, 0.1])
    rays1, rays2 = (torch.from_numpy(x / x[..., 2:]).float() for x in (points, shifted))
    weights = torch.ones(2, 60)
    expected = relative_pose(rays1, rays2, weights)
    found = relative_pose(*(x.to(gpu) for x in (rays1, rays2, weights)))
    for one, other in zip(expected, found, strict=True):
        assert (one - other.cpu()).abs().max() < 2e-2
    # The host asks for no number on the way: with constants sent before, nothing is waited for.
    waits.clear()
    relative_pose(*(x.to(gpu, non_blocking=True) for x in (rays1, rays2, weights)))
    assert not waits


def test_paths_are_summed_without_waiting(gpu: torch.device) -> None:
    rng = np.random.default_rng(0)
    cost = torch.from_numpy(rng.random((9, 11, 6), dtype=np.float32))
    grey = torch.from_numpy(rng.random((9, 11), dtype=np.float32))
    expected = torch_sweep.aggregate(cost, grey, 0.05, 0.4)
    on_gpu = cost.to(gpu), grey.to(gpu)
    waits.clear()
    found = torch_sweep.aggregate(*on_gpu, 0.05, 0.4)
    assert not waits
    assert (found.cpu() - expected).abs().max() < 1e-5


def test_hypotheses_are_scored_without_waiting(gpu: torch.device) -> None:
    shots = shoot(3, width=48, height=36, span_deg=20, wavelength=0.5)

    def scorer(device: torch.device) -> torch_sweep.PhotoScorer:
        first, *others = (
            Photo2D(
                torch.from_numpy(shot.pixels.mean(-1).astype(np.float32) / 255).to(device),
                torch.from_numpy(shot.intrinsics).to(device),
                torch.from_numpy(shot.cam_to_world).to(device),
            )
            for shot in shots
        )
        return torch_sweep.PhotoScorer(first, others)

    true = torch.from_numpy(1 / shots[0].depth)
    given = 0.8 * true, 0.02 * true
    expected, _ = scorer(torch.device("cpu")).lowest(*given, 20, (0.1, 0.8))
    made, there = scorer(gpu), [x.to(gpu) for x in given]
    waits.clear()
    found, _ = made.lowest(*there, 20, (0.1, 0.8))
    assert not [place for place in waits if not place.endswith("a mask")]
    assert ((found.cpu() - expected).abs() < 0.02).float().mean() > 0.99


def test_stereo(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same sweep on both: what the compiled one makes of so small photos differs by more.
    monkeypatch.setattr(plane_sweep, "_sweep_on", lambda where: torch_sweep)
    shots = shoot(3, width=48, height=36, span_deg=20, wavelength=0.5)
    none = np.zeros(0, np.int64)
    views = [
        StereoView(
            s.pixels, s.intrinsics, s.cam_to_world,
            DepthMap((1.04 * s.depth).astype(np.float32), np.full(s.depth.shape, 0.5, "f4")),
            np.zeros((0, 3)), none,
        )
        for s in shots
    ]  # fmt: skip
    here, there = list(refine_depths(views)), list(refine_depths(views, device=gpu))
    shares = [
        (np.abs(a.depth / b.depth - 1) < 5e-3).mean() for a, b in zip(here, there, strict=True)
    ]
    assert min(shares) > 0.9, shares


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    save_shard(out / "shard-0-00000.pt", wall_shard(64))
    return out


@pytest.mark.parametrize("config", [tiny_config(64), tiny_matched_config(64)],
                         ids=["dust3r", "matched"])  # fmt: skip
def test_training(
    shards: Path,
    config: NetworkConfig,
    gpu: torch.device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer_module, "choose_dtype", lambda device: torch.float32)
    options = TrainOptions(steps=4, warmup_steps=1)
    losses = []
    for device in ("cpu", str(gpu)):
        source = ShardPairs([shards], batch_size=2, overlap=(0.0, 1.0), seed=0, device=device)
        trainer = Trainer(tmp_path / device[:3], config, replace(options, device=device))
        torch.manual_seed(1)
        losses.append([trainer._train_step(source.next_batch()).loss.total.item()])
        trainer.save(source)
        assert trainer.resume(source)
        losses[-1].append(trainer._train_step(source.next_batch()).loss.total.item())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)


@pytest.mark.skipif(not REAL, reason="needs a CUDA device")
def test_the_sample_photos_from_end_to_end() -> None:
    scene = recon.reconstruct(SAMPLE, recon.Options(device="cuda"))
    assert all(camera.cam_to_world is not None for camera in scene.cameras.values())
    assert len(scene.mesh().faces) > 10_000
