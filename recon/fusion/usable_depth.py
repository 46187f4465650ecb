"""Which depth takes part in fusion: sure enough, away from edges, in patches rather than specks.

Of every photo only its usable depth stays in memory, at half precision; the rest is read from the
view again where it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.camera import (
    Array,
    invert_rigid,
    pinhole_grid,
    pixel_centres,
    pixel_rays,
    transform_points,
)
from pointmap.lens import PINHOLE, Lens
from recon.depth.derived_maps import on_edge
from recon.depth.undistorted import opencv_maps, resampled
from recon.fusion.continued_planes import continued
from recon.fusion.options import FusionOptions
from recon.fusion.sky import SkyVotes, above_horizon, ray_directions, sky_mask
from recon.scene import View
from recon.stage_results import DepthMap
from recon.work.threads import in_threads

# The largest half-precision number, nearly: depth so many times the median is as good as infinite.
_LARGEST_HALF = 6e4
# Points of a photo, about, by which its witnesses are found; of how many times more candidates than
# witnesses; and the width of the cells in which candidates share points, in median depths.
_PROBES, _CANDIDATES, _CELL = 200, 3, 0.2
# Edge, in voxels, of the cells by which the area of a surface is estimated.
_AREA_CELL = 8
# Cells of new photos are collected up to this number before they are merged with the rest.
_CELLS_WAITING = 2**18
# Pixels of a photo, about, from which a quantile of confidence is taken.
_SAMPLED = 20_000
# Confidence beyond doubt: stereo confirms a third to two thirds of a hazy sky, but only 3 % of it
# with so much; of walls and ground, two thirds and more.
_FIRM = 0.65
# Every so many-th pixel, across and down, votes for a sky.
_VOTING_STEP = 4


@dataclass(frozen=True)
class Frame:
    """One usable depth map: ``depth`` (h, w) float32, 0 where masked; its ``confidence``."""

    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    intrinsics: Array
    cam_to_world: Array
    lens: Lens = PINHOLE


@dataclass(frozen=True)
class UsableDepth:
    """What stays in memory of a ``view``: its usable depth, 2 bytes a pixel, and its camera.

    ``padded`` (h + 2, w + 2) float16 times ``unit`` is depth to 0.05 %, 0 where masked and in a rim
    of one pixel around the photo. ``moved``: packed bits of the pixels where it is another than the
    view's, None for none.
    """

    view: View
    padded: NDArray[np.float16]
    unit: float
    intrinsics: Array
    cam_to_world: Array
    lens: Lens
    moved: NDArray[np.uint8] | None = None

    @property
    def rounded(self) -> NDArray[np.float16]:
        """Depth (h, w) over ``unit``."""
        return self.padded[1:-1, 1:-1]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where depth (h, w) is usable."""
        return self.rounded > 0

    @property
    def depth(self) -> NDArray[np.float32]:
        """Depth (h, w), rounded, 0 where masked."""
        return self.rounded.astype(np.float32) * np.float32(self.unit)

    def rays(self, where: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return rays (3, P) with z = 1 through the pixels ``where`` (h, w)."""
        height, width = self.rounded.shape
        return _rays(width, height, self.intrinsics.tobytes(), self.lens)[:, where]

    def points(self, where: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the points (3, P) in the camera's frame of the pixels ``where`` (h, w)."""
        depth = self.rounded[where].astype(np.float32) * np.float32(self.unit)
        return self.rays(where) * depth

    def world_points(self) -> NDArray[np.float32]:
        """Return all points (3, P) in the world's frame."""
        rotation, centre = np.hsplit(self.cam_to_world[:3].astype(np.float32), [3])
        return rotation @ self.points(self.known) + centre

    def frame(self) -> Frame:
        """Return the depth as it was measured, or moved, with its confidence and its colours."""
        depth = np.where(self.known, self.view.depth, 0).astype(np.float32)
        if self.moved is not None:
            moved = _unpacked(self.moved, depth.shape)
            depth[moved] = self.depth[moved]
        return Frame(
            depth,
            self.view.confidence.astype(np.float32),
            self.view.pixels,
            self.intrinsics,
            self.cam_to_world,
            self.lens,
        )


@dataclass(frozen=True)
class _Masked:
    """A view's depth before others are asked, with ``unsure``, packed bits of the pixels whose
    confidence is low, and the numbers of pixels that were measured, and measured surely.
    """

    usable: UsableDepth
    unsure: NDArray[np.uint8]
    measured: int
    sure: int


def usable_depths(
    views: Sequence[View], options: FusionOptions, *, up: Sequence[float] | None = None
) -> list[UsableDepth]:
    """Return the registered views that keep any depth once sky, unsure pixels and edges are masked.

    Of a complete surface less sure depth stays, however unsure, where more photos found the same
    than look past it: a plain wall, which matching cannot confirm but on which what was inferred
    for several photos meets. Planes that go on take the place of the rest. Where less than a
    twentieth of all depth is sure enough (one photo, or depth that was never compared between
    photos) the surest nine tenths are taken instead of next to nothing. ``up`` (3,): where up is in
    the world, if that is known.
    """
    placed = [view for view in views if view.registered]
    masked = _masked(placed, options.min_confidence, options, up)
    if sum(m.sure for m in masked) <= 0.05 * sum(m.measured for m in masked):
        masked = _masked(placed, _surest_nine_tenths(placed, options.min_confidence), options, up)
    others = witnesses([m.usable for m in masked])
    supported = list(in_threads(lambda pair: _supported(*pair), zip(masked, others, strict=True)))
    return [usable for usable in supported if usable.rounded.any()]


def _masked(
    placed: Sequence[View], sure: float, options: FusionOptions, up: Sequence[float] | None
) -> list[_Masked]:
    least = 0.0 if options.surface == "complete" else sure
    finder = None if len(placed) == 1 or options.sky == "keep" else _SkyFinder(placed, sure, up)
    jump = options.max_depth_jump
    return list(in_threads(lambda view: _mask(view, sure, least, jump, finder), placed))


class _SkyFinder:
    """Finds the sky in views, by what is confirmed with confidence ``sure`` and, where ``up`` is
    known, by the horizon and by what other photos see in the same directions.
    """

    def __init__(self, placed: Sequence[View], sure: float, up: Sequence[float] | None) -> None:
        self._sure, self._up = sure, up
        self._votes: SkyVotes | None = None
        if up is None:
            return
        # Photos that are sure of a sky by themselves vote.
        votes = SkyVotes()
        every = np.s_[..., ::_VOTING_STEP, ::_VOTING_STEP]
        for view, sky in zip(placed, in_threads(self.sky, placed), strict=True):
            votes.add(self._directions(view)[every], sky[every])
        self._votes = votes

    def sky(self, view: View) -> NDArray[np.bool_]:
        """Return which pixels (h, w) of a view show sky."""
        depth, confidence = view.depth, view.confidence
        measured = _measured(depth, confidence)
        confirmed, firmly = (measured & (confidence >= c) for c in (self._sure, _FIRM))
        risen = votes = None
        if self._up is not None:
            directions = self._directions(view)
            risen = above_horizon(self._up, directions)
            votes = None if self._votes is None else self._votes.share(directions)
        return sky_mask(view.pixels, confirmed, view.usable, risen, votes, firmly=firmly)

    def _directions(self, view: View) -> NDArray[np.float32]:
        assert view.camera.cam_to_world is not None
        height, width = view.depth.shape
        K = view.camera.intrinsics_at(width, height)
        rays = _rays(width, height, K.tobytes(), view.camera.lens)
        return ray_directions(view.camera.cam_to_world, rays)


def _mask(
    view: View, sure: float, least: float, max_jump: float, finder: _SkyFinder | None
) -> _Masked:
    """Return the view's depth without guesses and edges, and without the sky that is found."""
    assert view.camera.cam_to_world is not None
    # Each of them may be read from a file.
    depth, confidence = view.depth, view.confidence
    measured = _measured(depth, confidence)
    confirmed = measured & (confidence >= sure)
    known = measured & (confidence >= least)
    if finder is not None and known.any():
        known &= ~finder.sky(view)
    sure_known = known & confirmed

    def whole(where: NDArray[np.bool_]) -> NDArray[np.float32]:
        part = np.where(where, depth, 0).astype(np.float32)
        return _without_edges(part, max_jump) if where.any() else part

    # What was inferred beside it takes nothing from what was measured.
    depth = np.where(sure_known, whole(sure_known), whole(known))
    some = depth[depth > 0]
    unit = float(np.median(some)) if len(some) else 1.0
    usable = UsableDepth(
        view,
        np.pad(np.minimum(depth / unit, _LARGEST_HALF).astype(np.float16), 1),
        unit,
        view.camera.intrinsics_at(*depth.shape[::-1]),
        view.camera.cam_to_world,
        view.camera.lens,
    )
    return _Masked(
        usable,
        np.packbits(usable.known & (confidence < sure)),
        int(measured.sum()),
        int(confirmed.sum()),
    )


def _supported(masked: _Masked, others: Sequence[UsableDepth]) -> UsableDepth:
    """Return the depth without that of low confidence that the others don't support; planes that go
    on there take its place.
    """
    usable = masked.usable
    shape = usable.rounded.shape
    unsure = _unpacked(masked.unsure, shape)
    if not unsure.any():
        return usable
    supported = np.zeros(shape, bool)
    supported[unsure] = count_votes(others, usable, usable.points(unsure)) > 0
    planes = continued(
        usable.depth,
        usable.view.confidence,
        usable.view.pixels,
        unsure,
        supported,
        lambda where, depth: count_votes(others, usable, usable.rays(where) * depth) < 0,
    )
    moved = planes > 0
    kept = replace(usable, padded=usable.padded.copy(), moved=np.packbits(moved))
    kept.rounded[unsure & ~supported] = 0
    kept.rounded[moved] = (planes[moved] / usable.unit).astype(np.float16)
    kept.rounded[_speckle(kept.known)] = 0
    return kept


def _unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


def witnesses(depths: Sequence[UsableDepth], count: int = 12) -> list[list[UsableDepth]]:
    """Return for each photo the others, at most ``count``, that look at most of what it measured.

    Of many photos those are compared that measured something in the same cells of space, so that
    the work grows with their number and not with its square.
    """
    if len(depths) <= count + 1:
        return [[other for other in depths if other is not depth] for depth in depths]
    probes = [_probes(depth) for depth in depths]
    candidates = _sharing_cells(depths, probes, _CANDIDATES * count)
    chosen = []
    for number, (depth, points) in enumerate(zip(depths, probes, strict=True)):
        seen = {k: int((_look_up(depths[k], depth, points) > 0).sum()) for k in candidates[number]}
        # Of equals the nearest in the order in which the photos were given.
        order = sorted(seen, key=lambda k: (-seen[k], abs(k - number)))
        chosen.append([depths[k] for k in order[:count] if seen[k] > 0])
    return chosen


def _probes(depth: UsableDepth) -> NDArray[np.float32]:
    """Return some of a photo's points (3, P) in its frame, evenly chosen."""
    number = np.flatnonzero(depth.known)
    where = np.zeros(depth.rounded.size, bool)
    where[number[:: max(1, len(number) // _PROBES)]] = True
    return depth.points(where.reshape(depth.rounded.shape))


def _sharing_cells(
    depths: Sequence[UsableDepth], probes: Sequence[NDArray[np.float32]], count: int
) -> list[list[int]]:
    """Return for each photo up to ``count`` others, those with most probes in the same cells."""
    from scipy.sparse import csr_matrix

    width = _CELL * float(np.median([depth.unit for depth in depths]))
    cells = [
        np.floor(transform_points(depth.cam_to_world, points.T) / width)
        for depth, points in zip(depths, probes, strict=True)
    ]
    _, cell = np.unique(np.concatenate(cells), axis=0, return_inverse=True)
    photo = np.repeat(np.arange(len(depths)), [len(c) for c in cells])
    held = csr_matrix((np.ones(len(cell), np.float32), (photo, cell.ravel())))
    # A photo with many probes in one cell says no more of it than one with a few.
    held.data = np.sqrt(held.data)
    shared = (held @ held.T).tolil()
    chosen = []
    for number in range(len(depths)):
        found = np.array(shared.rows[number], np.int64)
        common = np.array(shared.data[number])[found != number]
        found = found[found != number]
        order = np.lexsort((np.abs(found - number), -common))
        chosen.append(found[order[:count]].tolist())
    return chosen


def count_votes(
    others: Sequence[UsableDepth],
    own: UsableDepth,
    points: NDArray[np.float32],
    margin: float = 0.03,
) -> NDArray[np.int8]:
    """Return how many more of the others measured points (3, P) of ``own`` too than look past them.

    ``margin``: relative difference of depth up to which both are one surface, as wide as the step
    that counts as an edge (``FusionOptions.max_depth_jump``).
    """
    total = torch.zeros(points.shape[1], dtype=torch.int8)
    for other in others:
        ratio = _look_up(other, own, points)
        total += (ratio > 1 - margin).to(torch.int8)
        total -= (ratio > 1 + margin).to(torch.int8).mul_(2)
    return total.numpy()


def as_pinhole(frame: Frame, max_depth_jump: float) -> Frame:
    """Return the frame as a pinhole would have taken it: itself when there is no distortion."""
    import cv2

    if not frame.lens:
        return frame
    height, width = frame.depth.shape
    intrinsics, xy = pinhole_grid(width, height, frame.intrinsics, frame.lens)
    place = resampled(DepthMap(frame.depth, frame.confidence), xy, max_depth_jump)
    return Frame(
        place.depth,
        place.confidence,
        cv2.remap(frame.pixels, *opencv_maps(xy), cv2.INTER_LINEAR).astype(np.uint8),
        intrinsics,
        frame.cam_to_world,
    )


def automatic_voxel_size(depths: Sequence[UsableDepth], options: FusionOptions) -> float:
    """Return 1.5 pixel footprints at the median depth, more where the mesh would grow too large.

    A surface of area S gives about 2 S / voxel^2 triangles; S is at most what all photos see, and
    at most about the faces of the cells of space that it passes through.
    """
    footprints, area = [], 0.0
    for depth in depths:
        z = depth.depth[depth.known]
        focal = np.sqrt(depth.intrinsics[0, 0] * depth.intrinsics[1, 1])
        footprints.append(np.median(z) / focal)
        area += float(np.square(z / focal, dtype=np.float64).sum())
    # Overlapping photos see the same surface again; half of what they see is a safe guess.
    area *= 0.5 if len(depths) > 2 else 1.0
    finest = 1.5 * float(np.median(footprints))
    if 2 * area > options.max_triangles * finest**2 and len(depths) > 2:
        edge = _AREA_CELL * finest
        area = min(area, len(touched_cells(depths, edge)) * edge**2)
    return max(finest, float(np.sqrt(2 * area / options.max_triangles)))


def touched_cells(depths: Sequence[UsableDepth], edge: float) -> Tensor:
    """Return the cells (C, 3) int32 of ``edge`` in which anything was measured."""

    def touched(depth: UsableDepth) -> Tensor:
        places = np.floor(depth.world_points().T / np.float32(edge)).astype(np.int32)
        return unique_rows(torch.from_numpy(places))

    found = torch.zeros(0, 3, dtype=torch.int32)
    waiting: list[Tensor] = []
    for cells in in_threads(touched, depths):
        waiting.append(cells)
        # Photos overlap: many of a few have no more cells than one of them.
        if sum(map(len, waiting)) > max(len(found), _CELLS_WAITING):
            found, waiting = unique_rows(torch.cat([found, *waiting])), []
    return unique_rows(torch.cat([found, *waiting]))


def unique_rows(rows: Tensor) -> Tensor:
    """Return the different rows (N, 3) int32; torch's own search by rows is many times slower."""
    if not len(rows):
        return rows
    low = rows.amin(0)
    span = (rows.amax(0) - low + 1).to(torch.int64)
    shifted = (rows - low).to(torch.int64)
    key = torch.unique((shifted[:, 0] * span[1] + shifted[:, 1]) * span[2] + shifted[:, 2])
    z, rest = key % span[2], key // span[2]
    return torch.stack([rest // span[1], rest % span[1], z], -1).to(torch.int32) + low


def _look_up(other: UsableDepth, own: UsableDepth, points: NDArray[np.float32]) -> Tensor:
    """Return the depth that the other measured at points (3, P) of ``own`` over that of the points,
    0 where unknown and outside its picture: (P,) float32.

    Torch's operations in place take a fifth of numpy's time here.
    """
    move = invert_rigid(other.cam_to_world) @ own.cam_to_world
    height, width = other.rounded.shape
    K = other.intrinsics
    matrix, offset = (
        torch.from_numpy(part.astype(np.float32)) for part in (K @ move[:3, :3], K @ move[:3, 3:])
    )
    u, v, z = torch.addmm(offset, matrix, torch.from_numpy(points))
    # What lies behind the camera ends up far outside the picture.
    inverse = z.clamp_min_(1e-12).reciprocal_()
    u.mul_(inverse)
    v.mul_(inverse)
    if other.lens:
        y = (v - K[1, 2]) / K[1, 1]
        x = (u - K[0, 2] - K[0, 1] * y) / K[0, 0]
        bent = other.lens.distort(torch.stack([x, y], -1).numpy())
        # Beyond its fold a lens shows nothing.
        x, y = torch.from_numpy(np.nan_to_num(bent.astype(np.float32), nan=1e6)).unbind(-1)
        u = K[0, 0] * x + K[0, 1] * y + K[0, 2]
        v = K[1, 1] * y + K[1, 2]
    column, row = u.add_(1).clamp_(0, width + 1).int(), v.add_(1).clamp_(0, height + 1).int()
    pixel = row.mul_(width + 2).add_(column)
    found = torch.from_numpy(other.padded).ravel().index_select(0, pixel)
    return found.float().mul_(inverse).mul_(other.unit)


@lru_cache(maxsize=4)
def _rays(width: int, height: int, intrinsics: bytes, lens: Lens) -> NDArray[np.float32]:
    """Return rays (3, h, w) with z = 1; photos of one camera share them."""
    K = np.frombuffer(intrinsics).reshape(3, 3)
    rays = pixel_rays(pixel_centres(width, height), K, lens)
    return np.ascontiguousarray(np.moveaxis(rays, -1, 0), np.float32)


def inside_box(points: NDArray[np.floating], box: Sequence[float] | None) -> NDArray[np.bool_]:
    """Return which points (P, 3) lie in ``box`` (x, y, z of its low corner, then of its high one);
    all without a box.
    """
    if box is None:
        return np.ones(len(points), bool)
    return np.all((points >= np.array(box[:3])) & (points <= np.array(box[3:])), axis=-1)


def _measured(depth: NDArray[np.float32], confidence: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.isfinite(depth) & (depth > 0) & (confidence > 0)


def _surest_nine_tenths(views: Sequence[View], wanted: float) -> float:
    """Return the confidence that nine tenths of all measured depth reach, ``wanted`` where none is.

    Of an even choice of every photo's pixels.
    """
    found = [np.zeros(0, np.float32)]
    for view in views:
        confidence = view.confidence
        confidence = confidence[_measured(view.depth, confidence)]
        found.append(confidence[:: max(1, len(confidence) // _SAMPLED)])
    sampled = np.concatenate(found)
    return float(np.quantile(sampled, 0.1)) if len(sampled) else wanted


def _without_edges(depth: NDArray[np.float32], max_jump: float) -> NDArray[np.float32]:
    """Return depth (h, w) with 0 at edges between surfaces and in specks.

    Depth that would lose more than half of itself is rough all over rather than at edges (a poor
    prior that nothing sharpened) and comes back as it is: rough geometry beats none.
    """
    masked = np.where(on_edge(depth, max_jump), 0, depth)
    masked[_speckle(masked > 0)] = 0
    return masked if (masked > 0).sum() > 0.5 * (depth > 0).sum() else depth


def _speckle(known: NDArray[np.bool_], share: float = 3e-4) -> NDArray[np.bool_]:
    """Return pixels (h, w) of connected patches smaller than ``share`` of the photo: by default
    below 60 pixels of 512 x 384.
    """
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(known.astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < share * known.size
    return known & small[labels]
