import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene_factory import make_scene

from benchmarks import measured_depth
from benchmarks.measured_depth import (
    MeasuredMap,
    agreement,
    fit_tilt,
    score_key_points,
    straightened,
)
from pointmap.camera import Array, pinhole, pixel_centres, pixel_rays, rigid, rotation_exp
from recon.evaluation.scene import read_depth_truth, read_truth

WIDTH, HEIGHT = 64, 48
K = pinhole(60, WIDTH, HEIGHT)
TILT = np.array([-0.03, 0.02])
# A corner of a room, planes n . X = d that a camera about the origin is before.
PLANES = ((np.array([0.6, 0.0, 0.8]), 2.0), (np.array([-0.7, 0.1, 0.7]), 2.2))


def _poses() -> list[Array]:
    turns = [[0, 0, 0], [0.1, -0.2, 0], [-0.2, 0.15, 0.1], [0.1, 0.25, -0.1]]
    centres = [[0, 0, 0], [0.3, 0.1, -0.1], [-0.3, 0, 0.1], [0.1, -0.2, 0.2]]
    return [
        rigid(rotation_exp(np.array(t, float)[None])[0], c)
        for t, c in zip(turns, centres, strict=True)
    ]


def _depth(pose: Array) -> Array:
    rays = pixel_rays(pixel_centres(WIDTH, HEIGHT), K) @ pose[:3, :3].T
    return np.min([(d - n @ pose[:3, 3]) / np.maximum(rays @ n, 1e-6) for n, d in PLANES], axis=0)


def _as_measured(depth: Array) -> Array:
    return depth * (1 + pixel_rays(pixel_centres(WIDTH, HEIGHT), K)[..., :2] @ TILT)


def test_the_tilt_of_a_sensor_is_found_from_its_maps() -> None:
    maps = [MeasuredMap(_as_measured(_depth(pose)), K, pose) for pose in _poses()]
    found = fit_tilt(maps)
    assert np.allclose(found, TILT, atol=0.002)
    assert np.allclose(straightened(maps[1].depth, K, TILT), _depth(_poses()[1]))
    assert agreement(maps, np.zeros(2)) < agreement(maps, found)


def test_straight_maps_have_no_tilt() -> None:
    found = fit_tilt([MeasuredMap(_depth(pose), K, pose) for pose in _poses()])
    assert np.abs(found).max() < 0.002


def test_key_points_are_scored_against_depth_as_it_is_and_straightened(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, track_noise_px=0).save(tmp_path / "scene")
    truth, model = read_truth(scene / "cameras.json"), scene / "colmap/sparse/0"
    assert score_key_points(model, truth, np.zeros(2)) == (1, 1, 1)
    as_it_is, straight, scaled = score_key_points(model, truth, np.array([0.3, 0]))
    assert as_it_is == 1 and straight < scaled < 1


def test_the_scene_is_written_with_straightened_depth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, out = tmp_path / "scene", tmp_path / "straight"
    (scene / "depth").mkdir(parents=True)
    images = {}
    for i, pose in enumerate(_poses()):
        steps = np.round(1000 * _as_measured(_depth(pose))).astype(np.uint16)
        Image.fromarray(steps).save(scene / "depth" / f"{i}.png")
        images[f"{i}.jpg"] = {
            "K": K.tolist(),
            "cam_to_world": pose.tolist(),
            "width": WIDTH,
            "height": HEIGHT,
        }
    (scene / "cameras.json").write_text(json.dumps({"images": images, "pixel_centre": 0.5}))
    assert measured_depth.main([str(scene), "--out", str(out)]) == 0
    assert "-1.7" in capsys.readouterr().out
    truth = read_truth(out / "cameras.json")
    written = read_depth_truth(truth, "2.jpg")
    assert written is not None
    assert np.abs(written / _depth(_poses()[2]) - 1).max() < 0.005
