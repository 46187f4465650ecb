"""An object on a turntable before a wall that stands still: masked, it comes out, and nothing else.

The camera is seen to move around the object only once the wall is not looked at.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import Shot, Sphere, shoot
from tiny_network import write_tiny_network

import recon
from pointmap.camera import transform_points
from recon.evaluation.poses import relative_pose_errors
from recon.export import load_scene
from recon.fusion import FusionOptions
from recon.options import Options
from recon.reconstruction import Reconstruction
from recon.stereo.view import StereoOptions

COUNT, WIDTH, HEIGHT = 5, 320, 240
BALLS = (
    Sphere((0.0, 0.0, 0.0), 0.9),
    Sphere((0.7, 0.5, -0.4), 0.5),
    Sphere((-0.7, 0.4, -0.3), 0.45),
)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(COUNT, width=WIDTH, height=HEIGHT, span_deg=40, surfaces=BALLS, wavelength=0.2)


@pytest.fixture(scope="module")
def folder(shots: list[Shot], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turntable")
    for name in ("photos", "masks", "cut-outs"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8))
    wall = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    for n, shot in enumerate(shots):
        counts = shot.depth > 0
        photo = np.where(counts[..., None], shot.pixels, wall)
        Image.fromarray(photo).save(folder / "photos" / f"{n}.png")
        Image.fromarray(counts).save(folder / "masks" / f"{n}.png.png")
        rgba = np.dstack([photo, 255 * counts.astype(np.uint8)])
        Image.fromarray(rgba).save(folder / "cut-outs" / f"{n}.png")
    write_tiny_network(folder)
    return folder


def scene_of(folder: Path, photos: str, masks: str | None, work: Path | None) -> Reconstruction:
    options = Options(
        weights=str(folder / "tiny.safetensors"),
        depth_size=160,
        stereo=StereoOptions(max_planes=64),
        fusion=FusionOptions(texture=True, texture_size=512),
        masks=masks and str(folder / masks),
    )
    return recon.reconstruct(folder / photos, options, work=work)


def pose_error_deg(poses: list[np.ndarray | None], shots: list[Shot]) -> float:
    found = relative_pose_errors(poses, [shot.cam_to_world for shot in shots])
    return float(np.median(found.pose_deg))


@pytest.fixture(scope="module")
def scene(folder: Path) -> Reconstruction:
    return scene_of(folder, "photos", "masks", folder / "work")


def test_the_object_comes_out_whole_and_nothing_else(
    scene: Reconstruction, shots: list[Shot]
) -> None:
    poses = [view.camera.cam_to_world for view in scene.views]
    assert pose_error_deg(poses, shots) < 1.5
    found = np.array([pose[:3, 3] for pose in poses if pose is not None])
    true = np.array([shot.cam_to_world[:3, 3] for shot in shots])
    scale = np.linalg.norm(true - true.mean(0)) / np.linalg.norm(found - found.mean(0))
    for view, shot in zip(scene.views, shots, strict=True):
        height, width = view.depth.shape
        counts = np.asarray(Image.fromarray(shot.depth > 0).resize((width, height)))
        assert not view.depth[~counts].any()
        assert (view.depth[counts] > 0).mean() > 0.8
        truth = shot.depth[::2, ::2]
        known = (view.depth > 0) & (truth > 0)
        assert np.median(np.abs(scale * view.depth[known] / truth[known] - 1)) < 0.02
    rows = scene.tracks.view_index == 0
    x, y = scene.tracks.xy[rows].astype(int).T
    assert len(x) > 20 and (shots[0].depth[y, x] > 0).all()
    first = scene.views[0].camera.cam_to_world
    assert first is not None
    seen = transform_points(np.linalg.inv(first), scene.cloud.points) * scale
    # The balls end half a unit behind their centre.
    assert len(seen) and seen[:, 2].max() < 4.0 + 1.0


def test_transparent_photos_are_masked_likewise(folder: Path, shots: list[Shot]) -> None:
    cut_out = scene_of(folder, "cut-outs", None, None)
    poses = [view.camera.cam_to_world for view in cut_out.views]
    assert pose_error_deg(poses, shots) < 1.5
    for view in cut_out.views:
        assert view.usable is not None and not view.depth[~view.usable].any()


def test_masks_are_kept_with_the_scene(scene: Reconstruction, folder: Path, tmp_path: Path) -> None:
    out = scene.save(tmp_path / "out")
    again = load_scene(out)
    assert [view.mask for view in again.views] == [
        folder / "masks" / f"{n}.png.png" for n in range(COUNT)
    ]
    for first, second in zip(scene.views, again.views, strict=True):
        np.testing.assert_array_equal(first.usable, second.usable)
    assert again.textured is not None and scene.textured is not None
    np.testing.assert_allclose(again.textured.uv, scene.textured.uv, atol=1e-6)
    np.testing.assert_array_equal(again.textured.faces, scene.textured.faces)
    frames = json.loads((out / "transforms.json").read_text())["frames"]
    assert (out / frames[0]["mask_path"]).resolve() == (folder / "masks/0.png.png").resolve()


def test_another_mask_is_another_photo_for_the_work(scene: Reconstruction, folder: Path) -> None:
    from recon.inputs import read_inputs

    weights = str(folder / "tiny.safetensors")
    keys = [
        read_inputs([folder / "photos"], Options(weights=weights, masks=masks)).photo_keys
        for masks in (None, str(folder / "masks"))
    ]
    assert not set(keys[0]) & set(keys[1])
    inputs = read_inputs([folder / "photos"], Options(weights=weights, masks=str(folder / "masks")))
    other = replace(inputs.photos[0], mask=inputs.photos[1].mask)
    changed = replace(inputs, photos=(other, *inputs.photos[1:]))
    assert changed.photo_keys[0] != keys[1][0] and changed.photo_keys[1:] == keys[1][1:]
