from pathlib import Path

import numpy as np
import pytest
from alignment_scenes import arc_scene
from PIL import Image

from benchmarks.beside_colmap import agreement, upright
from benchmarks.scale import Photos


def test_cameras_that_agree_do_in_any_frame_and_a_photo_without_one_does_not() -> None:
    theirs = {f"{k}.jpg": pose for k, pose in enumerate(arc_scene(4).cam_to_world)}
    ours = {name: np.linalg.inv(theirs["2.jpg"]) @ pose for name, pose in theirs.items()}
    assert agreement(ours, theirs) == pytest.approx((100, 100, 0), abs=1e-3)
    auc5, _, median = agreement({**ours, "0.jpg": None}, theirs)
    assert auc5 == pytest.approx(50, abs=1e-3) and median > 30
    # Photos that COLMAP does not place are not asked for.
    assert agreement(ours, {**theirs, "3.jpg": None})[0] == pytest.approx(100, abs=1e-3)


def test_copies_are_upright_and_keep_what_exif_says_else(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png", exif=exif)
    copies = upright(Photos(tmp_path, ("a.png",), None), tmp_path / "out", 200)
    with Image.open(copies.folder / copies.names[0]) as picture:
        assert picture.size == (150, 200)
        kept = picture.getexif()
        assert 0x0112 not in kept and kept.get_ifd(0x8769)[0xA405] == 28
