"""Photos that are stored turned, as programs without a sense for EXIF orientation get them."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene_factory import make_scene

from recon.reconstruction import Reconstruction
from recon.save import save_scene

MAKE, ORIENTATION = 0x010F, 0x0112


def _store(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """Write upright ``pixels`` the way a camera held at ``orientation`` (6 or 3) does."""
    stored = np.rot90(pixels, {6: 1, 3: 2, 1: 0}[orientation])
    tags = Image.Exif()
    tags[MAKE], tags[ORIENTATION] = "Maker", orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=97, subsampling=0, exif=tags)


@pytest.fixture
def scene(tmp_path: Path) -> Reconstruction:
    """a.jpg upright, b.jpg and c.png stored turned, d.jpg turned but not placed."""
    names = ("a.jpg", "b.jpg", "c.png", "d.jpg")
    scene = make_scene(tmp_path / "photos", names=names, unregistered={"d.jpg"}, write_photos=True)
    views = []
    for view, orientation in zip(scene.views, (1, 6, 3, 6), strict=True):
        upright = np.asarray(Image.open(view.path).convert("RGB"))
        _store(view.path, upright, orientation)
        views.append(dataclasses.replace(view, turned=orientation != 1))
    return dataclasses.replace(scene, views=tuple(views))


def test_readers_without_exif_see_what_our_cameras_describe(
    scene: Reconstruction, tmp_path: Path
) -> None:
    import pycolmap

    out = save_scene(scene, tmp_path / "out")
    model = pycolmap.Reconstruction(str(out / "colmap/sparse/0"))
    assert {image.name for image in model.images.values()} == {"a.jpg", "b.jpg", "c.png"}
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        bitmap = pycolmap.Bitmap.read(out / "colmap/images" / image.name, as_rgb=True)
        assert (bitmap.width, bitmap.height) == (camera.width, camera.height)
        view = next(view for view in scene.views if view.name == image.name)
        small = Image.fromarray(bitmap.to_array()).resize(view.pixels.shape[1::-1])
        difference = np.abs(np.asarray(small).astype(int) - view.pixels)
        assert np.median(difference) <= 4, image.name
    frames = json.loads((out / "transforms.json").read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == [
        f"colmap/images/{name}" for name in ("a.jpg", "b.jpg", "c.png")
    ]
    tags = Image.open(out / "colmap/images/b.jpg").getexif()
    assert tags[MAKE] == "Maker"
    assert tags.get(ORIENTATION, 1) == 1
    assert (out / "colmap/images/a.jpg").read_bytes() == scene.views[0].path.read_bytes()


def test_upright_photos_are_not_copied(scene: Reconstruction, tmp_path: Path) -> None:
    upright = [dataclasses.replace(view, turned=False) for view in scene.views[:3]]
    views = (*upright, scene.views[3])  # turned, but not placed
    out = save_scene(dataclasses.replace(scene, views=views), tmp_path / "out")
    assert not (out / "colmap/images").exists()


def test_a_photo_that_is_gone_costs_only_its_copy(
    scene: Reconstruction, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene.views[1].path.unlink()
    with caplog.at_level(logging.WARNING):
        out = save_scene(scene, tmp_path / "out")
    assert str(scene.views[1].path) in caplog.text
    assert sorted(p.name for p in (out / "colmap/images").iterdir()) == ["a.jpg", "c.png"]
