"""What commands of training cannot use is one line, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointmap.training import from_photos, generate, sample_photos


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (generate, ["--scenes", "-1"], "--scenes -1: give at least 1"),
        (generate, ["--views", "1"], "--views 1: give at least 2"),
        (generate, ["--size", "3"], "--size 3 is no WxH"),
        (sample_photos, ["--size", "large"], "--size large is no WxH"),
        (from_photos, ["no such photo.jpg"], "no such photo.jpg does not exist"),
        (from_photos, ["a.jpg", "--out", "name"], "--out name is no checkpoint"),
        (from_photos, ["a.jpg", "--out", "none/a.safetensors"], "none is no folder: make it"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: object,
    arguments: list[str],
    said: str,
) -> None:
    out = tmp_path / "out.safetensors"
    assert command.main(["--out", str(out), *arguments]) == 2  # type: ignore[attr-defined]
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
    assert not out.exists()
