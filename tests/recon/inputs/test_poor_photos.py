"""Nearly black, blurred and framed photos are named, and good ones are not."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from synthetic import save_photos, shoot

from recon.inputs import open_usable, read_inputs
from recon.inputs.poor_photos import looked_at
from recon.options import Options

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
        looked_at(read_inputs([tmp_path], Options()))
    assert caplog.messages == [
        "1 photo is nearly black: 1.png",
        "1 photo is blurred beside the others: 2.png",
        "1 photo has bars of one colour around the picture, which are ignored: 3.png",
    ]


def test_of_a_picture_in_a_frame_the_middle_is_known(tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(sorted(SAMPLE.glob("*.jpg"))[0]).convert("RGB"))
    height, width = pixels.shape[:2]
    for name, sides in {"print": (20, 90, 20, 20), "film": (40, 40, 0, 0)}.items():
        framed = cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_CONSTANT, value=[240] * 3)
        Image.fromarray(framed).save(tmp_path / f"{name}.png")
    film, framed = looked_at(read_inputs([tmp_path], Options())).photos
    assert np.allclose(framed.middle, [20 + width / 2, 20 + height / 2], atol=1.5)
    assert np.array_equal(framed.pinhole(500.0)[:2, 2], framed.middle)
    # As wide on both sides: what was cut off for it, was cut off alike.
    assert np.array_equal(film.middle, [film.width / 2, film.height / 2])


def test_smooth_things_are_not_blurred(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_photos(shoot(3, width=160, height=120, wavelength=1.0), tmp_path)
    looked_at(read_inputs([tmp_path], Options()))
    assert not caplog.messages


@pytest.mark.parametrize("count", [5, 6])
def test_many_files_of_one_fault_are_told_in_one_line(
    count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "good.png")
    for number in range(count):
        (tmp_path / f"{number}.png").write_text(
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{number:064d}\nsize 9\n"
        )
    with caplog.at_level(logging.WARNING):
        photos = open_usable([tmp_path])
    assert [photo.name for photo in photos] == ["good.png"]
    if count == 5:
        assert len(caplog.messages) == 5 and caplog.messages[0].startswith("0.png is left out: ")
    else:
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("6 files are left out (0.png, 1.png, 2.png, ...): ")
