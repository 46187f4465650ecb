from dataclasses import replace

import cv2
import numpy as np
from fused_room import VOXEL
from numpy.typing import NDArray
from synthetic import Shot, shoot, view_of

from recon.fusion import FusionOptions, fuse_mesh, fuse_points
from recon.fusion.passing_things import StandingMaps
from recon.fusion.surface import fuse_surface
from recon.fusion.usable_depth import usable_depths
from recon.scene import LoadedMaps, View

MAGENTA = 230, 20, 210
OPTIONS = FusionOptions(voxel_size=VOXEL)


def _grey(shot: Shot) -> View:
    view = view_of(shot)
    grey = view.pixels.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    return replace(view, maps=LoadedMaps(grey, view.depth, view.confidence))


def _passed(shot: Shot, number: int) -> tuple[View, NDArray[np.bool_]]:
    """Return a photo in front of which something magenta passes, and where (h, w): its depth is
    inferred, and is that of what stands behind.
    """
    view = _grey(shot)
    height, width = shot.depth.shape
    region = np.zeros((height, width), bool)
    left = 150 - 16 * number
    region[height // 3 :, left : left + 20] = True
    pixels, confidence = view.pixels.copy(), np.ones((height, width), np.float32)
    pixels[region], confidence[region] = MAGENTA, 0.2
    return replace(view, maps=LoadedMaps(pixels, view.depth, confidence)), region


def _magenta(colours: NDArray[np.uint8]) -> int:
    red, green, blue = colours.astype(int).T
    return int((np.minimum(red, blue) - green > 60).sum())


def test_who_walks_through_leaves_next_to_nothing(shots: list[Shot]) -> None:
    views, regions = zip(*(_passed(shot, n) for n, shot in enumerate(shots)), strict=True)
    plain = usable_depths([_grey(shot) for shot in shots], OPTIONS)
    passed = usable_depths(views, OPTIONS)
    left = [depth.known[region].sum() for depth, region in zip(passed, regions, strict=True)]
    assert sum(left) < 0.01 * sum(region.sum() for region in regions)
    for before, after, region in zip(plain, passed, regions, strict=True):
        assert after.known[~region].sum() > 0.93 * before.known[~region].sum()
    # Others have what stands behind: the surface is as large as without.
    empty, mesh = (fuse_mesh([d.view for d in some], options=OPTIONS) for some in (plain, passed))
    assert len(mesh.vertices) > 0.97 * len(empty.vertices)
    assert _magenta(mesh.colours) < 0.01 * len(mesh.vertices)


def test_clothes_in_colours_like_the_walls_go_with_the_rest(shots: list[Shot]) -> None:
    views, regions = zip(*(_passed(shot, n) for n, shot in enumerate(shots)), strict=True)
    dressed = []
    for view, region, shot in zip(views, regions, shots, strict=True):
        # From the chest down it is what stands there, a little lighter.
        clothes = region & (np.arange(len(region)) > len(region) // 2)[:, None]
        pixels = view.pixels.copy()
        pixels[clothes] = np.minimum(_grey(shot).pixels[clothes].astype(int) + 40, 255)
        dressed.append(replace(view, maps=LoadedMaps(pixels, view.depth, view.confidence)))
    depths = usable_depths(dressed, OPTIONS)
    left = [depth.known[region].sum() for depth, region in zip(depths, regions, strict=True)]
    # By what differs surely alone, 47 %.
    assert sum(left) < 0.03 * sum(region.sum() for region in regions)


def test_who_stands_where_one_photo_alone_looks_goes_with_the_rest(shots: list[Shot]) -> None:
    view, region = _passed(shots[4], 4)
    # Of the others none measured anything behind the legs.
    others = []
    for shot in (*shots[:4], *shots[5:]):
        low = _grey(shot)
        depth = low.depth.copy()
        depth[2 * len(depth) // 3 :] = 0
        others.append(replace(low, maps=LoadedMaps(low.pixels, depth, low.confidence)))
    sure = LoadedMaps(view.pixels, view.depth, np.ones_like(view.depth))
    found = usable_depths([*others[:4], replace(view, maps=sure), *others[4:]], OPTIONS)[4]
    assert found.known[region].sum() < 0.03 * region.sum()
    legs = region & (np.arange(len(region)) > 3 * len(region) // 4)[:, None]
    assert found.known[np.roll(legs, 30, axis=1)].mean() > 0.9


def test_who_walks_through_is_not_in_the_texture(shots: list[Shot]) -> None:
    views = [_passed(shot, n)[0] for n, shot in enumerate(shots)]
    # Names tell views from each other.
    views = [replace(view, name=f"{n}.png") for n, view in enumerate(views)]
    textured = fuse_surface(views, options=replace(OPTIONS, texture=True)).textured
    assert textured is not None
    # Below are colours for triangles that no photo sees.
    shown = textured.texture[:-64].reshape(-1, 3)
    assert _magenta(shown) < 0.02 * (shown.max(axis=1) > 0).sum()


def test_another_exposure_is_no_other_thing(shots: list[Shot]) -> None:
    dark = _grey(shots[3])
    pixels = (0.5 * dark.pixels).astype(np.uint8)
    dark = replace(dark, maps=LoadedMaps(pixels, dark.depth, dark.confidence))
    views = [_grey(shot) for shot in shots]
    before = usable_depths(views, OPTIONS)[3]
    after = usable_depths([*views[:3], dark, *views[4:]], OPTIONS)[3]
    assert after.known.sum() > 0.98 * before.known.sum()


def test_two_photos_do_not_tell_which_one_is_passed(shots: list[Shot]) -> None:
    views = [_passed(shot, n)[0] for n, shot in enumerate(shots[:2])]
    assert _magenta(fuse_points(views, options=OPTIONS).colours) > 0


def test_things_that_stereo_made_wider_do_not_pass() -> None:
    shots = shoot(6, width=320, height=240, span_deg=24, wavelength=1.2)
    passing = []
    for depth in usable_depths([_widened(shot, 4) for shot in shots], OPTIONS):
        maps = depth.view.maps
        passing.append(0.0 if not isinstance(maps, StandingMaps) else 1 - maps.usable.mean())
    # With colours held against those of the same pixel alone, 2.6 %.
    assert np.mean(passing) < 0.01


def _widened(shot: Shot, by: int) -> View:
    """Return a view whose nearer things reach ``by`` pixels past their outlines, as matched windows
    make them.
    """
    view = view_of(shot)
    depth = cv2.erode(view.depth, np.ones((2 * by + 1,) * 2, np.uint8))
    return replace(view, maps=LoadedMaps(view.pixels, depth, view.confidence))
