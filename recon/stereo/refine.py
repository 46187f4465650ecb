"""Photometric depth: plane sweep over photos whose cameras are solved, cross-checked between them.

Per photo, at half resolution: a full search among planes that face the camera and among surfaces
shaped like the prior (normalised cross-correlation, best half of the sources, semi-global
smoothing, the prior as a weak vote). What photos agree on is spread to where they do not, and that
shape is searched around in turn, then in narrow steps at full resolution. Depth that no other photo
confirms gives way to the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recon.stage_results import DepthMap
from recon.stereo.cross_check import DeviceDepth, Estimate, confirm, reproject_confirmed
from recon.stereo.fill_unconfirmed import fill_unconfirmed
from recon.stereo.plane_sweep import Photo2D, Scorer, box_mean
from recon.stereo.search import Found, enlarge, search, sharpen, surface_of
from recon.stereo.source_photos import choose_sources, inverse_range
from recon.stereo.view import StereoOptions, StereoView

T = TypeVar("T")

# Factors of depth to either side within which surfaces shaped like the prior, and like what the
# first search left, are tried: a prior may be nearly a half off, what is known by then a seventh.
_PRIOR_REACH = 1.45
_GUESS_REACH = 1.15
# By how much more (of scores from -1 to 1) than a sure prior other depth has to match: plain
# surfaces match at any depth.
_BENEFIT = 0.03
# Windows that are compared, pixels to either side: 5 x 5 keeps edges and is still distinct.
_WINDOW = 2


def refine_depths(
    views: Sequence[StereoView],
    *,
    options: StereoOptions | None = None,
    device: str | torch.device = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[DepthMap]:
    """Return refined depth and confidence (h, w) of every view, in the units of the cameras.

    Confidence is above :data:`recon.stage_results.CONFIRMED` only where another photo confirms the
    depth; elsewhere stands the prior, made to meet the confirmed depth around it. A view that
    shares no scene with another keeps its prior as it is. ``on_progress`` is called with
    (done, total) searches, two for every photo.
    """
    options = options or StereoOptions()
    whole = [_Frame.of(view, torch.device(device)) for view in views]
    half = [frame.halved() for frame in whole]
    sources = [choose_sources(views, i, options.sources) for i in range(len(views))]
    ranges = [inverse_range(view) for view in views]
    workers = _Workers(len(views), torch.device(device))

    def tell(done: int) -> None:
        if on_progress:
            on_progress(done, 2 * len(views))

    def first(i: int) -> tuple[Found | None, DeviceDepth]:
        return _first(half[i], [half[j].photo for j in sources[i]], ranges[i], options)

    starts, rough = zip(*workers.each(first, tell), strict=True) if views else ((), ())
    guesses = _settle(rough, half, sources, options, workers)

    def second(i: int) -> DeviceDepth:
        start = starts[i]
        if start is None:
            return _nothing(whole[i].photo)
        photos = [half[j].photo for j in sources[i]], [whole[j].photo for j in sources[i]]
        return _second(start, guesses[i], (half[i], whole[i]), photos, ranges[i], options)

    fine = workers.each(second, lambda done: tell(len(views) + done))
    settled = _settle(fine, whole, sources, options, workers)
    return [
        estimate.depth_map() if sources[i] else views[i].prior for i, estimate in enumerate(settled)
    ]


@dataclass(frozen=True)
class _Frame:
    """A view on the device: its photo, ``pixels`` (h, w, 3) in [0, 1], and its prior."""

    photo: Photo2D
    pixels: Tensor
    prior: Estimate

    @staticmethod
    def of(view: StereoView, device: torch.device) -> _Frame:
        pixels = torch.from_numpy(view.pixels).to(device).float() / 255
        photo = Photo2D(
            # Luma of ITU-R BT.601, as JPEG has it.
            pixels @ torch.tensor([0.299, 0.587, 0.114], device=device),
            torch.from_numpy(np.asarray(view.intrinsics, np.float64)).to(device),
            torch.from_numpy(np.asarray(view.cam_to_world, np.float64)).to(device),
            view.k1,
        )
        return _Frame(photo, pixels, Estimate.of(view.prior, device))

    def halved(self) -> _Frame:
        photo = self.photo.halved()
        height, width = photo.grey.shape
        pixels = F.interpolate(self.pixels.permute(2, 0, 1)[None], (height, width), mode="area")[0]
        return _Frame(photo, pixels.permute(1, 2, 0), self.prior.resized(height, width))


class _Workers:
    """Runs a step for every photo; on the CPU one photo per thread.

    The path aggregation is thousands of small operations: torch's own threads would spend longer
    waiting for each other than working, and a photo on one thread gives the same bits on any
    number of cores.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.count = count
        # Each photo in work holds about 0.3 GB of costs.
        threads = torch.get_num_threads()
        self.workers = 1 if device.type != "cpu" else max(1, min(threads, count, 8))

    def each(self, work: Callable[[int], T], done: Callable[[int], None] | None = None) -> list[T]:
        """Return ``work(i)`` for all photos i; ``done`` is told how many are finished."""

        def one(i: int) -> T:
            with torch.inference_mode():
                return work(i)

        threads = torch.get_num_threads()
        results = []
        pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            for result in pool.map(one, range(self.count)):
                results.append(result)
                if done:
                    done(len(results))
        finally:
            # Not by `with`, which would first finish all photos after Ctrl-C.
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
        return results


def _first(
    frame: _Frame, sources: Sequence[Photo2D], ends: tuple[float, float], options: StereoOptions
) -> tuple[Found | None, DeviceDepth]:
    """Return what a full search finds at half resolution, None without sources or range."""
    low, high = ends
    if not sources or high <= low:
        return None, _nothing(frame.photo)
    scorer = Scorer(frame.photo, sources, radius=_WINDOW)
    nothing = torch.zeros_like(frame.photo.grey)
    given = frame.prior, options.max_planes, options.prior_weight
    found = search(scorer, nothing + low, nothing + high, *given)
    surface = surface_of(frame.prior)
    if surface is not None:
        surface = surface.clamp(low, high)
        found = found.or_better(
            search(scorer, surface / _PRIOR_REACH, surface * _PRIOR_REACH, *given)
        )
    found = replace(found, inverse=sharpen(scorer, found.inverse, found.step))
    return found, _depth(scorer, found.inverse, found.step, ends, frame)


def _second(
    start: Found,
    guess: Estimate,
    sizes: tuple[_Frame, _Frame],
    sources: tuple[list[Photo2D], list[Photo2D]],
    ends: tuple[float, float],
    options: StereoOptions,
) -> DeviceDepth:
    """Return depth at full resolution, ``guess`` tried beside what the first search found.

    ``sizes`` and ``sources``: at half and at full resolution.
    """
    (half, whole), (low, high) = sizes, ends
    scorer = Scorer(half.photo, sources[0], radius=_WINDOW)
    surface = surface_of(guess)
    if surface is not None:
        surface = surface.clamp(low, high)
        given = half.prior, options.max_planes, options.prior_weight
        start = start.or_better(
            search(scorer, surface / _GUESS_REACH, surface * _GUESS_REACH, *given)
        )
    inverse = sharpen(scorer, start.inverse, start.step)
    size = whole.photo.grey.shape
    inverse, step = enlarge(inverse, *size), enlarge(start.step, *size)
    fine = Scorer(whole.photo, sources[1], radius=_WINDOW)
    inverse = sharpen(fine, inverse, step / 2)
    return _depth(fine, inverse, step, ends, whole)


def _depth(
    scorer: Scorer, inverse: Tensor, step: Tensor, ends: tuple[float, float], frame: _Frame
) -> DeviceDepth:
    """Return depth and score of what was found, or of the prior where photos don't object to it."""
    low, high = ends
    # Sky and other things out of range end up at the first or last plane.
    within = (inverse > low + step) & (inverse < high - step)
    depth = torch.where(within, 1 / inverse.clamp_min(low), 0.0)
    known = frame.prior.depth > 0
    surface = torch.where(known, 1 / frame.prior.depth.clamp_min(1e-12), inverse)
    scores = scorer(torch.stack([inverse, surface]))
    better, least = box_mean(scores, 3).diff(dim=0)[0], -_BENEFIT * frame.prior.confidence
    keep = known & within & (better >= least)
    return DeviceDepth(
        torch.where(keep, frame.prior.depth, depth),
        torch.where(keep, scores[1], scores[0]),
        frame.photo,
    )


def _nothing(photo: Photo2D) -> DeviceDepth:
    nothing = torch.zeros_like(photo.grey)
    return DeviceDepth(nothing, nothing, photo)


def _settle(
    found: Sequence[DeviceDepth],
    frames: Sequence[_Frame],
    sources: Sequence[Sequence[int]],
    options: StereoOptions,
    workers: _Workers,
) -> list[Estimate]:
    """Return what photos agree on, and elsewhere what they and the prior make likely."""
    around = [
        sorted({*sources[i], *(j for j in range(len(found)) if i in sources[j])})
        for i in range(len(found))
    ]

    def check(i: int) -> Estimate:
        return confirm(
            found[i],
            [found[j] for j in around[i]],
            tolerance=options.tolerance,
            tolerance_px=options.tolerance_px,
        )

    checked = workers.each(check)
    sure = [
        DeviceDepth(torch.where(c.confidence > 0, c.depth, 0.0), c.confidence, frame.photo)
        for c, frame in zip(checked, frames, strict=True)
    ]

    def fill(i: int) -> Estimate:
        reprojected = reproject_confirmed(frames[i].photo, [sure[j] for j in around[i]])
        return fill_unconfirmed(checked[i], frames[i].prior, reprojected, frames[i].pixels)

    return workers.each(fill)
