"""The benchmark of killed runs: what it compares, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import resume
from benchmarks.resume import Outcome


def test_scenes_are_compared_file_by_file_but_for_times(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "depth").mkdir(parents=True)
        (tmp_path / name / "depth" / "1.npz").write_bytes(b"same")
        (tmp_path / name / "run.json").write_text(name)
    assert resume._different(tmp_path / "a", tmp_path / "b") == []
    (tmp_path / "b" / "depth" / "1.npz").write_bytes(b"other")
    (tmp_path / "b" / "mesh.ply").write_bytes(b"")
    assert resume._different(tmp_path / "a", tmp_path / "b") == ["depth/1.npz", "mesh.ply"]


def test_a_kill_costs_what_all_runs_took_more() -> None:
    outcome = Outcome(kills=4, undisturbed=100.0, all_runs=120.0, different=[])
    assert outcome.lost_percent == pytest.approx(5.0)


def test_options_of_the_command_follow_two_dashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {}

    def measured(photos: str, out: Path, kills: int, **more: object) -> Outcome:
        given.update(more, photos=photos, kills=kills)
        return Outcome(kills, 10.0, 11.0, ["mesh.ply"])

    monkeypatch.setattr(resume, "measure", measured)
    arguments = ["photos", "--out", str(tmp_path), "--kills", "2", "--", "--depth-size", "96"]
    assert resume.main(arguments) == 1
    assert given["more"] == ["--depth-size", "96"] and given["kills"] == 2
    assert "| 2 | 10 | 11 | 5.0 | mesh.ply |" in capsys.readouterr().out
