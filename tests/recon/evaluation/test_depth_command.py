"""``python -m recon.evaluation depth``: files in, a table, JSON and pictures out; clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import shoot
from truth_files import write_posed_photos

from pointmap.errors import InputError
from recon.evaluation.command import main
from recon.evaluation.depth_files import read_depth_file
from recon.evaluation.depth_folder import DepthSet, given_depths, own_depths, score_all
from recon.reconstruction import Reconstruction
from recon.scene import Camera, LoadedMaps, Mesh, PointCloud, Tracks, View

SHAPE = (24, 32)


def write_png(path: Path, depth: np.ndarray, steps: float) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.round(depth * steps).astype(np.uint16)).save(path)


def some_pair(tmp_path: Path, steps: float = 256.0) -> tuple[Path, Path]:
    """KITTI's form: two folders of PNG files of one name; predictions are 10 % too large."""
    rng = np.random.default_rng(0)
    for k in range(2):
        truth = rng.uniform(2, 50, SHAPE)
        truth[:4] = 0
        write_png(tmp_path / f"truth/{k}.png", truth, steps)
        write_png(tmp_path / f"predicted/{k}.png", 1.1 * truth + (truth == 0), steps)
    return tmp_path / "truth", tmp_path / "predicted"


def test_pairs_of_depth_files_are_scored_every_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, predicted = some_pair(tmp_path)
    figures, plots = tmp_path / "figures.json", tmp_path / "plots"
    command = ["depth", str(truth), "--predicted", str(predicted), "--png-scale", "256"]
    assert main([*command, "--json", str(figures), "--plots", str(plots)]) == 0
    printed = capsys.readouterr().out
    assert "truth, given: 2 photos, 100.0 % of the true pixels" in printed
    assert "| none | 0.100 |" in printed and "| disparity, robust, whole sequence |" in printed
    rows = json.loads(figures.read_text())["truth"]["given"]["rows"]
    assert len(rows) == 15
    plain = next(row for row in rows if row["alignment"] == "none")
    assert plain["scores"]["errors"]["abs_rel"] == pytest.approx(0.1, abs=1e-3)
    aligned = next(row for row in rows if row["alignment"] == "scale" and row["robust"])
    assert aligned["scores"]["errors"]["abs_rel"] < 1e-3
    assert aligned["scores"]["transforms"][0]["scale"] == pytest.approx(1 / 1.1, rel=1e-3)
    for name in ("truth-curves.png", "truth-photos.png"):
        with Image.open(plots / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_a_folder_of_another_resolution_is_sampled_another_shape_refused(tmp_path: Path) -> None:
    truth, predicted = some_pair(tmp_path)
    half = np.full((12, 16), 3.0, np.float32)
    np.save(predicted / "0.npy", half)  # wins over 0.png
    depths = given_depths(truth, predicted, unit=1 / 256)
    assert (depths.predicted[0] == 3).all() and depths.predicted[0].shape == SHAPE
    np.save(predicted / "0.npy", half[:, :8])
    with pytest.raises(InputError, match="8x12 pixels against a truth of 32x24"):
        given_depths(truth, predicted, unit=1 / 256)
    assert main(["depth", str(truth), "--predicted", str(predicted)]) == 2


def test_a_missing_prediction_lowers_coverage(tmp_path: Path) -> None:
    truth, predicted = some_pair(tmp_path)
    (predicted / "1.png").unlink()
    rows = score_all(given_depths(truth, predicted, unit=1 / 256))
    assert all(row.scores.coverage == 0.5 for row in rows)
    (predicted / "0.png").rename(predicted / "other.png")
    with pytest.raises(InputError, match="has the name of one of the 2 maps"):
        given_depths(truth, predicted, unit=1 / 256)


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_depth_that_cannot_be_is_refused(tmp_path: Path, bad: float) -> None:
    depth = np.ones(SHAPE)
    depth[3, :2] = bad
    np.savez(tmp_path / "a.npz", depth=depth)
    with pytest.raises(InputError, match="2 depths that are NaN, infinite or negative"):
        read_depth_file(tmp_path / "a.npz", unit=1)


def test_files_that_are_no_depth_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match="one channel"):
        read_depth_file(tmp_path / "colour.png", unit=1)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="cannot be read"):
        read_depth_file(tmp_path / "broken.npy", unit=1)
    np.savez(tmp_path / "other.npz", disparity=np.ones(SHAPE))
    with pytest.raises(InputError, match="no array called depth"):
        read_depth_file(tmp_path / "other.npz", unit=1)
    assert main(["depth", str(tmp_path / "nowhere"), "--predicted", str(tmp_path)]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["depth", str(tmp_path / "empty")]) == 2
    assert main(["depth", str(tmp_path), str(tmp_path), "--predicted", str(tmp_path)]) == 2


def test_depth_of_nothing_but_unknown_pixels_has_no_errors() -> None:
    nothing, flat = np.zeros(SHAPE), np.ones(SHAPE)
    for predicted in (nothing, flat):
        rows = score_all(DepthSet("x", ("a",), (predicted,), (flat,), (None,)))
        errors = [row.scores.errors for row in rows]
        assert all((e is None) == (predicted is nothing) for e in errors)
        assert all(e is None or e.abs_rel == pytest.approx(0) for e in errors)


def test_our_own_depth_is_scored_alone_and_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = shoot(2, width=64, height=48)
    write_posed_photos(tmp_path, shots)

    def reconstruct(inputs: object, options: object) -> Reconstruction:
        # Photo 0 gets its true depth at half the size, photo 1 could not be placed.
        views = tuple(
            View(
                f"{k}.png",
                tmp_path,
                Camera(shot.intrinsics, 64, 48, None if k else np.eye(4)),
                LoadedMaps(shot.pixels[::2, ::2], shot.depth[::2, ::2], shot.depth[::2, ::2]),
            )
            for k, shot in enumerate(shots)
        )
        return Reconstruction(views, Tracks.empty(), PointCloud.empty(), Mesh.empty())

    monkeypatch.setattr("recon.pipeline.reconstruct", reconstruct)
    alone, together = own_depths(tmp_path, weights=None, device="cpu")
    assert [alone.method, together.method] == ["photo alone", "all photos"]
    assert all((p > 0).all() and p.shape == (48, 64) for p in alone.predicted)
    scores = score_all(together)[0].scores
    assert scores.coverage == pytest.approx(0.5, abs=0.02)
    assert scores.abs_rel is not None and scores.abs_rel < 0.02
