"""The benchmark of kills, with a few of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scene_factory import make_scene

from benchmarks.kills import kill_again_and_again
from recon.save import save_scene


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_scene_is_old_or_new_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "photos", names=("a.jpg", "b.jpg"))
    (tmp_path / "out").mkdir()

    def save(target: Path, mark: str) -> object:
        return save_scene(replace(scene, warnings=(mark,)), target, overwrite=True)

    found = kill_again_and_again(save, tmp_path / "out", 12, seed=1)
    assert found.total() == 12
