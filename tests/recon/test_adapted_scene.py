"""From photos to a scene with maps of another model, and with a network adapted on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import Shot, save_photos, shoot
from tiny_network import write_tiny_network

import recon
from pointmap.errors import InputError
from recon.options import Options
from recon.reconstruction import Reconstruction
from recon.stereo.view import StereoOptions

WIDTH, HEIGHT = 256, 192


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=WIDTH, height=HEIGHT, span_deg=16)


@pytest.fixture(scope="module")
def folder(shots: list[Shot], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, maps (disparity, scaled and shifted per photo), and an untrained network."""
    folder = tmp_path_factory.mktemp("scene")
    save_photos(shots, folder / "photos")
    (folder / "maps").mkdir()
    for n, shot in enumerate(shots):
        np.save(folder / "maps" / f"{n}.npy", (3 + n) * (1 / shot.depth[::2, ::2] + 0.1 * n))
    write_tiny_network(folder)
    return folder


def scene_of(folder: Path, **options: object) -> Reconstruction:
    weights, stereo = str(folder / "tiny.safetensors"), StereoOptions(max_planes=48)
    # An upright world goes by the surfaces, too, and so by depth.
    settings = Options(
        weights=weights,
        device="cpu",
        depth_size=96,
        stereo=stereo,
        world="first-camera",
        **options,
    )
    return recon.reconstruct(folder / "photos", settings)


def errors(scene: Reconstruction, shots: list[Shot]) -> list[float]:
    found = []
    for view, shot in zip(scene.views, shots, strict=True):
        h, w = view.depth.shape
        rows = ((np.arange(h) + 0.5) * HEIGHT / h).astype(int)
        columns = ((np.arange(w) + 0.5) * WIDTH / w).astype(int)
        ratio = view.depth / shot.depth[rows[:, None], columns]
        # Where nothing was confirmed: that is where the maps speak.
        open_question = (view.confidence <= 0.35) & (view.depth > 0)
        sure = np.median(ratio[view.confidence > 0.35])
        found.append(float(np.median(np.abs(ratio[open_question] / sure - 1))))
    return found


def test_maps_fill_what_no_photo_confirms(folder: Path, shots: list[Shot]) -> None:
    scene = scene_of(folder, prior_depth=str(folder / "maps"))
    assert all(view.registered for view in scene.views)
    assert max(errors(scene, shots)) < 0.03
    focal = scene.views[0].camera.intrinsics[0, 0]
    assert focal == pytest.approx(0.95 * WIDTH, rel=0.03)
    (folder / "maps" / "1.npy").rename(folder / "maps" / "x.npy")
    with pytest.raises(InputError, match=r"no depth map for 1\.png"):
        scene_of(folder, prior_depth=str(folder / "maps"))


def test_adaptation_leaves_cameras_and_confirmed_depth(folder: Path, shots: list[Shot]) -> None:
    plain, adapted = scene_of(folder), scene_of(folder, adapt=3.0)
    assert "Adapting the network" in [stage.name for stage in adapted.stages]
    for before, after in zip(plain.views, adapted.views, strict=True):
        np.testing.assert_array_equal(before.camera.cam_to_world, after.camera.cam_to_world)
        sure = before.confidence > 0.35
        assert sure.any()
        np.testing.assert_array_equal(before.depth[sure], after.depth[sure])
