"""JPEGs that are wrong inside are named, and nothing below the damage is used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pointmap.damaged_jpegs import damage_of_jpegs, sound_share
from pointmap.images import load_photo
from recon.inputs import open_usable


def jpeg(**options: object) -> bytes:
    """Return a JPEG of boards side by side, each of its own lightness, with grain."""
    rng = np.random.default_rng(0)
    boards = np.repeat(rng.uniform(40, 220, 20), 32) + rng.normal(0, 12, (427, 640))
    picture = Image.fromarray(np.clip(boards, 0, 255).astype(np.uint8)).convert("RGB")
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90, **options)
    return content.getvalue()


DAMAGE = {
    "bytes are missing": lambda data, middle: data[:middle] + data[middle + 512 :],
    "there are more": lambda data, middle: data[:middle] + data[middle // 2 :],
    "a sector of zeros": lambda data, middle: data[:middle] + bytes(4096) + data[middle + 4096 :],
    "cut, with an end": lambda data, middle: data[:middle] + b"\xff\xd9",
}


@pytest.mark.parametrize("kind", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("how", DAMAGE)
def test_jpegs_that_are_damaged_inside_are_named(
    how: str, kind: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = jpeg(**kind)
    (tmp_path / "a.jpg").write_bytes(good)
    # What follows the end is anybody's own: films of motion photos, gain maps.
    (tmp_path / "b.jpg").write_bytes(good + bytes(1000) + good[:5000])
    (tmp_path / "c ü\n.jpg").write_bytes(DAMAGE[how](good, len(good) // 2))
    (tmp_path / "d.png").write_bytes(b"")
    photos = open_usable([tmp_path])
    (said,) = [text for text in caplog.messages if "damaged" in text and "left out" not in text]
    assert said.startswith("1 photo is damaged inside") and "c ü" in said
    assert "a.jpg" not in said and "b.jpg" not in said
    assert [photo.sound_share for photo in photos[:2]] == [1, 1]


def test_padding_before_the_end_of_a_jpeg_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg()[:-2] + bytes(30) + b"\xff\xd9")
    assert damage_of_jpegs([tmp_path / "a.jpg", tmp_path / "missing.jpg"]) == [None, None]


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("how", ["bytes are missing", "cut, with an end"])
def test_what_comes_after_the_damage_is_not_used(
    how: str, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    good = jpeg(exif=exif)
    (tmp_path / "a.jpg").write_bytes(good)
    (tmp_path / "b.jpg").write_bytes(DAMAGE[how](good, len(good) // 2))
    whole, damaged = (
        load_photo(photo, long_side=640) for photo in open_usable(sorted(tmp_path.glob("*.jpg")))
    )
    assert whole.usable is None and damaged.usable is not None
    with Image.open(tmp_path / "b.jpg") as image:
        seen = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    wrong = np.abs(seen - whole.pixels).max(axis=2) > 60
    assert 0.2 < wrong.mean() and not (wrong & damaged.usable).any()
    # Not much more than that is lost.
    lines = wrong.any(axis=1) if orientation != 6 else wrong.any(axis=0)
    assert (~damaged.usable).mean() < lines.mean() + 0.15


def test_a_picture_without_an_edge_right_across_is_sound() -> None:
    rows = np.random.default_rng(0).normal(100, 10, (50, 80))
    assert sound_share(rows) == 1
    assert sound_share(rows[:1]) == sound_share(rows[:0]) == 1
    shifted = rows + np.where(np.arange(50)[:, None] < 30, 0, 30)
    assert sound_share(shifted) == pytest.approx(28 / 50)
    rows[30:] = 100  # as light as the rest
    assert sound_share(rows) == pytest.approx(28 / 50)
