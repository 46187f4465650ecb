"""A user's posed photos with depth become training pairs with the same geometry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pointmap.errors import InputError
from pointmap.training.batches.shards import ShardPairs
from recon.evaluation.training_shards import write

WIDTH, HEIGHT, FOCAL = 256, 192, 200.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos of a wall two metres away, each camera half a metre beside the last."""
    scene = tmp_path / "my wall"
    for name in ("images", "depth"):
        (scene / name).mkdir(parents=True)
    rng, entries = np.random.default_rng(0), {}
    for n in range(3):
        pose = np.eye(4)
        pose[0, 3] = 0.5 * n
        # Integer pixel centres, as such files have unless they say otherwise.
        K = [[FOCAL, 0, WIDTH / 2 - 0.5], [0, FOCAL, HEIGHT / 2 - 0.5], [0, 0, 1]]
        entries[f"{n}.png"] = {
            "K": K, "cam_to_world": pose.tolist(), "width": WIDTH, "height": HEIGHT,
        }  # fmt: skip
        picture = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(picture).save(scene / "images" / f"{n}.png")
        depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
        depth[:, :16] = 0  # not measured
        Image.fromarray(depth).save(scene / "depth" / f"{n}.png")
    (scene / "cameras.json").write_text(json.dumps({"images": entries, "depth_scale_mm": 1}))
    return scene


def test_geometry_survives_the_way_into_a_batch(folder: Path, tmp_path: Path) -> None:
    write((folder,), out=tmp_path / "shards", long_side=128)
    batch = ShardPairs(
        [tmp_path / "shards"], batch_size=8, sensor=0, overlap=(0.1, 0.95)
    ).next_batch()
    assert batch.image1.shape == (8, 3, 96, 128)
    known = batch.valid1
    assert torch.allclose(batch.points1[known][:, 2], torch.tensor(2.0))
    # Half the size: half the focal length, and the principal point in the middle.
    K = torch.tensor([[FOCAL / 2, 0, 64], [0, FOCAL / 2, 48], [0, 0, 1]])
    assert torch.allclose(batch.intrinsics1, K.expand(8, 3, 3), atol=1e-4)
    shift = batch.cam2_to_cam1[:, 0, 3].abs()
    # 0.5 m at 2 m is 25 of 128 pixels, of which the outer 8 were never measured.
    near = (shift - 0.5).abs() < 1e-4
    assert torch.allclose(batch.overlap[near], torch.tensor((120 - 25.0) / 120), atol=0.08)
    assert torch.allclose(batch.overlap[~near], torch.tensor((120 - 50.0) / 120), atol=0.08)


def test_two_folders_are_drawn_from_in_the_given_shares(folder: Path, tmp_path: Path) -> None:
    write((folder,), out=tmp_path / "a", long_side=128)
    write((folder,), out=tmp_path / "b", long_side=128)
    shard = torch.load(tmp_path / "b" / "shard-my wall-00000.pt", weights_only=True)
    shard["depth"] = shard["depth"] * 2
    torch.save(shard, tmp_path / "b" / "shard-my wall-00000.pt")
    source = ShardPairs(
        [tmp_path / "a", tmp_path / "b"], batch_size=200, shares=[0.9, 0.1], sensor=0
    )
    far = source.next_batch().depth1.amax((1, 2)) > 3
    assert 0.03 < far.float().mean() < 0.2


def test_a_scene_without_depth_is_named(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "depth").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="my wall has no two photos of one size with a depth map"):
        write((folder,), out=tmp_path / "shards")
