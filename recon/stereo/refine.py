"""Photometric depth: plane sweep over photos whose cameras are solved, cross-checked between them.

Per photo, at half resolution: a full search among planes that face the camera, among surfaces
shaped like the prior and around level ground (normalised cross-correlation, best half of the
sources, semi-global smoothing, the prior as a weak vote). What photos agree on is spread to where
they do not, and that shape is searched around in turn, then in narrow steps at full resolution,
also around surfaces that other photos confirmed or that go on from beside; planes of it are tried
behind what is found. Depth that no other photo confirms gives way to planes of plain regions that
photos agree on, and to the prior. Of many photos some are searched, and lend the others their
depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.freed_memory import return_freed_memory
from recon.progress import Advance, unheard
from recon.stage_results import DepthMap
from recon.stereo.borrowed_depth import borrowed_depth
from recon.stereo.cached_photos import CachedPhotos, kept_photos
from recon.stereo.cross_check import DeviceDepth, Estimate, confirm, reproject_confirmed
from recon.stereo.fill_unconfirmed import fill_unconfirmed, without_mirrored
from recon.stereo.frame import Frame
from recon.stereo.level_ground import (
    ground_height,
    ground_surface,
    level_plane,
    nearest,
    search_ground,
)
from recon.stereo.outlines import beside_regions
from recon.stereo.photo import Photo2D
from recon.stereo.plane_sweep import scorer_of
from recon.stereo.planes_behind import with_planes_behind
from recon.stereo.region_planes import RegionPlanes
from recon.stereo.region_stage import NO_REGIONS, RegionKeys, RegionStage
from recon.stereo.search import enlarge, search, sharpen, surface_of
from recon.stereo.searched import Searched, depth_of
from recon.stereo.seen_by_others import with_depth_of_others
from recon.stereo.source_photos import (
    PhotoOverview,
    choose_sources,
    inverse_range,
    photos_to_search,
)
from recon.stereo.view import StereoOptions, StereoView
from recon.work.content_key import content_key, item_key
from recon.work.folder import Pieces, Work
from recon.work.pieces import Needs
from recon.work.threads import in_threads
from recon.work.visiting_order import visiting_order
from recon.world.gravity import cameras_up

T = TypeVar("T")

# Of refine_depths, for results that were kept.
_VERSION = 14
_NEEDS = Needs("Depth: stereo", memory_mb=1600, per_task=4)
# Factors of depth to either side within which surfaces shaped like the prior, and like what the
# first search left, are tried: a prior may be nearly a half off, what is known by then a seventh.
_PRIOR_REACH = 1.45
_GUESS_REACH = 1.15


def refine_depths(
    views: Sequence[StereoView],
    *,
    options: StereoOptions | None = None,
    device: str | torch.device = "cpu",
    work: Work | None = None,
    names: Sequence[str] | None = None,
    on_progress: Advance = unheard,
) -> Sequence[DepthMap]:
    """Return refined depth and confidence (h, w) of every view, in the units of the cameras.

    Confidence is above :data:`recon.stage_results.CONFIRMED` only where another photo confirms the
    depth; elsewhere stands the prior, made to meet the confirmed depth around it. A view that
    shares no scene with another keeps its prior as it is. ``on_progress`` is called with
    (done, total) searches, two for every photo.

    No more than a few ``views`` are asked for at a time. What is found is kept in ``work``, by
    default a temporary one. ``names`` of the views' photos, for
    :class:`recon.work.pieces.PhotosFailed`.
    """
    if not len(views):
        return []
    names = names or [str(number) for number in range(len(views))]
    given = options or StereoOptions(), torch.device(device), work or Work()
    stereo = _Stereo(views, names, *given)
    return stereo.refined(on_progress)


class _Stereo:
    """The passes over all photos. Each needs only what the one before found of a few neighbours,
    and the names of all results follow from those of the views alone.
    """

    def __init__(
        self,
        views: Sequence[StereoView],
        called: Sequence[str],
        options: StereoOptions,
        device: torch.device,
        work: Work,
    ) -> None:
        self._views, self._options, self._device, self._work = views, options, device, work
        self._called = called
        self._names = [item_key(views, i) for i in range(len(views))]
        self._sources, self._compared, self._searched, self._ranges, self._up = work.once(
            content_key("stereo sources", _VERSION, self._names, options), self._plan
        )
        self._rank = {i: place for place, i in enumerate(visiting_order(self._sources))}
        # Where in the results of the searches each photo's are.
        self._place = {i: n for n, i in enumerate(self._searched)}
        self._around = [set(compared) for compared in self._compared]
        for i in self._searched:
            for j in self._compared[i]:
                self._around[j].add(i)

    @cached_property
    def _cached(self) -> CachedPhotos:
        return CachedPhotos.of(self._views, self._device)

    def __getstate__(self) -> dict[str, object]:
        # Another process caches its own photos.
        return {name: value for name, value in vars(self).items() if name != "_cached"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        # On a cluster each pass comes to a process as a job of its own.
        self._cached = kept_photos(self._views, tuple(self._names), self._device)

    def _photo(self, i: int) -> Photo2D:
        return self._cached.whole(i)

    def _half(self, i: int) -> Photo2D:
        return self._cached.half(i)

    def _colours(self, i: int) -> NDArray[np.float32]:
        return self._cached.colours(i)

    def _plan(
        self,
    ) -> tuple[list[list[int]], list[list[int]], list[int], list[tuple[float, float]], Array]:
        """Return each photo's sources, the searched photos whose depth its own is compared with,
        which photos are searched, the range of each search, and which way is up by the cameras.
        """
        looked_at = list(in_threads(self._overview, range(len(self._views))))
        photos, ranges = [photo for photo, _ in looked_at], [ends for _, ends in looked_at]
        searched = photos_to_search(photos)
        sources = compared = choose_sources(photos, self._options.sources)
        if len(searched) < len(photos):
            compared = choose_sources(photos, self._options.sources, among=searched)
        up = cameras_up(np.stack([photo.cam_to_world for photo in photos]))
        return sources, compared, searched, ranges, up

    def _overview(self, i: int) -> tuple[PhotoOverview, tuple[float, float]]:
        view = self._views[i]
        return PhotoOverview.of(view), inverse_range(view)

    def refined(self, on_progress: Advance) -> Sequence[DepthMap]:
        """Return the depth maps of all views."""
        keys = self._keys()
        kept = self._work.found(keys.results)
        if kept is not None:
            return kept
        searched, count = self._searched, len(self._searched)
        starts = self._each(
            keys.first, self._first, searched, lambda done, _: on_progress(done, 2 * count)
        )
        guesses = self._settle(starts, keys.guessed, self._half, Frame.halved, keys.regions)
        fine = self._each(
            keys.second,
            lambda n: self._second(
                n, starts[n], guesses[n], partial(self._seen_by_others, n, keys)
            ),
            searched,
            lambda done, _: on_progress(count + done, 2 * count),
        )
        self._settle(fine, keys.settled, self._photo, lambda frame: frame, keys.regions)
        checked = Pieces[DepthMap](self._work, keys.settled.checked)
        others = self._not_searched()
        self._each(keys.borrowed, lambda n: self._borrow(others[n], checked), others)
        for passed in keys.passing():
            self._work.forget(passed)
        return Pieces[DepthMap](self._work, keys.results)

    def _keys(self) -> _Keys:
        """Return the names of what each pass finds, which follow from those of the views."""
        names = self._names
        first = [
            content_key(
                "first search",
                _VERSION,
                self._options,
                names[i],
                [names[j] for j in self._sources[i]],
                self._ranges[i],
                self._up,
            )
            for i in self._searched
        ]
        guessed = self._settled_keys(first)
        regions = NO_REGIONS
        if self._options.planes:
            regions = self._region_stage().keys(guessed.checked)
        guessed = self._settled_keys(first, regions.lent)
        second = [
            content_key("second search", _VERSION, *pair)
            for pair in zip(first, guessed.filled, strict=True)
        ]
        settled = self._settled_keys(second, regions.lent)
        others = self._not_searched()
        borrowed = [
            content_key(
                "borrowed",
                _VERSION,
                self._options,
                names[i],
                [names[j] for j in self._sources[i]],
                [settled.checked[self._place[j]] for j in sorted(self._around[i])],
            )
            for i in others
        ]
        final = dict(zip([*self._searched, *others], [*settled.filled, *borrowed], strict=True))
        results = [final[i] for i in range(len(names))]
        return _Keys(first, guessed, regions, second, settled, borrowed, results)

    def _not_searched(self) -> list[int]:
        return [i for i in range(len(self._names)) if i not in self._place]

    def _first(self, n: int) -> Searched:
        """Return what a full search finds at half resolution, nothing without sources or range."""
        i = self._searched[n]
        low, high = self._ranges[i]
        frame = self._frame(i).halved()
        if not self._sources[i] or high <= low:
            return Searched.nothing(frame.photo)
        scorer = scorer_of(frame.photo, [self._half(j) for j in self._sources[i]])
        nothing = torch.zeros_like(frame.photo.grey)
        given = frame.prior, self._options.max_planes, self._options.prior_weight
        found = search(scorer, nothing + low, nothing + high, *given)
        surface = surface_of(frame.prior)
        if surface is not None:
            surface = surface.clamp(low, high)
            found = found.or_better(
                search(scorer, surface / _PRIOR_REACH, surface * _PRIOR_REACH, *given)
            )
        plane = level_plane(frame.photo, self._up)
        height = ground_height(scorer, plane, low, high)
        if height is not None:
            found = found.or_better(search_ground(scorer, plane, height, low, *given))
        # Planes of plain regions go by this depth: surfaces from beside took right ones from them.
        found = replace(found, inverse=sharpen(scorer, found.inverse, found.step))
        ends = low, nearest(plane, height, high)
        its = depth_of(scorer, found.inverse, found.step, ends, frame)
        return Searched.of(found, *its, ground=height)

    def _seen_by_others(self, n: int, keys: _Keys) -> Estimate:
        """Return what other photos confirmed after the first search, seen from a photo."""
        i = self._searched[n]
        checked = Pieces[DepthMap](self._work, keys.guessed.checked)
        planes = Pieces[RegionPlanes](self._work, keys.regions.lent)
        return reproject_confirmed(self._half(i), self._sure(i, checked, self._half, planes))

    def _second(
        self, n: int, start: Searched, guess: DepthMap, seen_by_others: Callable[[], Estimate]
    ) -> Searched:
        """Return depth at full resolution, ``guess`` tried beside what the first search found."""
        i = self._searched[n]
        whole, (low, high) = self._frame(i), self._ranges[i]
        found = start.found(self._device)
        if found is None:
            return Searched.nothing(whole.photo)
        half = whole.halved()
        near_half, near = (
            nearest(level_plane(frame.photo, self._up), start.ground, high)
            for frame in (half, whole)
        )
        scorer = scorer_of(half.photo, [self._half(j) for j in self._sources[i]])
        known = Estimate.of(guess, self._device)
        surface = surface_of(known)
        if surface is not None:
            surface = surface.clamp_min(low).minimum(near_half)
            given = half.prior, self._options.max_planes, self._options.prior_weight
            found = found.or_better(
                search(scorer, surface / _GUESS_REACH, surface * _GUESS_REACH, *given)
            )
        inverse = sharpen(scorer, found.inverse, found.step, from_beside=True)
        size = whole.photo.grey.shape
        inverse, step = enlarge(inverse, *size), enlarge(found.step, *size)
        sources = [self._photo(j) for j in self._sources[i]]
        fine = scorer_of(whole.photo, sources)
        if self._options.planes:
            inverse = with_depth_of_others(fine, inverse, seen_by_others())
        inverse = sharpen(fine, inverse, step / 2, from_beside=True)
        if self._options.planes:
            inverse = with_planes_behind(whole.photo, sources, inverse, known)
        its = depth_of(fine, inverse, step, (low, near), whole)
        return Searched.of(None, *its, ground=start.ground)

    def _settled_keys(self, found: Sequence[str], regions: Sequence[str] = ()) -> _SettledKeys:
        around = self._places_around()
        checked = [
            content_key("checked", _VERSION, self._options, found[n], [found[m] for m in near])
            for n, near in enumerate(around)
        ]
        filled = [
            content_key(
                "filled",
                _VERSION,
                self._options,
                self._names[self._searched[n]],
                checked[n],
                [checked[m] for m in near],
                [regions[m] for m in (n, *near)] if regions else None,
            )
            for n, near in enumerate(around)
        ]
        return _SettledKeys(checked, filled)

    def _region_stage(self) -> RegionStage:
        def prior(i: int) -> NDArray[np.float32]:
            found: NDArray[np.float32] = self._frame(i).halved().prior.depth.cpu().numpy()
            return found

        return RegionStage(
            names=self._names,
            searched=self._searched,
            sources=self._sources,
            around=self._places_around(),
            photo=self._half,
            colours=self._colours,
            prior=prior,
            each=self._each,
            found=self._work.found,
        )

    def _places_around(self) -> list[list[int]]:
        return [[self._place[j] for j in sorted(self._around[i])] for i in self._searched]

    def _settle(
        self,
        found: Sequence[Searched],
        keys: _SettledKeys,
        photo: Callable[[int], Photo2D],
        size: Callable[[Frame], Frame],
        regions: RegionKeys,
    ) -> Pieces[DepthMap]:
        """Return what photos agree on, and elsewhere what they and the prior make likely; ``photo``
        and ``size`` give photos and frames the size of what was found.
        """

        def seen(j: int) -> DeviceDepth:
            return found[self._place[j]].seen(photo(j))

        def check(n: int) -> DepthMap:
            i = self._searched[n]
            return self._confirmed(seen(i), [seen(j) for j in sorted(self._around[i])]).depth_map()

        checked = self._each(keys.checked, check, self._searched)
        agreed = self._region_stage().planes(regions, checked)

        def fill(n: int) -> DepthMap:
            i = self._searched[n]
            frame = size(self._frame(i))
            if not self._sources[i]:
                return frame.prior.depth_map()
            own = Estimate.of(checked[n], self._device)
            its = agreed[n] if agreed else None
            sure = self._sure(i, checked, photo, agreed)
            return self._filled(own, frame, sure, its, found[n].ground)

        return self._each(keys.filled, fill, self._searched)

    def _borrow(self, i: int, checked: Sequence[DepthMap]) -> DepthMap:
        """Return the depth of a photo that was not searched."""
        frame = self._frame(i)
        if not self._sources[i]:
            return frame.prior.depth_map()
        neighbours = self._sure(i, checked, self._photo)
        lent = borrowed_depth(frame.photo, [self._photo(j) for j in self._sources[i]], neighbours)
        own = frame.counted(self._confirmed(lent, neighbours))
        return self._filled(own, frame, neighbours)

    def _sure(
        self,
        i: int,
        checked: Sequence[DepthMap],
        photo: Callable[[int], Photo2D],
        regions: Sequence[RegionPlanes] = (),
    ) -> list[DeviceDepth]:
        """Return the confirmed depth of the photos that a photo's is compared with, but for what
        lies behind the planes of their ``regions``: that is what they mirror.
        """

        def sure(j: int) -> DeviceDepth:
            place = self._place[j]
            estimate = Estimate.of(checked[place], self._device)
            if regions:
                planes = regions[place].inverse(*estimate.depth.shape)
                estimate = without_mirrored(estimate, torch.from_numpy(planes).to(self._device))
            depth = torch.where(estimate.confidence > 0, estimate.depth, 0.0)
            return DeviceDepth(depth, estimate.confidence, photo(j))

        return [sure(j) for j in sorted(self._around[i])]

    def _confirmed(self, own: DeviceDepth, others: Sequence[DeviceDepth]) -> Estimate:
        options = self._options
        return confirm(own, others, tolerance=options.tolerance, tolerance_px=options.tolerance_px)

    def _filled(
        self,
        own: Estimate,
        frame: Frame,
        sure: Sequence[DeviceDepth],
        regions: RegionPlanes | None = None,
        height: float | None = None,
    ) -> DepthMap:
        reprojected, planes, beside = reproject_confirmed(frame.photo, sure), None, None
        ground = None
        if height is not None:
            ground = ground_surface(frame.photo, self._up, height, [own, reprojected])
        if regions is not None:
            inverse = regions.inverse(*frame.photo.grey.shape)
            planes = torch.from_numpy(inverse).to(self._device)
            its = beside_regions(regions, frame.pixels.cpu().numpy())
            beside = torch.from_numpy(its).to(self._device)
        filled = fill_unconfirmed(
            own,
            frame.prior,
            reprojected,
            frame.pixels,
            planes,
            beside,
            ground,
            quick=not self._options.planes,
        )
        return frame.counted(filled).depth_map()

    def _each(
        self,
        keys: Sequence[str],
        make: Callable[[int], T],
        photos: Sequence[int],
        advance: Advance = unheard,
    ) -> Pieces[T]:
        """Return ``make(n)`` for each of the ``photos``; on the CPU one photo per thread.

        Compiled loops don't share a photo's rows among threads, and torch's own threads would spend
        longer waiting for each other than working; a photo on one thread gives the same bits on any
        number of cores.
        """

        def one(i: int) -> T:
            with torch.inference_mode():
                return make(i)

        # On the CPU each photo in work holds 0.1 GB of costs, at 1024x768 0.3.
        at_once = 1 if self._device.type != "cpu" else 8
        order = sorted(range(len(keys)), key=lambda n: self._rank[photos[n]])
        self._work.each(
            [keys[n] for n in order],
            one,
            of=order,
            at_once=at_once,
            needs=replace(_NEEDS, gpu=self._device.type != "cpu"),
            photos=lambda n: [self._called[photos[order[n]]]],
            advance=advance,
        )
        # Not after each photo: asking for the same memory again took a tenth of all CPU seconds.
        return_freed_memory()
        return Pieces(self._work, keys)

    def _frame(self, i: int) -> Frame:
        return Frame.of(self._views[i], self._device)


@dataclass(frozen=True)
class _SettledKeys:
    """Names of what photos agree on, and of that with the rest filled."""

    checked: list[str]
    filled: list[str]


@dataclass(frozen=True)
class _Keys:
    """Names of what each pass finds of the photos that are searched: the ``first`` search, what is
    ``guessed`` from it, the planes of ``regions``, the ``second`` search and what is ``settled``
    from that; of what the others have ``borrowed``, and of the ``results`` of all.
    """

    first: list[str]
    guessed: _SettledKeys
    regions: RegionKeys
    second: list[str]
    settled: _SettledKeys
    borrowed: list[str]
    results: list[str]

    def passing(self) -> Iterator[Sequence[str]]:
        """Yield those of what only later passes need."""
        yield self.first
        yield self.guessed.checked
        yield from self.regions
        yield self.guessed.filled
        yield self.second
        yield self.settled.checked
