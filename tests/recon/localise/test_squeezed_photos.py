"""Photos that were squeezed beside others, and ones that were cut to another shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from alignment_scenes import HEIGHT, WIDTH, all_matches, arc_scene, evidence_of, phone_photos
from PIL import Image
from synthetic import shoot
from tiny_network import tiny_config

import recon
from pointmap.camera import invert_rigid, project, transform_points
from pointmap.checkpoint import save_checkpoint
from pointmap.images import load_photo, open_photos, unsqueezed
from pointmap.network import DUSt3R
from recon.alignment.refinement import AlignOptions
from recon.evaluation.poses import relative_pose_errors
from recon.localise.squeezed_photos import odd_shapes, squeezed_photos
from recon.options import Options


def test_a_squeezed_photo_is_told_from_one_that_was_cut() -> None:
    scene = arc_scene(8, 350, noise_px=0.2, span_deg=70, seed=3)
    photos, xy = phone_photos(8), scene.xy.copy()
    xy[3] *= [0.8, 1]
    photos[3] = replace(photos[3], width=round(0.8 * WIDTH), camera_key="squeezed")
    xy[5] -= [(WIDTH - HEIGHT) / 2, 0]
    xy[5][(xy[5][:, 0] < 0) | (xy[5][:, 0] > HEIGHT)] = np.nan
    photos[5] = replace(photos[5], width=HEIGHT, camera_key="cut")
    assert odd_shapes(photos)[1] == [3, 5]
    evidence = evidence_of(photos, all_matches(xy))
    found = squeezed_photos(photos, evidence, AlignOptions())
    assert found == [(WIDTH, HEIGHT) if k == 3 else None for k in range(8)]


def test_a_squeezed_photo_is_loaded_as_it_was_taken(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    whole = Image.fromarray(picture).resize((320, 240), Image.Resampling.BICUBIC)
    whole.save(tmp_path / "whole.png")
    whole.resize((256, 240), Image.Resampling.BICUBIC).save(tmp_path / "squeezed.png")
    ((squeezed, taken), _) = open_photos([tmp_path / "squeezed.png", tmp_path / "whole.png"])
    photo = unsqueezed(squeezed, taken.width, taken.height)
    assert photo.camera_key == taken.camera_key and photo.file_size == (256, 240)
    loaded, truth = (load_photo(one, long_side=320).pixels for one in (photo, taken))
    assert np.abs(loaded.astype(int) - truth).mean() < 2


def test_a_scene_has_the_camera_of_a_squeezed_file(tmp_path: Path) -> None:
    shots = shoot(5, width=320, height=240, span_deg=40, wavelength=0.2)
    (tmp_path / "photos").mkdir()
    for n, shot in enumerate(shots):
        picture = Image.fromarray(shot.pixels)
        if n == 2:
            picture = picture.resize((320, 160), Image.Resampling.LANCZOS)
        picture.save(tmp_path / "photos" / f"{n}.png")
    torch.manual_seed(0)
    save_checkpoint(DUSt3R(tiny_config(64)), tmp_path / "tiny.safetensors", card={})
    options = Options(weights=str(tmp_path / "tiny.safetensors"), depth_size=64, refine_depth=False)
    scene = recon.reconstruct(tmp_path / "photos", options)
    assert any("1 photo was squeezed" in warning for warning in scene.warnings)
    poses = [view.camera.cam_to_world for view in scene.views]
    found = relative_pose_errors(poses, [shot.cam_to_world for shot in shots])
    assert found.pose_deg.max() < 1.0
    camera = scene.views[2].camera
    assert (camera.width, camera.height) == (320, 160)
    true = np.diag([1, 160 / 240, 1]) @ shots[2].intrinsics
    assert np.allclose(camera.intrinsics[[0, 1], [0, 1]], true[[0, 1], [0, 1]], rtol=0.03)
    # Tracks are where the file shows them.
    rows = scene.tracks.seen_by(2)
    assert len(rows) > 20 and camera.cam_to_world is not None
    points = scene.tracks.points[scene.tracks.point_index[rows]]
    seen = project(
        transform_points(invert_rigid(camera.cam_to_world), points), camera.intrinsics, camera.lens
    )
    assert np.median(np.linalg.norm(seen - scene.tracks.xy[rows], axis=1)) < 0.5
