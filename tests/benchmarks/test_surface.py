import json
from pathlib import Path

import numpy as np
import pytest
from scene_factory import make_scene

from benchmarks import surface
from benchmarks.courtyard_surface import looked_past, patches
from benchmarks.stereo import TrueView


def test_exact_depth_gives_a_surface_within_half_a_voxel() -> None:
    scores = surface.exact(count=4, width=192, height=144)
    assert scores.accuracy < 0.5 and scores.completeness < 0.5
    assert scores.accuracy_95 < 1 and scores.completeness_95 < 1
    assert scores.colour < 5
    assert scores.holes < 0.002


def test_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = surface.exact(count=2, width=96, height=64)
    monkeypatch.setattr(surface, "exact", lambda: scores)
    saved = make_scene(tmp_path).save(tmp_path / "scene")
    assert surface.main([str(saved), "--json", str(tmp_path / "out.json")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["exact"][0]["triangles"] == scores.triangles > 0
    (row,) = written["scenes"]
    assert row["scene"] == "scene" and row["pieces"] > row["floaters_removed"] >= 0
    shown = capsys.readouterr().out
    assert str(scores.triangles) in shown and "floaters_removed" in shown


def test_what_hangs_before_a_wall_or_the_sky_is_looked_past() -> None:
    depth = np.full((40, 40), 4.0, np.float32)
    depth[:20] = 0
    K = np.array([[40.0, 0, 20], [0, 40, 20], [0, 0, 1]])
    view = TrueView(np.zeros((40, 40, 0), np.uint8), depth, K, np.eye(4))
    # On the wall, before it, behind it, before the sky, at the outline, beside the picture.
    x, y, z = np.array(
        [[0, 1, 4], [0, 1, 3], [0, 1, 5], [0, -1, 9], [0, 0.02, 3], [9, 0, 1]], float
    ).T
    found = looked_past(np.stack([x, y, z], -1), [view], 0.5)
    assert found.tolist() == [False, True, False, True, True, False]


def test_patches_that_touch_are_one_and_specks_apart_are_not() -> None:
    row = np.stack([np.arange(0, 30, 0.5), np.zeros(60), np.zeros(60)], axis=-1)
    square = np.stack([*np.meshgrid(range(100, 108), range(8)), np.zeros((8, 8))], axis=-1)
    widths, areas = patches(np.concatenate([row, square.reshape(-1, 3), [[200.0, 0, 0]]]))
    found = sorted(zip(areas, widths, strict=True))
    assert [area for area, _ in found] == [4, 60, 64]
    assert np.allclose([width for _, width in found], [2, 30, 2 + 6 * np.sqrt(2)])
    assert all(len(part) == 0 for part in patches(np.zeros((0, 3))))
