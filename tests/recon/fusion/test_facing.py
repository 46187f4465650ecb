"""Surfaces that a photo sees at a slant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointmap.camera import pinhole, pixel_centres, pixel_rays
from recon.fusion import FusionOptions, fuse_surface
from recon.fusion.facing import BEHIND, LEAST, faced_by, facing
from recon.fusion.usable_depth import usable_depths
from recon.scene import Camera, LoadedMaps, Mesh, View

WIDTH, HEIGHT, FOCAL = 320, 240, 260.0
# A camera looks along a street between two walls: eyes above the ground, far from its end.
EYES, END, HALF_WIDTH, VOXEL = 0.25, 4.0, 0.6, 0.006


def _depth(normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Depth (h, w) of the nearest of planes with ``normals`` (N, 3) at ``offsets`` (N,)."""
    rays = pixel_rays(pixel_centres(WIDTH, HEIGHT), pinhole(FOCAL, WIDTH, HEIGHT))
    with np.errstate(divide="ignore"):
        depth = offsets / (rays @ normals.T)
    return np.asarray(np.where(depth > 0, depth, np.inf).min(axis=-1), np.float32)


def _street(shift: float) -> View:
    """A photo from ``shift`` further on."""
    normals = np.array([[0.0, 1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1]])
    depth = _depth(normals, np.array([EYES, HALF_WIDTH, HALF_WIDTH, END - shift]))
    pose = np.eye(4)
    pose[2, 3] = shift
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    camera = Camera(pinhole(FOCAL, WIDTH, HEIGHT), WIDTH, HEIGHT, pose)
    name = f"{shift}.jpg"
    return View(name, Path(name), camera, LoadedMaps(grey, depth, np.ones_like(depth)))


def _on_ground(mesh: Mesh, near: float, far: float) -> float:
    """Return the share of places of the street between two depths that have mesh near them."""
    from scipy.spatial import cKDTree

    x, z = np.arange(-0.3, 0.3, 3 * VOXEL), np.arange(near, far, 3 * VOXEL)
    places = np.stack(np.meshgrid(x, [EYES], z), -1).reshape(-1, 3)
    return float((cKDTree(mesh.vertices).query(places)[0] < 1.5 * VOXEL).mean())


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.3, 0.2, 1), (0, 1, 0.3), (1, 0.4, 0.5)])
def test_of_a_plane_it_is_the_share_of_depth_that_is_distance(normal: tuple[float, ...]) -> None:
    unit = np.array(normal) / np.linalg.norm(normal)
    K = pinhole(FOCAL, WIDTH, HEIGHT)
    true = pixel_rays(pixel_centres(WIDTH, HEIGHT), K) @ unit
    depth = np.where(true > 0, 1 / np.where(true > 0, true, 1), 0).astype(np.float32)
    found = facing(depth, K)
    expected = np.where(depth > 0, np.clip(true, LEAST, 1), 1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_beside_an_edge_the_flatter_side_counts() -> None:
    depth = np.full((20, 20), 2.0, np.float32)
    depth[:, 10:] = 4.0
    np.testing.assert_allclose(facing(depth, pinhole(20, 20, 20)), 1, atol=0.12)


def test_depth_that_is_not_sure_tells_of_no_more_behind_it() -> None:
    view = _street(0.0)
    found = {}
    for sure in (0.3, 1.0):
        maps = LoadedMaps(view.pixels, view.depth, np.full_like(view.depth, sure))
        (depth,) = usable_depths([replace(view, maps=maps)], FusionOptions(sky="keep"))
        found[sure] = faced_by(depth.frame())
    known = view.depth > 0
    assert found[0.3][known].min() == np.float32(BEHIND)
    assert found[1.0][known].min() < 0.3
    flat = found[1.0] > BEHIND
    np.testing.assert_array_equal(found[0.3][flat], found[1.0][flat])


def test_a_street_is_whole_where_it_is_seen_at_a_few_degrees() -> None:
    views = [_street(shift) for shift in (0.0, 0.2, 0.4)]
    mesh = fuse_surface(views, options=FusionOptions(sky="keep", voxel_size=VOXEL)).mesh
    # Seen at 7 to 4 degrees: what is a voxel below the ground is 8 to 14 away along z.
    assert _on_ground(mesh, 2.0, 3.5) > 0.98
    near = (mesh.vertices[:, 2] < 3.5) & (np.abs(mesh.vertices[:, 0]) < 0.3)
    ground = mesh.vertices[near & (mesh.vertices[:, 1] > 0.5 * EYES)]
    assert np.quantile(np.abs(ground[:, 1] - EYES), 0.95) < VOXEL
