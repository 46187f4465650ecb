from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import Shot, shoot, view_of

from pointmap.camera import rigid
from pointmap.lens import PINHOLE, Lens
from recon.fusion import FusionOptions, fuse_mesh, fuse_surface
from recon.fusion.frames import as_pinhole
from recon.fusion.parts import looking_into, parts_of
from recon.fusion.tsdf import integrate, touched_blocks
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
    shots: list[Shot], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.fusion.surface._MOST_PARTS", 4)
    views = [view_of(s) for s in shots]
    fine = fuse_surface(views)
    assert not caplog.records
    bound = fuse_surface(views, options=FusionOptions(max_memory_gb=0.006 / 4))
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


@pytest.mark.parametrize("lens", [PINHOLE, Lens.radial(-0.2), Lens.solved(0.01, 0.0, True)])
def test_a_part_is_made_of_the_photos_that_look_into_it(lens: Lens) -> None:
    shots = shoot(6, width=96, height=72, span_deg=160, lens=lens)
    # Every other photo was taken in another place, which is the first one's twin.
    aside = rigid(np.eye(3), [0.0, 0.0, 40.0])
    moved = [replace(s, cam_to_world=aside @ s.cam_to_world) for s in shots[1::2]]
    views = [view_of(s) for s in [*shots[::2], *moved]]
    depths = usable_depths(views, FusionOptions())
    voxel, truncation = 0.02, 0.08
    blocks = touched_blocks(depths, voxel, truncation).numpy()
    frames = {id(d): as_pinhole(d.frame(), 0.03) for d in depths}
    used: list[int] = []
    for own, reached in parts_of(blocks, len(blocks) // 20):
        some = looking_into(depths, reached, voxel, truncation)
        used.append(len(some))
        of_all, of_some = (
            integrate([frames[id(d)] for d in seen], torch.from_numpy(reached), voxel, truncation,
                      "cpu")
            for seen in (depths, some)
        )  # fmt: skip
        assert len(own) and (of_all.weight > 0).any()
        assert torch.equal(of_all.weight, of_some.weight)
        assert torch.equal(of_all.distance, of_some.distance)
    # One part may lie in both places.
    assert len(used) > 20 and sum(count > 3 for count in used) <= 1
