"""A disk that is full for one file of a scene after the other: one line, nothing half-written."""

from __future__ import annotations

import builtins
import io
import os
from pathlib import Path
from typing import Any

import pytest
from scene_factory import make_scene

from pointmap.errors import InputError
from recon.export.options import ExportOptions
from recon.save import save_scene
from viz.pages.html_page import write_page

EXPORT = ExportOptions(formats=("obj", "depth-npz", "depth-png"))


@pytest.fixture
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the page takes most of the time, and writes nothing."""
    monkeypatch.setattr("viz.pages.report.write_report", lambda _, path: write_page("page", path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device on this system")
def test_wherever_the_disk_is_full_the_old_scene_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_report: None
) -> None:
    scene = make_scene(tmp_path / "photos", names=("a.jpg",), write_photos=True)
    written = set[str]()
    full = ""
    real = io.open

    def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        name = os.path.basename(str(file))
        if set(mode) & set("wx") and str(tmp_path) in str(file):
            name = ".page" if name.startswith(".page") else name
            written.add(name)
            if name == full:
                # The kernel's own refusal, on whatever way the library writes.
                return real("/dev/full", mode.replace("x", "w"), *rest, **more)
        return real(file, mode, *rest, **more)

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)
    out = save_scene(scene, tmp_path / "out", export=EXPORT)
    names = sorted(written)
    assert {"cameras.json", "a.npz", "a.png", "points.ply", "scene.glb", "run.json"} <= set(names)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for full in names:
        with pytest.raises(InputError, match=r"No space left .*make room and run") as caught:
            save_scene(scene, out, overwrite=True, export=EXPORT)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match="No space left on device"):
            save_scene(scene, tmp_path / "new", export=EXPORT)
        assert sorted(os.listdir(tmp_path)) == ["out", "photos"], full
        assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
