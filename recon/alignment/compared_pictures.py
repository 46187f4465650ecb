"""What one photo shows, looked for in another's picture where the cameras say that it must be.

Photos of two places that look alike agree where the places do; around that they show different
things. Where key points are rare, as on grass, stone and plaster, only the pixels tell. Photos from
nearly the same spot are compared block by block: each block is moved along its epipolar line, as
far as depth may take it, and the best normalised cross-correlation counts (plane sweep; Collins
1996). Photos that stand further apart say nothing: along a long line something always fits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pointmap.camera import (
    Array,
    Index,
    Mask,
    invert_rigid,
    pixel_rays,
    project,
    stacked_poses,
)
from pointmap.images import Photo, load_photo
from pointmap.lens import Lens
from recon.stage_results import Alignment
from recon.work.threads import in_threads

# Photos are compared at this size, in blocks of so many pixels to either side, at every so many.
_LONG_SIDE, _HALF, _STEP = 320, 4, 12
_SIDE = np.arange(-_HALF, _HALF + 1, dtype=np.float32)
_AROUND = np.stack(np.meshgrid(_SIDE, _SIDE), axis=-1).reshape(-1, 2)
# Blocks count whose grey levels (of 255) spread by more; what noise and JPEG leave of them.
_TEXTURE, _NOISE = 6.0, 2.0
# Pixels by which depth may move a block along its line, and in what steps.
_FAR_PX, _LINE_PX = 24.0, 1.5
# Percentiles of the depth of a photo's points, and factors by which that range is widened.
_DEPTHS, _BEFORE, _BEYOND = (2.0, 98.0), 0.7, 1.5
# Points two photos have in common that are compared, and pairs of each photo: those of whose points
# that must be seen by both the fewest are.
_SHARED, _PARTNERS = 30, 3
# Photos whose views are turned from each other by more (cosine) are not compared.
_TURNED = 0.7
# Below this correlation a block is not there; above the other one it surely is.
_ABSENT, _SURE = 0.6, 0.8
# Pixels by which cameras that are a little off may move what is not found at first.
_EXACT = np.zeros((1, 2), np.float32)
_SLACK = np.float32(1.5) * np.array([[-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)
# Cells of a grid over a photo (columns, rows); one with so many blocks says something.
_GRID, _BLOCKS = np.array([8, 6]), 4
MOST, MANY = 0.7, 0.4
"""What a cell shows is missing if more than this share of its blocks is not there: where photos are
to be taken apart, and where it is enough for doubt. Of brickwork and paving many are found
anywhere; who walks by hides some.
"""
# Photos that are kept in memory, 1 MB each.
_KEPT = 64


@dataclass(frozen=True)
class ComparedPictures:
    """``pairs`` (E, 2) of photos, and in how many cells of their pictures what the one shows is
    ``missing`` (E,) in the other, and in how many it is ``there`` (E,).
    """

    pairs: Index
    missing: Index
    there: Index

    @staticmethod
    def none() -> ComparedPictures:
        """Return that no pictures were compared."""
        nothing = np.zeros(0, np.int64)
        return ComparedPictures(nothing.reshape(0, 2), nothing, nothing)


def compare_pictures(
    photos: Sequence[Photo], alignment: Alignment, *, missing: float = MOST
) -> ComparedPictures:
    """Return what photos from nearly the same spot find of each other's pictures.

    ``missing``: the share of a cell's blocks, :data:`MOST` or :data:`MANY`.
    Raises ``InputError`` when a photo can no longer be read.
    """
    depths = _depth_ranges(alignment)
    pairs = _pairs(photos, alignment, depths)

    @functools.lru_cache(_KEPT)
    def picture(photo: int) -> _Picture:
        return _Picture.of(photos[photo], alignment.intrinsics[photo], alignment.lenses[photo])

    def cells(here: int, there: int) -> tuple[int, int]:
        motion = invert_rigid(_pose(alignment, there)) @ _pose(alignment, here)
        return _missing_and_there(picture(here), picture(there), motion, depths[here], missing)

    def both_ways(pair: list[int]) -> Index:
        return np.add(cells(*pair), cells(*pair[::-1]))

    counts = np.reshape(list(in_threads(both_ways, pairs.tolist())), (-1, 2)).astype(np.int64)
    return _more_than_usual(ComparedPictures(pairs, counts[:, 0], counts[:, 1]))


def _more_than_usual(compared: ComparedPictures) -> ComparedPictures:
    """Return it without what a photo's picture misses in that of every other photo: people, water
    and leaves are never found again.
    """
    pairs, missing = compared.pairs, compared.missing.copy()
    number = missing + compared.there
    share = missing / np.maximum(number, 1)
    for n in np.flatnonzero(missing):
        for photo in pairs[n]:
            others = (pairs == photo).any(axis=1) & (number > 0)
            others[n] = False
            if others.any():
                usual = int(np.ceil(share[others].min() * number[n]))
                missing[n] = min(missing[n], max(compared.missing[n] - usual, 0))
    return ComparedPictures(pairs, missing, compared.there)


@dataclass(frozen=True)
class _Picture:
    """A small ``grey`` (h, w) photo seen through ``intrinsics`` of the original pixels, of which
    one is ``scale`` (2,) of its own; its textured blocks of P pixels: their ``cell`` (B,) of the
    grid, where they are ``at`` (B, P, 2), ``pixels`` (B, P) of mean 0 and standard deviation 1, and
    ``rays`` (B, 3, 3): that of the block's middle, of the pixel to its right, of that below it.
    """

    grey: Array
    intrinsics: Array
    lens: Lens
    scale: Array
    cell: Index
    at: Array
    pixels: Array
    rays: Array

    @staticmethod
    def of(photo: Photo, intrinsics: Array, lens: Lens) -> _Picture:
        """Load a photo and cut it into blocks."""
        small = load_photo(photo, long_side=_LONG_SIDE)
        grey = cv2.GaussianBlur(small.pixels.astype(np.float32).mean(axis=2), (0, 0), 0.7)
        height, width = grey.shape
        scale = np.array([small.scale_x, small.scale_y])
        middle = np.stack(
            np.meshgrid(*(np.arange(_HALF, side - _HALF, _STEP) for side in (width, height))),
            axis=-1,
        ).reshape(-1, 2)
        column, row = np.moveaxis(middle[:, None] + _AROUND.astype(np.int64), -1, 0)
        pixels = grey[row, column]
        kept = pixels.std(axis=1) > _TEXTURE
        if small.usable is not None:
            kept &= small.usable[row, column].all(axis=1)
        corners = middle[kept][:, None] + np.array([[0, 0], [1, 0], [0, 1]])
        xy = ((corners + 0.5) / scale).reshape(-1, 2)
        rays = pixel_rays(xy, intrinsics, lens).reshape(-1, 3, 3)
        cell = (middle[kept] * _GRID / [width, height]).astype(np.int64) @ [1, _GRID[0]]
        at = middle[kept][:, None] + _AROUND
        return _Picture(grey, intrinsics, lens, scale, cell, at, _normalised(pixels[kept]), rays)

    def shown(self, points: Array) -> Array:
        """Return where points (..., 3) of its camera are in the small picture, (..., 2)."""
        flat = project(points.reshape(-1, 3), self.intrinsics, self.lens)
        return np.asarray((flat * self.scale).reshape(*points.shape[:-1], 2))

    def blocks_at(self, xy: Array) -> Array:
        """Return the picture's blocks (B, P) at columns and rows (B, P, 2), normalised."""
        x, y = np.ascontiguousarray(np.moveaxis(xy, -1, 0), np.float32)
        found = cv2.remap(self.grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return _normalised(found)


def _normalised(pixels: NDArray[Any]) -> Array:
    """Return blocks (B, P) with mean 0 and standard deviation 1, less where there is but noise."""
    pixels = pixels - pixels.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.square(pixels).mean(axis=1, keepdims=True) + _NOISE**2)
    return np.asarray(pixels / spread)


def _missing_and_there(
    here: _Picture, there: _Picture, motion: Array, depths: Array, share: float
) -> tuple[int, int]:
    """Return in how many cells what ``here`` shows is missing ``there``, and is found: ``motion``
    (4, 4) takes the one camera to the other, depth is in the range ``depths`` (2,). A cell is
    missing of which more than a ``share`` of the blocks is.
    """
    every = np.ones(len(here.cell), bool)
    best = _searched(here, every, there, motion, depths, _EXACT)
    absent = best < _ABSENT
    if absent.any():
        best = np.fmax(best, _searched(here, absent, there, motion, depths, _SLACK))
        # What moves with the camera, or stands still while a turntable moves, says nothing.
        best[(best < _ABSENT) & _still(here, there)] = np.nan
    count, counted = int(_GRID.prod()), np.isfinite(best)
    blocks = np.bincount(here.cell[counted], minlength=count)
    absent_blocks = np.bincount(here.cell[counted & (best < _ABSENT)], minlength=count)
    says = blocks >= _BLOCKS
    missing = int((says & (absent_blocks > share * blocks)).sum())
    return missing, int(says.sum()) - missing


def _searched(
    here: _Picture,
    blocks: Mask,
    there: _Picture,
    motion: Array,
    depths: Array,
    slack: NDArray[np.floating],
) -> Array:
    """Return the best correlation (B,) of those ``blocks`` (B,) that must be ``there``, or the
    first that is enough, NaN of all others; they may be off by any of the ``slack`` (S, 2) in
    pixels.
    """
    result = np.full(len(blocks), np.nan)
    turned, shift = here.rays @ motion[:3, :3].T, motion[:3, 3]
    size = np.array(there.grey.shape[::-1])
    ends, inside = [], blocks.copy()
    for depth in depths:
        points = turned[:, 0] + shift / depth
        ends.append(there.shown(points))
        inside &= points[:, 2] > 0
        inside &= ((ends[-1] > _HALF + 1) & (ends[-1] < size - _HALF - 1)).all(axis=1)
    length = np.linalg.norm(ends[0] - ends[1], axis=1)
    chosen = inside & (length < _FAR_PX)
    if not chosen.any():
        return result
    turned, pixels = turned[chosen], here.pixels[chosen]
    best, left = np.full(len(turned), -1.0), np.arange(len(turned))
    nearest, farthest = 1 / depths
    for inverse in np.linspace(nearest, farthest, int(length[chosen].max() / _LINE_PX) + 2):
        corners = there.shown(turned[left] + shift * inverse).astype(np.float32)
        # A block is small: it is as good as moved by an affine map.
        middle, right, down = np.moveaxis(corners, 1, 0)[..., None, :]
        xy = middle + (right - middle) * _AROUND[:, :1] + (down - middle) * _AROUND[:, 1:] - 0.5
        for off in slack:
            found = (pixels[left] * there.blocks_at(xy + off)).mean(axis=1)
            best[left] = np.maximum(best[left], found)
        left = left[best[left] < _ABSENT]
        if not len(left):
            break
    result[chosen] = best
    return result


def _still(here: _Picture, there: _Picture) -> Mask:
    """Return which blocks (B,) are at the same pixels of the other picture."""
    if here.grey.shape != there.grey.shape:
        return np.zeros(len(here.cell), bool)
    return np.asarray((here.pixels * there.blocks_at(here.at)).mean(axis=1) > _SURE)


def _pose(alignment: Alignment, photo: int) -> Array:
    pose = alignment.cam_to_world[photo]
    assert pose is not None
    return pose


def _depth_ranges(alignment: Alignment) -> Array:
    """Return how near and far what a photo shows may be (N, 2); NaN where no points tell."""
    tracks = alignment.tracks
    ranges = np.full((len(alignment.cam_to_world), 2), np.nan)
    for k, pose in enumerate(alignment.cam_to_world):
        seen = tracks.points[tracks.point_index[tracks.seen_by(k)]]
        if pose is not None and len(seen) >= _SHARED:
            depth = (seen - pose[:3, 3]) @ pose[:3, 2]
            if (depth > 0).any():
                near, far = np.percentile(depth[depth > 0], _DEPTHS)
                ranges[k] = near * _BEFORE, far * _BEYOND
    return ranges


def _pairs(photos: Sequence[Photo], alignment: Alignment, depths: Array) -> Index:
    """Return the pairs (E, 2) to compare."""
    sees = alignment.sees
    shared = sparse.coo_array(sparse.triu(sees @ sees.T, 1))
    enough = shared.data >= _SHARED
    pairs, common = np.stack(shared.coords, axis=1)[enough], shared.data[enough]
    poses, _ = stacked_poses(alignment.cam_to_world)
    i, j = pairs.T
    apart = np.linalg.norm(poses[i, :3, 3] - poses[j, :3, 3], axis=1)
    focal = np.array(
        [K[0, 0] * _LONG_SIDE / max(p.width, p.height)
         for K, p in zip(alignment.intrinsics, photos, strict=True)]
    )  # fmt: skip
    parallax = focal * (1 / depths[:, 0] - 1 / depths[:, 1])
    near = apart * np.fmin(parallax[i], parallax[j]) < _FAR_PX
    near &= (poses[i, :3, 2] * poses[j, :3, 2]).sum(axis=1) > _TURNED
    pairs, common = pairs[near], common[near]
    expected = np.array(
        [_in_picture(photos, alignment, i, j) + _in_picture(photos, alignment, j, i)
         for i, j in pairs.tolist()]
    )  # fmt: skip
    chosen = np.zeros(len(pairs), bool)
    taken = np.zeros(len(photos), np.int64)
    for n in np.argsort(2 * common / np.maximum(expected, 1), kind="stable"):
        if (taken[pairs[n]] < _PARTNERS).any():
            chosen[n] = True
            taken[pairs[n]] += 1
    return np.asarray(pairs[chosen], np.int64)


def _in_picture(photos: Sequence[Photo], alignment: Alignment, i: int, j: int) -> int:
    """Return how many of the points that photo ``i`` sees lie in the picture of photo ``j``."""
    tracks, pose = alignment.tracks, _pose(alignment, j)
    seen = tracks.points[tracks.point_index[tracks.seen_by(i)]]
    in_camera = (seen - pose[:3, 3]) @ pose[:3, :3]
    xy = project(in_camera, alignment.intrinsics[j], alignment.lenses[j])
    size = [photos[j].width, photos[j].height]
    inside: Mask = (in_camera[:, 2] > 0) & ((xy > 0) & (xy < size)).all(axis=1)
    return int(inside.sum())
