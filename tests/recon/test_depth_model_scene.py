"""A depth model of one's own in a whole run: its maps fill, tell metres, and are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import Shot, save_photos, shoot
from tiny_network import write_tiny_network

import recon
from pointmap.errors import InputError
from recon.depth_models import DepthPrediction
from recon.export import load_scene
from recon.options import Options
from recon.prediction.affine_fit import MapKind
from recon.stereo.view import StereoOptions
from recon.work.folder import Work

WIDTH, HEIGHT = 320, 240
METRES = 2.5


@dataclass
class Oracle:
    """The true depth of rendered photos, told by their pixels; counts how often it is asked."""

    shots: list[Shot]
    kind: MapKind = "metres"
    content_key: str = "oracle"
    name: str = "oracle"
    licence: str = "MIT"
    asked: list[int] = field(default_factory=list)

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        k = next(k for k, shot in enumerate(self.shots) if np.array_equal(shot.pixels, pixels))
        self.asked.append(k)
        depth = METRES * self.shots[k].depth
        values = 3 / depth + 0.1 if self.kind == "disparity" else depth
        return DepthPrediction(values, focal_px=0.95 * WIDTH)


@dataclass
class Prompted(Oracle):
    """Knows the scene's unit when it is told some depth, and nothing at all before that."""

    kind: MapKind = "depth"
    told: list[NDArray[np.float32]] = field(default_factory=list)

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        slope = np.linspace(1, 2, pixels.shape[1], dtype=np.float32)
        return DepthPrediction(np.repeat(slope[None], pixels.shape[0], 0))

    def predict_prompted(
        self, pixels: NDArray[np.uint8], depth: NDArray[np.float32]
    ) -> DepthPrediction:
        true = super().predict(pixels).values
        self.told.append(depth)
        small = cv2.resize(true, depth.shape[::-1], interpolation=cv2.INTER_AREA)
        return DepthPrediction(true * np.median(depth / small))


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=WIDTH, height=HEIGHT, span_deg=24)


@pytest.fixture(scope="module")
def folder(shots: list[Shot], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_photos(shots, folder / "photos")
    write_tiny_network(folder)
    return folder


def options(folder: Path, **others: object) -> Options:
    stereo = StereoOptions(max_planes=48)
    weights = str(folder / "tiny.safetensors")
    return Options(weights=weights, device="cpu", depth_size=96, stereo=stereo, **others)


def off(depth: NDArray[np.float32], shot: Shot) -> float:
    """Median relative error of depth in metres."""
    h, w = depth.shape
    rows = ((np.arange(h) + 0.5) * HEIGHT / h).astype(int)
    columns = ((np.arange(w) + 0.5) * WIDTH / w).astype(int)
    truth = METRES * shot.depth[rows[:, None], columns]
    known = depth > 0
    return float(np.median(np.abs(depth[known] / truth[known] - 1)))


def test_a_model_in_metres_gives_a_scene_in_metres(
    folder: Path, shots: list[Shot], tmp_path: Path
) -> None:
    oracle = Oracle(shots)
    settings = options(folder, scale_from="model")
    work = Work(tmp_path / "work")
    scene = recon.reconstruct(folder / "photos", settings, depth_model=oracle, work=work)
    assert all(view.registered for view in scene.views) and scene.units == "metres"
    assert max(off(view.depth, shot) for view, shot in zip(scene.views, shots, strict=True)) < 0.02
    assert scene.scale_spread is not None and scene.scale_spread < 0.02
    scene.save(tmp_path / "scene")
    run = json.loads((tmp_path / "scene/run.json").read_text())
    assert run["models"] == [
        {"used": "depth", "name": "oracle", "licence": "MIT", "digest": "oracle"}
    ]
    assert load_scene(tmp_path / "scene").models == scene.models
    # What was kept is of these weights: the same model isn't asked again, another one is.
    oracle.asked.clear()
    again = recon.reconstruct(folder / "photos", settings, depth_model=oracle, work=work)
    assert not oracle.asked
    np.testing.assert_array_equal(again.views[0].depth, scene.views[0].depth)
    other = Oracle(shots, content_key="other")
    recon.reconstruct(folder / "photos", settings, depth_model=other, work=work)
    assert sorted(other.asked) == [0, 1, 2]


def test_a_model_that_takes_known_depth_is_told_the_scene_points(
    folder: Path, shots: list[Shot]
) -> None:
    model, settings = Prompted(shots), options(folder, refine_depth=False)
    scene = recon.reconstruct(folder / "photos", settings, depth_model=model)
    assert sorted(model.asked) == [0, 1, 2] and all(view.registered for view in scene.views)
    for view, shot, told in zip(scene.views, shots, model.told, strict=True):
        h, w = view.depth.shape
        true = cv2.resize(shot.depth, (w, h), interpolation=cv2.INTER_NEAREST)
        ratio = view.depth[view.depth > 0] / true[view.depth > 0]
        # Its depth, in scene units: the same factor as what it was told.
        assert np.abs(ratio / np.median(ratio) - 1).mean() < 0.02
        coarse = cv2.resize(shot.depth, told.shape[::-1], interpolation=cv2.INTER_NEAREST)
        told_ratio = np.median(told / coarse)
        assert told_ratio == pytest.approx(np.median(ratio), rel=0.05)
        assert np.median(np.abs(told / coarse / told_ratio - 1)) < 0.05


@pytest.mark.parametrize("kind", ["metres", "disparity"])
def test_one_photo_has_the_models_depth_and_focal_length(
    folder: Path, shots: list[Shot], kind: MapKind
) -> None:
    metric = kind == "metres"
    settings = options(folder, scale_from="model" if metric else None)
    scene = recon.reconstruct(folder / "photos/0.png", settings, depth_model=Oracle(shots, kind))
    (view,) = scene.views
    assert view.camera.intrinsics[0, 0] == pytest.approx(0.95 * WIDTH, rel=0.01)
    if metric:
        assert off(view.depth, shots[0]) < 0.02
    else:
        # Of a network that has learnt nothing there is no shift to learn: order is all.
        truth = shots[0].depth[::5, ::5][: view.depth[::2].shape[0]]
        found = view.depth[:: view.depth.shape[0] // truth.shape[0]]
        assert found.size and np.isfinite(found).all()


def test_what_cannot_go_together_is_said_before_anything_is_done(
    folder: Path, shots: list[Shot]
) -> None:
    with pytest.raises(InputError, match="leave out one of the two"):
        options(folder, depth_model="zoedepth", prior_depth="maps").check()
    for model in (None, Oracle(shots, "disparity")):
        with pytest.raises(InputError, match="needs a --depth-model that predicts metres"):
            recon.reconstruct(
                folder / "photos", options(folder, scale_from="model"), depth_model=model
            )


def test_a_model_that_sees_a_wall_everywhere_is_left_out(
    folder: Path, shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    wall = Oracle(shots)
    wall.predict = lambda pixels: DepthPrediction(np.full((60, 80), 2, np.float32))  # type: ignore[method-assign]
    scene = recon.reconstruct(folder / "photos/0.png", options(folder), depth_model=wall)
    assert "0.png: oracle sees the same depth everywhere" in caplog.text
    assert (scene.views[0].depth > 0).any()
