"""``pointmap generate``: the same shards, whoever writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_shards import TINY, few_textures, files_in, tiny_plan

from pointmap.training.generate import write_shards
from recon.cluster.generate import main, write_by_pieces
from recon.work.folder import Work
from recon.work.pieces import PieceMap


def test_shards_that_come_by_way_of_the_driver_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_textures(monkeypatch)
    plan, again = tiny_plan(tmp_path / "here"), tiny_plan(tmp_path / "sent")
    write_shards(plan)
    assert len(files_in(plan.out)) == 2
    monkeypatch.setattr(Work, "is_copy", True)
    write_by_pieces(again, PieceMap())
    assert files_in(again.out) == files_in(plan.out)


def test_what_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_textures(monkeypatch)
    plan = tiny_plan(tmp_path)
    for number in (0, 1):
        plan.path(number).write_text("there")
    assert main(["--out", str(tmp_path), *TINY]) == 0
    write_by_pieces(plan, PieceMap())
    assert files_in(tmp_path) == {plan.path(number).name: b"there" for number in (0, 1)}


@pytest.mark.parametrize("inside", [".", "shards"])
def test_nothing_is_written_into_a_saved_scene(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text('{"program": "pointmap", "files": {"mesh.ply": "0"}}')
    assert main(["--out", str(tmp_path / inside), *TINY]) == 2
    assert f"lies in the saved scene {tmp_path}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_what_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--cluster", "auto", "--workers", "2"], ["--cluster", "nowhere"]):
        assert main(["--out", str(tmp_path / "out"), *TINY, *options]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
