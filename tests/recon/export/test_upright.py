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

from pointmap.images import open_photos
from recon.inputs.read_cameras import load_known_cameras
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


def test_what_few_programs_read_is_copied_as_jpeg(tmp_path: Path) -> None:
    import pillow_heif

    names = ("a.jpg", "b.heic", "c.webp", "d.tif")
    scene = make_scene(tmp_path / "photos", names=names, write_photos=False)
    pillow_heif.register_heif_opener()
    pictures = []
    for view in scene.views:
        view.path.parent.mkdir(exist_ok=True)
        size = view.camera.width, view.camera.height
        pictures.append(Image.fromarray(view.pixels).resize(size, Image.Resampling.BICUBIC))
        pictures[-1].save(view.path)
    out = save_scene(scene, tmp_path / "out")
    copied = sorted(path.name for path in (out / "colmap/images").iterdir())
    assert copied == ["a.jpg", "b.heic.jpg", "c.webp.jpg", "d.tif"]
    frames = json.loads((out / "transforms.json").read_text())["frames"]
    assert [Path(frame["file_path"]).name for frame in frames] == copied
    for path, picture in zip(copied, pictures, strict=True):
        with Image.open(out / "colmap/images" / path) as copy:
            off = np.abs(np.asarray(copy.convert("RGB")).astype(int) - np.asarray(picture))
        assert off.mean() < 4
    # The model names the copies, and is known by the photos all the same.
    photos = open_photos([view.path for view in scene.views])[0]
    known = load_known_cameras(str(out / "colmap/sparse/0"), photos)
    assert all(pose is not None for pose in known.cam_to_world)


def test_photos_of_several_folders_are_found_in_one(tmp_path: Path) -> None:
    names = ("left/0.jpg", "right/0.jpg")
    scene = make_scene(tmp_path / "photos", names=names)
    for view in scene.views:
        view.path.parent.mkdir(parents=True)
        _store(view.path, view.pixels, 1)
    out = save_scene(scene, tmp_path / "out")
    assert not (out / "colmap/images").exists()
    bare = [dataclasses.replace(view, name=f"{k}.jpg") for k, view in enumerate(scene.views)]
    for view in bare:
        view.path.rename(view.path.with_name(view.name))
    bare = [dataclasses.replace(view, path=view.path.with_name(view.name)) for view in bare]
    out = save_scene(dataclasses.replace(scene, views=tuple(bare)), tmp_path / "two")
    assert sorted(path.name for path in (out / "colmap/images").iterdir()) == ["0.jpg", "1.jpg"]


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
