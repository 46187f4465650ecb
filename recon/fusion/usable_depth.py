"""Which depth takes part in fusion: sure enough, away from edges, in patches rather than specks.

Of every photo only its usable depth stays in memory, at half precision; the rest is read from the
view again where it is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointmap.masks import eroded
from recon.depth.derived_maps import on_edge
from recon.fusion.continued_planes import continued
from recon.fusion.doubtful_photos import only_by_themselves
from recon.fusion.frames import UsableDepth, rays_of, unpacked
from recon.fusion.options import FusionOptions
from recon.fusion.passing_things import StandingMaps, without_passing_things
from recon.fusion.sky import SkyVotes, above_horizon, ray_directions, sky_mask
from recon.fusion.witnesses import LOOKS_PAST, count_votes, witnesses
from recon.scene import View, cameras_and_maps
from recon.work.content_key import content_key
from recon.work.folder import Work
from recon.work.threads import in_threads

# Of kept_usable_depths, for results that were kept.
_VERSION = 5
# The largest half-precision number, nearly: depth so many times the median is as good as infinite.
_LARGEST_HALF = 6e4
# Pixels of a photo, about, from which a quantile of confidence is taken.
_SAMPLED = 20_000
# Confidence beyond doubt: stereo confirms a third to two thirds of a hazy sky, but only 3 % of it
# with so much; of walls and ground, two thirds and more.
_FIRM = 0.65
# Pixels of a sky's rim that may show something else.
_SKY_RIM = 3
# Every so many-th pixel, across and down, votes for a sky.
_VOTING_STEP = 4


@dataclass(frozen=True)
class _Masked:
    """A view's depth before others are asked, :data:`recon.fusion.witnesses.LOOKS_PAST` where there
    is sky, with ``unsure``, packed bits of the pixels whose confidence is low, and the numbers of
    pixels that were measured, and measured surely.
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
    for several photos meets. Planes that go on take the place of the rest. Pixels that show another
    thing than most photos measured there go (:mod:`recon.fusion.passing_things`). Where less than a
    twentieth of all depth is sure enough (one photo, or depth that was never compared between
    photos) the surest nine tenths are taken instead of next to nothing. ``up`` (3,): where up is in
    the world, if that is known.
    """
    placed = [view for view in views if view.registered]
    return [usable for usable in _usable(placed, options, up) if usable.rounded.any()]


def kept_usable_depths(
    views: Sequence[View],
    options: FusionOptions,
    *,
    up: Sequence[float] | None,
    work: Work,
    in_doubt: Collection[str] = (),
) -> list[UsableDepth]:
    """Return what :func:`usable_depths` does, from ``work`` if it is there, and keep it there.

    What photos ``in_doubt`` (names) show is left to the others, where these show it.
    """
    placed = [view for view in views if view.registered]
    how = options.surface, options.sky, options.min_confidence, options.max_depth_jump
    depends_on = cameras_and_maps(placed), how, up, sorted(in_doubt)
    name = content_key("usable depths", _VERSION, *depends_on)
    keys = [content_key("usable depth", _VERSION, name, n) for n in range(len(placed))]
    kept: Sequence[_Kept] | None = work.found(keys)
    if kept is not None:
        found = [k.of(view) for k, view in zip(kept, placed, strict=True)]
    else:
        found = _usable(placed, options, up, in_doubt)
        for key, usable in zip(keys, found, strict=True):
            work.put(key, _Kept.made_of(usable))
    return [usable for usable in found if usable.rounded.any()]


@dataclass(frozen=True)
class _Kept:
    """What of a :class:`UsableDepth` its view does not tell."""

    padded: NDArray[np.float16]
    unit: float
    moved: NDArray[np.uint8] | None
    passing: NDArray[np.uint8] | None

    @staticmethod
    def made_of(usable: UsableDepth) -> _Kept:
        """Return what is to be kept."""
        maps = usable.view.maps
        passing = maps.passing if isinstance(maps, StandingMaps) else None
        return _Kept(usable.padded, usable.unit, usable.moved, passing)

    def of(self, view: View) -> UsableDepth:
        """Return the usable depth of the view."""
        usable = _of_view(view, self.padded, self.unit, self.moved)
        if self.passing is None:
            return usable
        maps = StandingMaps(view.maps, self.passing, usable.rounded.shape)
        return replace(usable, view=replace(view, maps=maps))


def _of_view(
    view: View,
    padded: NDArray[np.float16],
    unit: float,
    moved: NDArray[np.uint8] | None = None,
) -> UsableDepth:
    camera, (height, width) = view.camera, padded.shape
    assert camera.cam_to_world is not None
    K = camera.intrinsics_at(width - 2, height - 2)
    return UsableDepth(view, padded, unit, K, camera.cam_to_world, camera.lens, moved)


def _usable(
    placed: Sequence[View],
    options: FusionOptions,
    up: Sequence[float] | None,
    in_doubt: Collection[str] = (),
) -> list[UsableDepth]:
    """Return the usable depth of every view, if there is none, too."""
    masked = _masked(placed, options.min_confidence, options, up)
    if sum(m.sure for m in masked) <= 0.05 * sum(m.measured for m in masked):
        masked = _masked(placed, _surest_nine_tenths(placed, options.min_confidence), options, up)
    others = [
        [other for other in those if other.view.name not in in_doubt]
        for those in witnesses([m.usable for m in masked])
    ]
    number = {id(m.usable): k for k, m in enumerate(masked)}
    numbers = [[number[id(other)] for other in those] for those in others]
    supported = list(in_threads(lambda pair: _supported(*pair), zip(masked, others, strict=True)))
    unsure = [m.unsure for m in masked]
    # As much again as what is kept of them.
    del masked, others
    standing = without_passing_things(supported, unsure, numbers)
    return only_by_themselves(standing, numbers, in_doubt)


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
        outdoors = False
        if self._up is not None:
            directions = self._directions(view)
            risen = above_horizon(self._up, directions)
            if self._votes is not None:
                votes, outdoors = self._votes.share(directions), self._votes.outdoors
        return sky_mask(
            view.pixels, confirmed, view.usable, risen, votes, firmly=firmly, outdoors=outdoors
        )

    def _directions(self, view: View) -> NDArray[np.float32]:
        assert view.camera.cam_to_world is not None
        height, width = view.depth.shape
        K = view.camera.intrinsics_at(width, height)
        rays = rays_of(width, height, K.tobytes(), view.camera.lens)
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
    sky = np.zeros(depth.shape, bool)
    if finder is not None and known.any():
        sky = finder.sky(view)
    known &= ~sky
    sure_known = known & confirmed

    def whole(where: NDArray[np.bool_]) -> NDArray[np.float32]:
        part = np.where(where, depth, 0).astype(np.float32)
        return _without_edges(part, max_jump) if where.any() else part

    # What was inferred beside it takes nothing from what was measured.
    depth = np.where(sure_known, whole(sure_known), whole(known))
    some = depth[depth > 0]
    unit = float(np.median(some)) if len(some) else 1.0
    rounded = np.minimum(depth / unit, _LARGEST_HALF).astype(np.float16)
    # At its rim what is seen may be a roof.
    rounded[eroded(sky, _SKY_RIM)] = LOOKS_PAST
    usable = _of_view(view, np.pad(rounded, 1), unit)
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
    usable = replace(masked.usable, padded=np.maximum(masked.usable.padded, 0))
    shape = usable.rounded.shape
    unsure = unpacked(masked.unsure, shape)
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
