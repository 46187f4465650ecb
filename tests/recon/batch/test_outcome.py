"""A scene of a batch is done anew when a file that it is made of has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon.batch.outcome import inputs_key
from recon.batch.scene_list import SceneEntry


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
