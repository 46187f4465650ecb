import numpy as np
import pytest
from fused_room import VOXEL
from synthetic import Shot, view_of

from recon.fusion import FusionOptions, fuse_mesh, fuse_points
from recon.scene import Camera, View


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
def test_no_usable_depth_gives_empty_results(shots: list[Shot], value: float) -> None:
    depth = np.full_like(shots[0].depth, value)
    unplaced = view_of(shots[1])
    unplaced = View(
        unplaced.name,
        unplaced.path,
        Camera(unplaced.camera.intrinsics, unplaced.camera.width, unplaced.camera.height, None),
        unplaced.maps,
        reason="no matches",
    )
    for views in ([], [view_of(shots[0], depth=depth)], [unplaced]):
        mesh, cloud = fuse_mesh(views), fuse_points(views)
        assert mesh.vertices.shape == mesh.colours.shape == mesh.faces.shape == (0, 3)
        assert cloud.points.shape == cloud.normals.shape == (0, 3)
        assert cloud.confidence.shape == (0,)


def test_bad_pixels_do_not_spoil_the_good(shots: list[Shot]) -> None:
    depth = shots[2].depth.copy()
    depth[::7, ::5] = np.nan
    depth[3] = np.inf
    mesh = fuse_mesh([view_of(shots[2], depth=depth), view_of(shots[3])])
    assert np.isfinite(mesh.vertices).all() and len(mesh.faces) > 5000


def test_a_few_known_pixels_never_end_the_run(shots: list[Shot]) -> None:
    """Open3D raises for depth that its own coarse look misses; alone, and beside good photos."""
    height, width = shots[0].depth.shape
    rows, columns = np.mgrid[:height, :width]
    missed = (rows % 4 != 0) & (columns % 4 != 0) & (rows < 12) & (columns < 12)
    sparse = view_of(shots[0], depth=np.where(missed, shots[0].depth, 0).astype(np.float32))
    options = FusionOptions(voxel_size=VOXEL, max_depth_jump=1e9)
    fuse_mesh([sparse], options=options)
    good = [view_of(s) for s in shots[1:4]]
    with_sparse = fuse_mesh([sparse, *good], options=options)
    assert len(with_sparse.faces) > 0.9 * len(fuse_mesh(good, options=options).faces)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_tiny_depth_maps_never_end_the_run(shots: list[Shot], size: int) -> None:
    small = {
        "depth": np.full((size, size), 2.0, np.float32),
        "confidence": np.ones((size, size), np.float32),
        "pixels": np.zeros((size, size, 3), np.uint8),
    }
    fuse_mesh([view_of(shots[0], **small)])
    fuse_points([view_of(shots[0], **small)])
