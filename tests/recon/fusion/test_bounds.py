import numpy as np
import pytest
from synthetic import Shot, view_of

from recon.fusion import FusionOptions, fuse_mesh, fuse_surface
from recon.fusion.usable_depth import usable_depths
from recon.fusion.voxel_size import automatic_voxel_size


def test_a_surface_seen_many_times_is_no_coarser(shots: list[Shot]) -> None:
    """The area of the scene counts, not how often photos show it."""
    options = FusionOptions(max_triangles=40_000)
    few, many = ([view_of(s) for s in shots[2:6]] * times for times in (1, 3))
    sizes = [automatic_voxel_size(usable_depths(views, options), options) for views in (few, many)]
    assert sizes[1] < 1.2 * sizes[0]


def test_triangle_bound_is_kept(shots: list[Shot]) -> None:
    mesh = fuse_mesh([view_of(s) for s in shots], options=FusionOptions(max_triangles=5000))
    assert 1000 < len(mesh.faces) <= 5000


def test_memory_bound_makes_voxels_coarser_and_says_so(
    shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    views = [view_of(s) for s in shots]
    fine = fuse_surface(views)
    assert not caplog.records
    bound = fuse_surface(views, options=FusionOptions(max_memory_gb=0.006 / 64))
    assert 0 < len(bound.mesh.faces) < 0.5 * len(fine.mesh.faces)
    assert bound.statistics["voxel_size"] > fine.statistics["voxel_size"]
    assert "--fusion.max-memory-gb" in caplog.text


def test_a_surface_made_in_parts_is_the_one_made_at_once(
    shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    views = [view_of(s) for s in shots]
    whole = fuse_mesh(views)
    parts = fuse_mesh(views, options=FusionOptions(max_memory_gb=0.006))
    assert not caplog.records
    np.testing.assert_array_equal(parts.vertices, whole.vertices)
    np.testing.assert_array_equal(parts.faces, whole.faces)
    np.testing.assert_array_equal(parts.colours, whole.colours)
