import dataclasses
from pathlib import Path

import numpy as np
import pytest
from failing_pieces import FailingOnce
from PIL import Image
from scipy.ndimage import map_coordinates
from synthetic import shoot, solid_texture
from view_maps import with_maps

from recon.fusion import FusionOptions, fuse_mesh, fuse_surface
from recon.fusion.texture import texture_mesh
from recon.scene import Camera, LoadedMaps, Mesh, TexturedMesh, View
from recon.work.pieces import PhotosFailed

WAVELENGTH = 0.5


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    """Photos of 384x288 on disk, depth and ``pixels`` of half that size."""
    folder = tmp_path_factory.mktemp("photos")
    large = shoot(5, width=384, height=288, wavelength=WAVELENGTH)
    small = shoot(5, width=192, height=144, wavelength=WAVELENGTH)
    views = []
    for number, (photo, depth) in enumerate(zip(large, small, strict=True)):
        path = folder / f"{number}.png"
        Image.fromarray(photo.pixels).save(path)
        camera = Camera(photo.intrinsics, 384, 288, photo.cam_to_world)
        sure = np.ones(depth.depth.shape, np.float32)
        views.append(View(path.name, path, camera, LoadedMaps(depth.pixels, depth.depth, sure)))
    return views


@pytest.fixture(scope="module")
def mesh(views: list[View]) -> Mesh:
    return fuse_mesh(views, options=FusionOptions(voxel_size=0.05))


def colours(textured: TexturedMesh) -> tuple[np.ndarray, np.ndarray]:
    """What the texture and what the truth show at the triangles' middles, (F, 3) levels each."""
    middle = textured.vertices[textured.faces].astype(np.float64).mean(axis=1)
    texel = textured.uv[textured.faces].mean(axis=1) * textured.texture.shape[1::-1] - 0.5
    channels = np.moveaxis(textured.texture.astype(np.float64), -1, 0)
    found = [map_coordinates(channel, texel.T[::-1], order=1) for channel in channels]
    return np.stack(found, -1), solid_texture(middle, WAVELENGTH) * 255


def colour_errors(textured: TexturedMesh) -> np.ndarray:
    found, truth = colours(textured)
    return np.abs(found - truth).mean(axis=1)


def test_texture_shows_the_photos_detail_where_it_belongs(views: list[View], mesh: Mesh) -> None:
    textured = texture_mesh(mesh, views)
    assert textured is not None
    assert textured.uv.min() >= 0 and textured.uv.max() <= 1
    assert len(textured.faces) == len(mesh.faces)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    coarse = np.abs(mesh.colours[mesh.faces].mean(1) - solid_texture(corners.mean(1), 0.5) * 255)
    errors = colour_errors(textured)
    assert np.median(errors) < 1.5
    assert np.quantile(errors, 0.9) < 12
    assert np.median(errors) < 0.6 * np.median(coarse.mean(axis=1))


def test_photos_that_are_gone_are_replaced_by_what_the_depth_was_made_from(
    views: list[View], mesh: Mesh
) -> None:
    gone = [dataclasses.replace(view, path=Path("no such.png")) for view in views]
    textured = texture_mesh(mesh, gone)
    assert textured is not None
    assert np.median(colour_errors(textured)) < 4


def test_exposure_is_levelled_between_photos(views: list[View], mesh: Mesh) -> None:
    dark = [
        with_maps(
            dataclasses.replace(view, path=Path("no such.png")),
            pixels=(view.pixels * (0.8 if number % 2 else 1.0)).astype(np.uint8),
        )
        for number, view in enumerate(views)
    ]
    textured = texture_mesh(mesh, dark)
    assert textured is not None
    found, truth = colours(textured)
    # One factor for all photos: what remains is the noise of a texel, not steps of a fifth.
    ratio = found.mean(axis=1) / truth.mean(axis=1)
    assert np.quantile(ratio, 0.9) / np.quantile(ratio, 0.1) < 1.12


def test_hidden_triangles_take_nothing_from_what_hides_them(views: list[View], mesh: Mesh) -> None:
    """One photo: what its nearer surfaces hide is painted with the mesh's own colours."""
    textured = texture_mesh(mesh, views[2:3])
    assert textured is not None
    errors = colour_errors(textured)
    assert np.quantile(errors, 0.95) < 20
    assert len(textured.faces) == len(mesh.faces)


def test_texture_keeps_its_bounds(views: list[View], mesh: Mesh) -> None:
    textured = texture_mesh(mesh, views, size=512, max_triangles=3000)
    assert textured is not None
    assert max(textured.texture.shape) <= 1024 + 8 and textured.texture.shape[0] <= 512 + 8
    assert 2000 < len(textured.faces) <= 3000
    assert np.median(colour_errors(textured)) < 12


def test_a_small_texture_holds_fewer_triangles(views: list[View], mesh: Mesh) -> None:
    textured = texture_mesh(mesh, views, size=256)
    assert textured is not None
    assert textured.texture.shape[0] <= 256 + 8
    assert 500 < len(textured.faces) < len(mesh.faces) / 4
    assert np.median(colour_errors(textured)) < 24


@pytest.mark.parametrize("stage", ["Texture: what photos see", "Texture: parts of photos"])
def test_a_photo_on_which_a_cluster_fails_is_named(
    views: list[View], mesh: Mesh, stage: str
) -> None:
    with pytest.raises(PhotosFailed) as failed:
        texture_mesh(mesh, views[:2], size=512, max_triangles=300, pieces=FailingOnce(stage))
    assert failed.value.photos() == {str(views[1].path): "MemoryError: too much"}


def test_textured_surface_only_on_request_and_for_what_there_is(views: list[View]) -> None:
    options = FusionOptions(voxel_size=0.1)
    assert fuse_surface(views, options=options).textured is None
    asked = fuse_surface(views, options=dataclasses.replace(options, texture=True))
    assert asked.textured is not None
    assert len(asked.textured.faces) == len(asked.mesh.faces)
    assert texture_mesh(Mesh.empty(), views) is None
    blind = [
        dataclasses.replace(v, camera=dataclasses.replace(v.camera, cam_to_world=None))
        for v in views
    ]
    assert texture_mesh(asked.mesh, blind) is None
