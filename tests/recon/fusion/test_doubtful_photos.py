from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from fused_room import VOXEL
from synthetic import Shot, view_of

from recon.fusion import FusionOptions
from recon.fusion.fuse_views import Fused, fuse_views
from recon.fusion.usable_depth import kept_usable_depths
from recon.scene import LoadedMaps, View
from recon.work.folder import Work

OPTIONS = FusionOptions(voxel_size=VOXEL, texture=True, texture_size=2048)
MAGENTA, GREEN = (230, 20, 210), (20, 230, 40)


def _named(shots: Sequence[Shot]) -> list[View]:
    return [replace(view_of(shot), name=f"{n}.png") for n, shot in enumerate(shots)]


def _views(shots: Sequence[Shot]) -> list[View]:
    """Return the photos in grey; the first has other colours, as if it showed what is elsewhere."""
    views = []
    for view in _named(shots):
        pixels = view.pixels.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
        if not views:
            row, column = np.indices(pixels.shape[:2]) // 8
            pixels = np.where(((row + column) % 2 == 0)[..., None], MAGENTA, GREEN).astype(np.uint8)
        views.append(replace(view, maps=LoadedMaps(pixels, view.depth, view.confidence)))
    return views


def _fused(views: Sequence[View], in_doubt: Sequence[str] = ()) -> Fused:
    return fuse_views(views, OPTIONS, device=torch.device("cpu"), work=Work(), in_doubt=in_doubt)


def _magenta(colours: np.ndarray) -> float:
    red, green, blue = colours.reshape(-1, 3).astype(int).T
    return float((np.minimum(red, blue) - green > 10).mean())


def test_a_photo_in_doubt_colours_nothing_that_others_show(shots: list[Shot]) -> None:
    views = _views(shots)
    believed, doubted = _fused(views), _fused(views, [views[0].name])
    assert _magenta(believed.surface.mesh.colours) > 0.1
    assert _magenta(doubted.surface.mesh.colours) < 0.03
    assert _magenta(doubted.cloud.colours) < 0.03
    assert believed.surface.textured is not None and doubted.surface.textured is not None
    textures = [fused.surface.textured.texture for fused in (believed, doubted)]
    # The rest is what it alone shows.
    assert _magenta(textures[1]) < 0.7 * _magenta(textures[0])
    # Next to nothing of the surface is lost.
    sizes = [len(fused.surface.mesh.vertices) for fused in (believed, doubted)]
    assert sizes[1] > 0.97 * sizes[0]


def test_what_a_photo_in_doubt_alone_shows_is_kept(shots: list[Shot], tmp_path) -> None:
    views = _named(shots)
    half = views[0].depth.shape[0] // 2
    # The others know nothing of the lower half.
    for n, view in enumerate(views[1:], 1):
        depth = view.depth.copy()
        depth[half:] = 0
        views[n] = replace(view, maps=LoadedMaps(view.pixels, depth, view.confidence))
    work, in_doubt = Work(tmp_path / "work"), [views[0].name]
    whole = kept_usable_depths(views, OPTIONS, up=None, work=work)[0]
    left, again = (
        kept_usable_depths(views, OPTIONS, up=None, work=work, in_doubt=in_doubt)[0]
        for _ in range(2)
    )
    below = np.s_[half + half // 2 :]
    assert left.known[below].sum() > 0.9 * whole.known[below].sum()
    assert left.known.sum() < 0.7 * whole.known.sum()
    # Nor are its pixels used elsewhere.
    assert left.view.usable is not None and again.view.usable is not None
    assert not (left.view.usable & whole.known & ~left.known).any()
    np.testing.assert_array_equal(left.rounded, again.rounded)
    np.testing.assert_array_equal(left.view.usable, again.view.usable)
