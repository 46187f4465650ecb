"""Nearly black, blurred and framed photos are named, and good ones are not."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from synthetic import save_photos, shoot

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
    save_photos(shoot(3, width=160, height=120, wavelength=1.0), tmp_path)
    tell_poor_photos(read_inputs([tmp_path]))
    assert not caplog.messages
