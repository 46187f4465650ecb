"""What passes by: pixels that show something else than other photos measured there.

Who walks through a scene stands elsewhere in each photo. Depth is inferred there, mostly that of
what stands behind, on which the walker's colours would stay. Other photos know what is to be seen:
what they measured is looked at from the photo's place. Where the nearest surface that two of them
agree on has one colour in most of them, and the photo has another at that depth or behind it, the
pixel shows something that passed (outliers among the colours of a surface: Waechter, Moehrle and
Goesele, ECCV 2014, section 3.2). From there a thing goes on in what differs less, as clothes do
that have a wall's colour, and in what nobody else measured. The surface stays, as others measured
it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import invert_rigid, project
from recon.fusion.exposure import well_exposed
from recon.fusion.frames import UsableDepth, unpacked
from recon.scene import Maps
from recon.work.threads import in_threads
from recon.work.visiting_order import visiting_order

# Photos are compared at about this size: what passes is a region, not a pixel.
_LONG_SIDE = 160
# Photos whose depths, seen from here, differ relatively by less see one surface; so many of them
# must agree on its depth and on its colour, more where the photo itself has depth behind it.
_SAME_DEPTH, _AGREEING, _BEHIND = 0.05, 2, 3
# Colours are one up to so many levels of 255, and so many times what they typically differ by.
_LEVELS, _TYPICAL = 30.0, 4.0
# Places by which exposures are compared, and a share of those compared that can't pass: there
# the photo was taken in another light.
_FEWEST, _MOST = 50, 0.5
# Fewer pixels that surely differ are noise.
_SMALLEST = 10
# A thing goes on in what differs by this share of what differs surely, if it has so many sure
# pixels, so large a share of them, and covers so large a share of the picture.
_HARDLY, _SEED, _SEED_SHARE, _LARGE = 0.4, 40, 0.1, 0.006
# Gaps that it may have, and how far it goes on where nobody else looks, in roots of its area.
_GAP, _REACH = 0.35, 2.0
# Photos that are kept in memory, 0.5 MB each; those that need the same come close together.
_KEPT = 64


def without_passing_things(
    depths: Sequence[UsableDepth],
    unsure: Sequence[NDArray[np.uint8]],
    others: Sequence[Sequence[int]],
) -> list[UsableDepth]:
    """Return the depths without what passes by, of views whose pixels are not usable there.

    ``unsure``: packed bits of the pixels of each whose confidence is low, which say nothing against
    what was measured surely; ``others``: numbers of each one's witnesses.
    """

    @functools.lru_cache(_KEPT)
    def small(number: int) -> _Small:
        return _Small.of(depths[number], unsure[number])

    def passing(number: int, *, surely: bool) -> NDArray[np.bool_]:
        own = small(number)
        seen = [small(other).seen_from(own, surely=surely) for other in others[number]]
        depth, colours = (np.stack(part) for part in zip(*seen, strict=True))
        region = _another_thing(own, depth, colours)
        return _enlarged(region, own.step, depths[number].rounded.shape)

    def still(number: int) -> UsableDepth:
        depth = depths[number]
        if len(others[number]) < _AGREEING or not depth.rounded.any():
            return depth
        inferred = unpacked(unsure[number], depth.rounded.shape)
        passes = passing(number, surely=True)
        if inferred.any():
            passes |= inferred & passing(number, surely=False)
        if not passes.any():
            return depth
        maps = StandingMaps(depth.view.maps, np.packbits(passes), passes.shape)
        kept = replace(depth, padded=depth.padded.copy(), view=replace(depth.view, maps=maps))
        kept.rounded[passes] = 0
        return kept

    order = visiting_order(others)
    found = dict(zip(order, in_threads(still, order), strict=True))
    return [found[number] for number in range(len(depths))]


@dataclass(frozen=True)
class StandingMaps:
    """The ``maps`` of a view with what passes by not usable: packed bits of a ``shape``."""

    maps: Maps
    passing: NDArray[np.uint8]
    shape: tuple[int, ...]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The photo, as it is."""
        return self.maps.pixels

    @property
    def depth(self) -> NDArray[np.float32]:
        """As measured."""
        return self.maps.depth

    @property
    def confidence(self) -> NDArray[np.float32]:
        """As measured."""
        return self.maps.confidence

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which pixels (h, w) are usable, and show what stands."""
        stands = ~unpacked(self.passing, self.shape)
        usable = self.maps.usable
        return stands if usable is None else stands & usable


@dataclass(frozen=True)
class _Small:
    """A photo made ``step`` times smaller: ``colours`` (h, w, 3), the ``points`` (3, h, w) that it
    measured, in the camera's frame, of z = 0 where none, and where (h, w) it is ``sure`` of them.
    """

    usable: UsableDepth
    step: int
    colours: NDArray[np.float32]
    points: NDArray[np.float32]
    sure: NDArray[np.bool_]

    @staticmethod
    def of(usable: UsableDepth, unsure: NDArray[np.uint8]) -> _Small:
        """Return the photo of a depth; it may be read."""
        import cv2

        height, width = usable.rounded.shape
        step = max(1, -(-max(height, width) // _LONG_SIDE))
        rows, columns = max(1, height // step), max(1, width // step)
        every = np.zeros((height, width), bool)
        middles = np.s_[step // 2 : rows * step : step, step // 2 : columns * step : step]
        every[middles] = True
        pixels = usable.view.pixels[: rows * step, : columns * step]
        shrunk = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
        # Places in it are rounded to whole pixels.
        colours = np.asarray(cv2.blur(shrunk.astype(np.float32), (3, 3)), np.float32)
        points = usable.points(every).reshape(3, rows, columns)
        sure = (points[2] > 0) & ~unpacked(unsure, (height, width))[middles]
        return _Small(usable, step, colours, points, sure)

    def seen_from(
        self, own: _Small, *, surely: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return depth (h, w), infinite where nothing is, and colours (h, w, 3), as ``own`` would
        see what this photo measured (``surely``), its exposure levelled to that one's.
        """
        measured = self.sure if surely else self.points[2] > 0
        move = (invert_rigid(own.usable.cam_to_world) @ self.usable.cam_to_world).astype(np.float32)
        points = self.points[:, measured].T @ move[:3, :3].T + move[:3, 3]
        xy = project(points, own.usable.intrinsics, own.usable.lens) / own.step
        height, width = own.points.shape[1:]
        inside = (points[:, 2] > 0) & ((xy >= 0) & (xy < [width, height])).all(axis=1)
        z = points[inside, 2]
        column, row = xy[inside].astype(np.int64).T
        # Of several in one pixel the nearest, which is written last.
        order = np.argsort(-z, kind="stable")
        column, row = column[order], row[order]
        depth = np.full((height, width), np.inf, np.float32)
        depth[row, column] = z[order]
        colours = np.zeros((height, width, 3), np.float32)
        colours[row, column] = self.colours[measured][inside][order]
        return depth, _levelled(colours, own.colours, np.isfinite(depth))


def _levelled(
    colours: NDArray[np.float32], like: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return colours (h, w, 3) in the exposure of others, by those that are ``known`` (h, w)."""
    known = known & well_exposed(colours) & well_exposed(like)
    if known.sum() < _FEWEST:
        return colours
    gain = np.median(like[known] / colours[known], axis=0)
    return np.minimum(colours * gain, 255)


def _another_thing(
    own: _Small, depth: NDArray[np.float32], colours: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return where (h, w) a small photo shows another thing than the surface that most of the
    others (K, h, w) have there, and has nothing in front of it.
    """
    import cv2

    surface = _agreed(depth)
    reached = np.where(np.isfinite(surface), surface, 0)
    seen = np.abs(depth - reached) < _SAME_DEPTH * reached
    count = seen.sum(axis=0)
    known = count >= _AGREEING
    if known.sum() < _FEWEST:
        return np.zeros(known.shape, bool)
    # Where one photo alone has a surface, its colours; they don't tell which of the two is passed.
    shown = np.take_along_axis(colours, depth.argmin(axis=0)[None, ..., None], axis=0)[0]
    shown[known] = _medians(colours[:, known], seen[:, known])
    limit = max(_LEVELS, _TYPICAL * float(np.median(_off(own.colours, shown, shown)[known])))
    unknown = np.asarray(~np.isfinite(depth).any(axis=0))
    differs = _off(own.colours, *_around(shown, ~unknown))
    alike = (seen & (np.abs(colours - shown).max(axis=-1) < limit)).sum(axis=0)
    # What stands in front of the surface hides it; if others look past it, they say so elsewhere.
    front = known & (own.points[2] > 0) & (own.points[2] < surface * (1 - _SAME_DEPTH))
    # Depth behind the surface speaks against it.
    behind = own.points[2] > surface * (1 + _SAME_DEPTH)
    needed = np.where(behind, _BEHIND, _AGREEING)
    other = known & (differs > limit) & (alike >= needed) & (2 * alike > count) & ~front
    if other.sum() > _MOST * known.sum():
        return np.zeros(known.shape, bool)
    square = np.ones((3, 3), np.uint8)
    closed = cv2.morphologyEx(other.astype(np.uint8), cv2.MORPH_CLOSE, square)
    surely = cv2.morphologyEx(closed, cv2.MORPH_OPEN, square) > 0
    maybe = ~unknown & (differs > _HARDLY * limit) & ~front
    things = _whole_things(own.colours, surely, maybe, unknown)
    # Its rim mixes both.
    region = (cv2.dilate(things.astype(np.uint8), square) > 0) & ~front
    # What is all around in front is itself, matched in two photos between which it moved little.
    return region | _enclosed(region)


def _enclosed(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the holes (h, w) of a region."""
    import cv2

    _, number = cv2.connectedComponents((~region).astype(np.uint8), connectivity=4)
    rim = np.concatenate([number[0], number[-1], number[:, 0], number[:, -1]])
    return ~region & ~np.isin(number, rim)


def _whole_things(
    colours: NDArray[np.float32],
    surely: NDArray[np.bool_],
    maybe: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return the things that pass (h, w), of which parts do so ``surely``.

    Clothes have colours of walls, too: a large thing goes on in what is connected to its sure parts
    and ``maybe`` passes (thresholds with hysteresis: Canny, PAMI 1986), in the gaps of that, and
    where it is ``unknown`` what stands, up to where the ``colours`` (h, w, 3) change as they do
    towards what stands (watersheds: Meyer, 1992).
    """
    import cv2

    square = np.ones((5, 5), np.uint8)
    either = cv2.morphologyEx((surely | maybe).astype(np.uint8), cv2.MORPH_CLOSE, square)
    count, number = cv2.connectedComponents(either, connectivity=4)
    size = np.bincount(number.ravel(), minlength=count)
    sure = np.bincount(number[surely], minlength=count)
    large = (sure >= _SEED) & (sure > _SEED_SHARE * size) & (size >= _LARGE * number.size)
    large[0] = False
    region = surely & (sure >= _SMALLEST)[number]
    if not large.any():
        return region
    side = float(np.sqrt(size[large].max()))
    width = 2 * round(_GAP * side / 2) + 1
    gap = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    things = cv2.morphologyEx(large[number].astype(np.uint8), cv2.MORPH_CLOSE, gap) > 0
    marks = np.where(things, 1, np.where(unknown, 0, 2)).astype(np.int32)
    flooded = cv2.watershed(colours.round().astype(np.uint8), marks)
    near = cv2.distanceTransform((~things).astype(np.uint8), cv2.DIST_L2, 3) < _REACH * side
    return region | things | (unknown & (flooded == 1) & near)


def _off(
    colours: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return by how many levels (h, w) colours (h, w, 3) are below ``low`` or above ``high``."""
    return np.asarray(np.maximum(low - colours, colours - high).clip(0).max(axis=-1), np.float32)


def _around(
    colours: NDArray[np.float32], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and highest levels (h, w, 3) of known ``colours`` in 3 x 3 pixels.

    Beside an outline a place that is a pixel off has the other surface's colours, or a mixture of
    both: what history is held against where pictures are averaged over time (Karis, "High-quality
    temporal supersampling", SIGGRAPH courses 2014).
    """
    import cv2

    square = np.ones((3, 3), np.uint8)
    low = cv2.erode(np.where(known[..., None], colours, np.inf).astype(np.float32), square)
    high = cv2.dilate(np.where(known[..., None], colours, -np.inf).astype(np.float32), square)
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def _medians(colours: NDArray[np.float32], counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return medians (P, 3) of those of the colours (K, P, 3) that are ``counted`` (K, P), one or
    more at each place. NumPy's own for missing values takes four times as long.
    """
    ordered = np.sort(np.where(counted[..., None], colours, np.inf), axis=0)
    count, place = counted.sum(axis=0), np.arange(counted.shape[1])
    low, high = (ordered[n, place] for n in ((count - 1) // 2, count // 2))
    return np.asarray((low + high) / 2, np.float32)


def _agreed(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the nearest depth (h, w) that enough of the others (K, h, w) agree on, or infinity."""
    ordered = np.sort(depth, axis=0)
    surface = np.full(depth.shape[1:], np.inf, np.float32)
    for near, far in zip(ordered, ordered[_AGREEING - 1 :], strict=False):
        with np.errstate(invalid="ignore"):
            agree = ~np.isfinite(surface) & (far - near < _SAME_DEPTH * near)
        surface[agree] = 0.5 * (near + far)[agree]
    return surface


def _enlarged(region: NDArray[np.bool_], step: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a region of a photo made ``step`` times smaller in the one of a ``shape``."""
    whole = np.zeros(shape, bool)
    enlarged = region.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]
    whole[: enlarged.shape[0], : enlarged.shape[1]] = enlarged
    return whole
