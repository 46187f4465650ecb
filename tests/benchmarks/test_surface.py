import json
from pathlib import Path

import pytest
from scene_factory import make_scene

from benchmarks import surface


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
