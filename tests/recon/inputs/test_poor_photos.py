"""Nearly black, blurred and framed photos are named, and good ones are not."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from synthetic import shoot

from pointmap.damaged_jpegs import damage_of_jpegs
from recon.inputs import read_inputs
from recon.inputs.poor_photos import tell_poor_photos

SAMPLE = Path(__file__).resolve().parents[3] / "examples/courtyard/images"


def test_poor_photos_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, path in enumerate(sorted(SAMPLE.glob("*.jpg"))[:4]):
        pixels = np.asarray(Image.open(path).convert("RGB").resize((400, 300)))
        if number == 1:
            pixels = pixels // 12
        if number == 2:
            pixels = cv2.blur(pixels, (13, 1))
        if number == 3:
            pixels = cv2.copyMakeBorder(pixels, 30, 30, 0, 0, cv2.BORDER_CONSTANT)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    with caplog.at_level(logging.WARNING):
        tell_poor_photos(read_inputs([tmp_path]))
    assert caplog.messages == [
        "1 photo is nearly black: 1.png",
        "1 photo is blurred beside the others: 2.png",
        "1 photo has bars of one colour around the picture, which are ignored: 3.png",
    ]


def test_smooth_things_are_not_blurred(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, shot in enumerate(shoot(3, width=160, height=120, wavelength=1.0)):
        Image.fromarray(shot.pixels).save(tmp_path / f"{number}.png")
    tell_poor_photos(read_inputs([tmp_path]))
    assert not caplog.messages


def jpeg(**options: object) -> bytes:
    """Return a JPEG of a sample photo."""
    picture = Image.open(sorted(SAMPLE.glob("*.jpg"))[0]).convert("RGB").resize((640, 427))
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
    tell_poor_photos(read_inputs([tmp_path]))
    (said,) = [text for text in caplog.messages if "damaged" in text and "left out" not in text]
    assert said.startswith("1 photo is damaged inside") and "c ü" in said
    assert "a.jpg" not in said and "b.jpg" not in said


def test_padding_before_the_end_of_a_jpeg_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg()[:-2] + bytes(30) + b"\xff\xd9")
    assert damage_of_jpegs([tmp_path / "a.jpg", tmp_path / "missing.jpg"]) == [None, None]
