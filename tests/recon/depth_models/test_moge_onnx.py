"""MoGe-2 through onnxruntime: depth, metres and focal length of its affine points."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ramps import assert_in_place, ramps
from scipy.optimize import minimize
from tiny_moge import METRES, as_photo, as_points, write_moge

from pointmap.camera import pinhole, pixel_centres, unproject
from pointmap.errors import InputError
from recon.depth_models import load_depth_model
from recon.depth_models.moge_onnx import focal_and_shift

pytest.importorskip("onnxruntime")

CPU = torch.device("cpu")
SHIFT = 1.5


def scene(
    height: int, width: int, focal_px: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A photo that tells the points of a floor and a wall, SHIFT too near, and their depth."""
    x, y = np.moveaxis(pixel_centres(width, height), -1, 0)
    depth = np.minimum(2.2 + 0.6 * x / width, 4.5 - 2.0 * y / height)
    points = unproject(depth, pinhole(focal_px, width, height))
    return as_photo(points - [0, 0, SHIFT]), depth


@pytest.mark.parametrize(("height", "width"), [(97, 141), (150, 83), (64, 64), (203, 301)])
@pytest.mark.parametrize("scale_name", ["scale", "metric_scale"])
def test_depth_is_in_metres_and_the_focal_length_the_photos(
    height: int, width: int, scale_name: str, tmp_path: Path
) -> None:
    model = load_depth_model(str(write_moge(tmp_path / "m", scale_name=scale_name)), device=CPU)
    assert model.kind == "metres"
    focal_px = 1.1 * max(height, width)
    photo, depth = scene(height, width, focal_px)
    found = model.predict(photo)
    assert found.focal_px == pytest.approx(focal_px, rel=0.015)
    # Levels of the photo are 0.012 apart.
    off = np.abs(found.values / METRES - depth)
    assert found.values.shape == (height, width) and found.values.dtype == np.float32
    assert off.mean() < 0.02 and off.max() < 0.05


@pytest.mark.parametrize(("height", "width"), [(200, 301), (333, 190)])
def test_the_maps_grid_is_the_photos(height: int, width: int, tmp_path: Path) -> None:
    """A slanted wall comes back where it was."""
    model = load_depth_model(str(write_moge(tmp_path / "m")), device=CPU)
    for ramp in ramps(height, width):
        depth = 2 + 2 * ramp
        points = unproject(depth, pinhole(1.1 * max(height, width), width, height))
        assert_in_place(model.predict(as_photo(points - [0, 0, SHIFT])).values, ramp)


def test_it_is_the_least_squares_solution_of_moges_own_problem(tmp_path: Path) -> None:
    """min |f xy / (z + shift) - uv| over a grid of 64 x 64 nearest pixels, by another solver."""
    model = load_depth_model(str(write_moge(tmp_path / "m")), device=CPU)
    for height, width in ((97, 141), (150, 83)):
        photo, _ = scene(height, width, 120)
        points = as_points(photo).astype(np.float64)
        points += np.random.default_rng(0).normal(0, 0.02, points.shape)
        photo = as_photo(points)
        points = as_points(photo)
        rows, columns = (np.arange(64) * side // 64 for side in (height, width))
        grid = np.ix_(rows, columns)
        half = np.hypot(width, height) / 2
        uv = (pixel_centres(width, height) - [width / 2, height / 2])[grid] / half

        def misfit(
            unknown: NDArray[np.float64],
            xyz: NDArray[np.float32] = points[grid],
            uv: NDArray[np.float64] = uv,
        ) -> float:
            shift, focal = unknown
            projected = focal * xyz[..., :2] / (xyz[..., 2:] + shift)
            return float(((projected - uv) ** 2).sum())

        best = minimize(misfit, [1.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-9})
        found = model.predict(photo)
        assert found.focal_px == pytest.approx(best.x[1] * half, rel=1e-4)
        expected = (points[..., 2] + best.x[0]) * METRES
        np.testing.assert_allclose(found.values, expected, rtol=1e-4)


def test_where_there_is_no_surface_depth_is_unknown(tmp_path: Path) -> None:
    model = load_depth_model(str(write_moge(tmp_path / "m")), device=CPU)
    photo, depth = scene(97, 141, 150)
    photo[:30, :, 0] = 0
    found = model.predict(photo).values
    assert (found[:30] == 0).all()
    assert np.abs(found[30:] / METRES - depth[30:]).max() < 0.06
    photo[..., 0] = 0
    assert not model.predict(photo).values.any() and model.predict(photo).focal_px is None


def test_points_that_tell_no_focal_length_are_left_alone() -> None:
    flat = np.zeros((20, 30, 3), np.float32)
    assert focal_and_shift(flat, np.ones((20, 30), bool)) is None
    assert focal_and_shift(flat, np.zeros((20, 30), bool)) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("truncated", "cannot be loaded by the library"),
        ("nan", "weights are not finite"),
        ("one width", "is no MoGe-2 for pictures of any size"),
        ("no tokens", "is no MoGe-2 for pictures of any size"),
        ("other outputs", "is no MoGe-2 for pictures of any size"),
    ],
)
def test_unusable_files_are_named_with_the_remedy(name: str, says: str, tmp_path: Path) -> None:
    folder = write_moge(
        tmp_path / "m",
        metres=np.nan if name == "nan" else METRES,
        side=518 if name == "one width" else "width",
        tokens=name != "no tokens",
        scale_name="size" if name == "other outputs" else "scale",
    )
    if name == "truncated":
        file = folder / "model.onnx"
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError) as caught:
        load_depth_model(str(folder), device=CPU)
    assert says in str(caught.value) and str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_versions_that_do_not_fit_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_moge(tmp_path / "m")
    monkeypatch.setattr("recon.pretrained.package.version", lambda name: "1.9.0")
    with pytest.raises(InputError, match=r"onnxruntime 1\.9\.0 is too old"):
        load_depth_model(str(folder), device=CPU)


def test_other_forms_of_a_models_weights_are_not_taken_for_it(tmp_path: Path) -> None:
    folder = write_moge(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="is no depth model that is known here but vit"):
        load_depth_model(str(folder), device=CPU)


def test_the_content_key_is_that_of_the_file(tmp_path: Path) -> None:
    models = [
        load_depth_model(str(write_moge(tmp_path / name, metres=metres)), device=CPU)
        for name, metres in (("a", 1.0), ("b", 1.0), ("c", 2.0))
    ]
    keys = [model.content_key for model in models]
    assert keys[0] == keys[1] != keys[2]
