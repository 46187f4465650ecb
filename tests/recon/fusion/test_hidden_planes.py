from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recon.fusion import FusionOptions, fuse_surface
from recon.fusion.hidden_planes import hidden_planes
from recon.fusion.scene_planes import scene_planes
from recon.fusion.usable_depth import usable_depths
from recon.scene import Camera, LoadedMaps, Mesh, View

WIDTH, HEIGHT, FOCAL = 400, 300, 240.0
# A wall at z = WALL, in it a niche; before it a card that no photo looks behind.
WALL, CARD, NICHE = 3.0, 1.5, 3.4
VOXEL = 0.015


def _niche(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.abs(x - 1.1) < 0.25) & (np.abs(y) < 0.3)


def _views(relief: float = 0.0, card: float = 0.3) -> list[View]:
    """Photos of the wall from three places; ``relief``: how deep the grooves in it are;
    ``card``: half the sides of the card.
    """
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    x = ((np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL)[None] + np.zeros((HEIGHT, 1))
    y = ((np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / FOCAL)[:, None] + np.zeros((1, WIDTH))
    views = []
    for number, shift in enumerate((-0.2, 0.0, 0.2)):
        groove = relief * (np.sin(40 * (x * WALL + shift)) + np.sin(37 * y * WALL))
        depth = np.where(_niche(x * WALL + shift, y * WALL), NICHE, WALL + groove)
        depth = np.where(
            (np.abs(x * CARD + shift) < card) & (np.abs(y * CARD) < card), CARD, depth
        ).astype(np.float32)
        pose = np.eye(4)
        pose[0, 3] = shift
        name = f"{number}.jpg"
        pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        maps = LoadedMaps(pixels, depth, np.ones(depth.shape, np.float32))
        views.append(View(name, Path(name), Camera(K, WIDTH, HEIGHT, pose), maps))
    return views


OPTIONS = FusionOptions(sky="keep", voxel_size=VOXEL)


def _on_wall(mesh: Mesh, low: tuple[float, float], high: tuple[float, float]) -> float:
    """Return the share of places of the wall between two corners that have mesh near them."""
    from scipy.spatial import cKDTree

    x, y = (np.arange(a, b, VOXEL) for a, b in zip(low, high, strict=True))
    places = np.stack(np.meshgrid(x, y, [WALL]), -1).reshape(-1, 3)
    return float((cKDTree(mesh.vertices).query(places)[0] < 1.5 * VOXEL).mean())


def test_a_wall_goes_on_behind_what_hides_it_from_all_photos() -> None:
    mesh = fuse_surface(_views(), options=OPTIONS).mesh
    assert _on_wall(mesh, (-0.35, -0.4), (0.35, 0.4)) > 0.99
    # It is the wall's own place, and welded to it.
    behind = (np.abs(mesh.vertices[:, :2]) < 0.3).all(axis=1) & (mesh.vertices[:, 2] > 2)
    np.testing.assert_allclose(mesh.vertices[behind, 2], WALL, atol=0.1 * VOXEL)


def test_what_photos_look_into_stays_open() -> None:
    mesh = fuse_surface(_views(), options=OPTIONS).mesh
    assert _on_wall(mesh, (0.95, -0.2), (1.25, 0.2)) == 0


def test_a_measured_surface_has_nothing_that_was_not_seen() -> None:
    mesh = fuse_surface(_views(), options=replace(OPTIONS, surface="measured")).mesh
    assert _on_wall(mesh, (-0.2, -0.2), (0.2, 0.2)) == 0


def test_a_hole_as_wide_as_a_house_stays_open() -> None:
    mesh = fuse_surface(_views(card=0.7), options=OPTIONS).mesh
    assert _on_wall(mesh, (-0.1, -0.1), (0.1, 0.1)) == 0


def test_no_plane_goes_on_from_what_is_rough() -> None:
    mesh = fuse_surface(_views(relief=0.03), options=OPTIONS).mesh
    assert _on_wall(mesh, (-0.2, -0.2), (0.2, 0.2)) == 0


@pytest.mark.parametrize(("relief", "one_face"), [(0.0, True), (0.03, False)])
def test_a_face_is_told_from_the_mean_of_a_relief(relief: float, one_face: bool) -> None:
    depths = usable_depths(_views(relief), OPTIONS)
    planes = scene_planes(depths, VOXEL, OPTIONS.max_depth_jump)
    walls = [p for p in planes if p.normal[2] < -0.99 and abs(p.offset + WALL) < 0.1]
    assert any(p.one_face for p in walls) is one_face
    if one_face:
        np.testing.assert_allclose(
            [*walls[0].normal, walls[0].offset], [0, 0, -1, -WALL], atol=0.01
        )


def _behind_the_card(view: View, depth: float) -> View:
    """Return the view with another depth where it has the card, 0 for none."""
    maps = LoadedMaps(view.pixels, np.where(view.depth == CARD, depth, view.depth), view.confidence)
    return replace(view, maps=maps)


@pytest.mark.parametrize(
    ("what_photos_find", "goes_on"),
    [
        ((0.0,), True),
        ((0.0, 0.0), False),
        ((WALL - 4 * VOXEL,), True),
        ((WALL - 4 * VOXEL, WALL - 4 * VOXEL), False),
        ((WALL + 0.3,), False),
    ],
    ids=["one nothing", "two nothing", "one relief", "two relief", "one looks past"],
)
def test_a_wall_goes_on_where_most_photos_say_that_it_is_hidden(
    what_photos_find: tuple[float, ...], goes_on: bool
) -> None:
    views = _views()
    for n, depth in enumerate(what_photos_find):
        views[n] = _behind_the_card(views[n], depth)
    depths = usable_depths(views, OPTIONS)
    hidden = hidden_planes(depths, VOXEL, OPTIONS.max_depth_jump)
    behind = []
    for wall in hidden:
        i, j = np.floor(wall.plane.axes @ [0, 0, WALL] / wall.edge).astype(int) - wall.low
        behind.append(wall.filled[i - 3 : i + 3, j - 3 : j + 3].all())
    assert any(behind) == goes_on


def test_of_parallel_faces_the_fullest_is_found() -> None:
    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL
    before = np.array([0, 0, 0, 0, 0.025, 0.025, 0.04, 0.04, 0.055, 0.055])
    views = []
    for view in _views():
        assert view.camera.cam_to_world is not None
        stripe = np.floor((x * WALL + view.camera.cam_to_world[0, 3]) / 0.05).astype(int)
        depth = np.tile(WALL - before[stripe % 10], (HEIGHT, 1)).astype(np.float32)
        views.append(replace(view, maps=LoadedMaps(view.pixels, depth, view.confidence)))
    planes = scene_planes(usable_depths(views, OPTIONS), VOXEL, OPTIONS.max_depth_jump)
    assert any(abs(plane.offset + WALL) < 0.3 * VOXEL for plane in planes)
