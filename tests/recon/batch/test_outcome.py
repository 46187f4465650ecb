"""What is kept of a scene of a batch, and that it is done anew when one of its files changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from room_folder import room_shots, true_scene

from recon.batch.one_scene import outcome_of
from recon.batch.outcome import inputs_key
from recon.batch.scene_list import SceneEntry
from recon.save import save_scene


@pytest.mark.parametrize(
    ("photos", "options", "changed", "anew"),
    [
        ("walk", (), "walk/a.jpg", True),
        ("walk", (), "walk/left/b.jpg", False),
        ("walk", ("--recursive",), "walk/left/b.jpg", True),
        ("walk/**/*.jpg", (), "walk/left/b.jpg", True),
        ("walk/*.jpg", (), "walk/left/b.jpg", False),
        ("walk", ("--masks", "masks"), "masks/a.jpg.png", True),
        ("walk", ("--masks", "masks"), "other.txt", False),
        ("walk", ("--recursive", "--masks", "masks"), "masks/left/b.jpg.png", True),
    ],
)
def test_what_the_scene_is_made_of_counts_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    photos: str,
    options: tuple[str, ...],
    changed: str,
    anew: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("walk/a.jpg", "walk/left/b.jpg", "masks/a.jpg.png", "masks/left/b.jpg.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"one")
    entry = SceneEntry("walk", photos)
    before = inputs_key(entry, options)
    assert inputs_key(entry, options) == before
    Path(changed).write_bytes(b"another")
    assert (inputs_key(entry, options) != before) == anew


def test_a_scene_has_its_row_without_its_cloud_and_mesh_being_read(tmp_path: Path) -> None:
    """They are most of a scene, and the row is made once it is written."""
    scene = tmp_path / "scene"
    save_scene(true_scene(room_shots(3), tmp_path / "photos", unplaced={0}), scene)
    for name in ("points.ply", "mesh.ply"):
        (scene / name).write_bytes(b"no ply")
    row = outcome_of("a", "key", scene, 1.5)
    assert (row.name, row.made_of, row.reason, row.seconds) == ("a", "key", None, 1.5)
    assert (row.placed, row.photos, row.verdict) == (2, 3, "")
    assert row.thumbnail.startswith("/9j/")
