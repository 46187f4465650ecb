"""Scenes with next to nothing in them, fused, saved with every further file, and read back."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scene_factory import make_scene
from view_maps import with_maps

from pointmap.errors import InputError
from recon.export import ExportOptions, load_scene
from recon.fusion import FusionOptions, fuse_points, fuse_surface
from recon.reconstruction import Reconstruction
from recon.scene import PointCloud, Tracks, View

EVERYTHING = ExportOptions(formats=("obj", "depth-npz", "depth-png"), depth_resolution="original")
OPTIONS = FusionOptions(texture=True, texture_size=512)


pytestmark = pytest.mark.usefixtures("light_report")


def fused(scene: Reconstruction, views: tuple[View, ...]) -> Reconstruction:
    surface = fuse_surface(views, options=OPTIONS)
    return dataclasses.replace(
        scene,
        views=views,
        tracks=Tracks.empty(),
        pairs=(),
        cloud=fuse_points(views, options=OPTIONS),
        surface=surface.mesh,
        textured=surface.textured,
        statistics=surface.statistics,
    )


def changed(views: tuple[View, ...], **arrays: float) -> tuple[View, ...]:
    """Return the views with an array of theirs filled with one value."""
    return tuple(
        with_maps(
            view,
            **{name: np.full_like(getattr(view, name), value) for name, value in arrays.items()},
        )
        for view in views
    )


def one_pixel(views: tuple[View, ...]) -> tuple[View, ...]:
    depth = np.zeros_like(views[0].depth)
    depth[20, 30] = 3.0
    return (with_maps(views[0], depth=depth), *changed(views[1:], depth=0))


def unplaced(views: tuple[View, ...]) -> tuple[View, ...]:
    return tuple(
        dataclasses.replace(
            v, camera=dataclasses.replace(v.camera, cam_to_world=None), reason="no matches"
        )
        for v in views
    )


POOR = {
    "depth NaN": lambda views: changed(views, depth=np.nan),
    "depth infinite": lambda views: changed(views, depth=np.inf),
    "depth unknown": lambda views: changed(views, depth=0),
    "confidence 0": lambda views: changed(views, confidence=0),
    "confidence NaN": lambda views: changed(views, confidence=np.nan),
    "one pixel": one_pixel,
    "no photo placed": unplaced,
    "one photo": lambda views: views[:1],
    "no photo": lambda views: (),
}


@pytest.mark.parametrize("case", POOR)
def test_every_file_is_written_and_readable(tmp_path: Path, case: str) -> None:
    import open3d as o3d
    import pycolmap
    import trimesh

    full = make_scene(tmp_path / "photos", names=("a.jpg", "b.jpg"), write_photos=True)
    scene = fused(full, POOR[case](full.views))
    assert (len(scene.cloud.points) > 100) == (case == "one photo")
    assert (len(scene.surface.faces) > 100) == (case == "one photo")
    assert np.isfinite(scene.cloud.points).all() and np.isfinite(scene.surface.vertices).all()
    out = scene.save(tmp_path / "out", export=EVERYTHING)

    loaded = load_scene(out)
    assert len(loaded.views) == len(scene.views)
    assert loaded.statistics == scene.statistics
    assert len(loaded.cloud.points) == len(scene.cloud.points)
    placed = sum(view.registered for view in scene.views)
    assert pycolmap.Reconstruction(str(out / "colmap/sparse/0")).num_reg_images() == placed
    assert len(np.loadtxt(out / "cameras.tum", ndmin=2)) == placed
    # (trimesh takes a file without anything for a scene without anything.)
    trimesh.load(out / "scene.glb", force="scene")
    mesh = o3d.io.read_triangle_mesh(str(out / "mesh.ply"))
    assert len(mesh.triangles) == len(scene.surface.faces)
    for view in scene.views:
        with np.load(out / f"depth_npz/{Path(view.name).stem}.npz") as arrays:
            assert np.isfinite(arrays["depth"]).all() and np.isfinite(arrays["confidence"]).all()


def test_one_point(tmp_path: Path) -> None:
    import open3d as o3d
    import trimesh

    full = make_scene(tmp_path / "photos", names=("a.jpg", "b.jpg"))
    one = PointCloud(*(getattr(full.cloud, f.name)[:1] for f in dataclasses.fields(PointCloud)))
    scene = dataclasses.replace(fused(full, changed(full.views, depth=0)), cloud=one)
    out = scene.save(tmp_path / "out")
    np.testing.assert_array_equal(load_scene(out).cloud.points, one.points)
    assert len(o3d.io.read_point_cloud(str(out / "points.ply")).points) == 1
    assert len(trimesh.load(out / "scene.glb").geometry["points"].vertices) == 1


@contextlib.contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """Every file is cut off after ``bytes_left``, around the tested call alone."""
    resource = pytest.importorskip("resource", reason="no file size limits on Windows")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("file", ["depth-npz", "depth-png", "depth-exr", "obj"])
def test_a_full_disk_stops_any_further_file(tmp_path: Path, file: str) -> None:
    if file == "depth-exr":
        pytest.importorskip("OpenEXR")
    full = make_scene(tmp_path / "photos", names=("a.jpg",))
    noise = np.random.default_rng(0).random(full.views[0].depth.shape) + 1
    view = with_maps(full.views[0], depth=noise.astype(np.float32))
    from recon.export.depth_formats import write_depth_files
    from recon.export.obj import write_obj

    (tmp_path / "out").mkdir()
    with pytest.raises(OSError), full_disk(2000):
        if file == "obj":
            write_obj(tmp_path / "out", full)
        else:
            options = ExportOptions(formats=(file,))  # type: ignore[arg-type]
            write_depth_files(tmp_path / "out", dataclasses.replace(full, views=(view,)), options)


def test_no_package_for_exr_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.export.options.find_spec", lambda name: None)
    full = make_scene(tmp_path / "photos", names=("a.jpg",))
    with pytest.raises(InputError, match="OpenEXR"):
        full.save(tmp_path / "out", export=ExportOptions(formats=("depth-exr",)))
    assert os.listdir(tmp_path) == []
