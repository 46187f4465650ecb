import numpy as np
import pytest
from fused_room import VOXEL, distance_to_room
from synthetic import Shot, view_of

from recon.fusion import FusionOptions, fuse_points
from recon.fusion import cloud as cloud_module
from recon.fusion.usable_depth import usable_depths
from recon.fusion.witnesses import witnesses


def test_cloud_is_on_the_surface_without_duplicates(shots: list[Shot]) -> None:
    # The floor, at y = 1, must not lie between two layers of voxels.
    voxel = 0.037
    options = FusionOptions(voxel_size=voxel)
    cloud = fuse_points([view_of(s) for s in shots], options=options)
    assert np.quantile(distance_to_room(cloud.points.astype(np.float64)), 0.99) < 0.01
    once = fuse_points([view_of(shots[0])], options=options)
    twice = fuse_points([view_of(shots[0]), view_of(shots[0])], options=options)
    assert len(twice.points) == len(once.points)
    cells = np.floor(cloud.points / voxel).astype(int)
    assert len(np.unique(cells, axis=0)) > 0.97 * len(cells)
    assert cloud.confidence.min() > 0.99
    capped = fuse_points([view_of(s) for s in shots], options=FusionOptions(max_points=2000))
    assert 500 < len(capped.points) <= 2000


def test_cloud_is_the_same_merged_photo_by_photo_and_all_at_once(
    shots: list[Shot], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [view_of(s) for s in shots]
    options = FusionOptions(voxel_size=VOXEL)
    at_once = fuse_points(views, options=options)
    monkeypatch.setattr(cloud_module, "_WAITING", 100)
    merged = fuse_points(views, options=options)
    for field in ("points", "colours", "normals", "confidence"):
        one, other = (getattr(cloud, field).astype(float) for cloud in (at_once, merged))
        np.testing.assert_allclose(one, other, atol=1.0 if field == "colours" else 1e-4)


def test_what_other_photos_see_through_is_removed(shots: list[Shot]) -> None:
    ghost = shots[3].depth.copy()
    ghost[40:60, 60:90] *= 0.5
    views = [view_of(s) for s in shots]
    views[3] = view_of(shots[3], depth=ghost)
    cloud = fuse_points(views, options=FusionOptions(voxel_size=VOXEL))
    assert (distance_to_room(cloud.points.astype(np.float64)) > 0.3).sum() == 0


def test_witnesses_are_the_photos_that_look_at_the_same(shots: list[Shot]) -> None:
    """Among many photos of elsewhere, those of here are found, and keep their say."""
    ghost = shots[3].depth.copy()
    ghost[40:60, 60:90] *= 0.5
    views = [view_of(s) for s in shots]
    views[3] = view_of(shots[3], depth=ghost)
    elsewhere = []
    for number in range(14):
        matrix = shots[number % 8].cam_to_world.copy()
        matrix[:3, 3] += [0, 0, 500 + number]
        elsewhere.append(
            view_of(Shot(shots[0].pixels, shots[0].depth, shots[0].intrinsics, matrix))
        )
    depths = usable_depths([*elsewhere, *views], FusionOptions())
    found = witnesses(depths)[14 + 3]
    assert len(found) == 7
    assert all(any(other is depth for depth in depths[14:]) for other in found)
    cloud = fuse_points([*elsewhere, *views], options=FusionOptions(voxel_size=VOXEL))
    here = cloud.points[cloud.points[:, 2] < 100].astype(np.float64)
    assert len(here) > 3000 and (distance_to_room(here) > 0.3).sum() == 0
