"""Photometric depth: plane sweep over photos whose cameras are solved, cross-checked between them.

Per photo: a full sweep at half resolution (normalised cross-correlation, best half of the sources,
semi-global smoothing, the prior as a weak vote), then narrow sweeps around the depth found so far.
The narrow sweeps move the whole depth map as one sheet, so that the windows follow slanted surfaces
instead of assuming they face the camera. Depth that no other photo confirms gives way to the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pointmap.camera import Array, invert_rigid, pixel_rays, project, transform_points
from recon.consistency import DeviceDepth, borrow, confirm, fall_back
from recon.depth import DepthMap
from recon.sweep import (
    Photo2D,
    Scorer,
    aggregate,
    box_mean,
    lowest_label,
    median_filter,
    plane_fit,
)

T = TypeVar("T")


@dataclass(frozen=True)
class StereoView:
    """One registered photo at the resolution of its depth map.

    ``pixels`` (h, w, 3) uint8 RGB; ``intrinsics`` (3, 3) at this resolution and the lens's ``k1``;
    ``cam_to_world`` (4, 4); ``prior`` is the depth to start from and to fall back to (0 = unknown);
    ``points`` (P, 3) world are the scene points seen in this photo, ``point_ids`` (P,) their
    identity across photos. Both may be empty.
    """

    pixels: NDArray[np.uint8]
    intrinsics: Array
    cam_to_world: Array
    prior: DepthMap
    points: Array
    point_ids: NDArray[np.int64]
    k1: float = 0.0


@dataclass(frozen=True)
class StereoOptions:
    """How depth is refined."""

    sources: int = 5
    """How many neighbouring photos each photo is compared with."""
    max_planes: int = 192
    """Most depth hypotheses of the full sweep; fewer are used when the baselines are short."""
    tolerance: float = 0.015
    """Relative depth difference up to which another photo confirms a depth."""
    tolerance_px: float = 1.5
    """How far a pixel may land from where it started, there and back, to be confirmed."""
    prior_weight: float = 0.1
    """Say of the prior against the photos; their scores span 0 to 1."""


def refine_depths(
    views: Sequence[StereoView],
    *,
    options: StereoOptions | None = None,
    device: str | torch.device = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[DepthMap]:
    """Return refined depth and confidence (h, w) of every view, in the units of the cameras.

    Confidence is above 0.35 only where another photo confirms the depth; elsewhere the prior, made
    to meet the confirmed depth around it, carries at most 0.3. A view that shares no scene with
    another keeps its prior as it is. ``on_progress`` is called with (done, total) photos.
    """
    options = options or StereoOptions()
    device = torch.device(device)
    photos = [_photo(view, device) for view in views]
    sources = [choose_sources(views, i, options.sources) for i in range(len(views))]

    def sweep(i: int) -> DeviceDepth:
        return _sweep(views[i], photos[i], [photos[j] for j in sources[i]], options)

    raw = _each(sweep, len(views), device, on_progress)

    around = [
        sorted({*sources[i], *(j for j in range(len(views)) if i in sources[j])})
        for i in range(len(views))
    ]

    def check(i: int) -> tuple[Tensor, Tensor]:
        return confirm(
            raw[i],
            [raw[j] for j in around[i]],
            tolerance=options.tolerance,
            tolerance_px=options.tolerance_px,
        )

    checked = _each(check, len(views), device)
    sure = [
        DeviceDepth(torch.where(confidence > 0, depth, 0.0), confidence, photo)
        for (depth, confidence), photo in zip(checked, photos, strict=True)
    ]

    def finish(i: int) -> DepthMap:
        if not sources[i]:
            return views[i].prior
        borrowed = borrow(photos[i], [sure[j] for j in around[i]])
        pixels = torch.from_numpy(views[i].pixels).to(device).float() / 255
        return fall_back(checked[i], views[i].prior, borrowed, pixels)

    return _each(finish, len(views), device)


def _each(
    work: Callable[[int], T],
    count: int,
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[T]:
    """Return ``work(i)`` for all i below ``count``; on the CPU one photo per thread.

    The path aggregation is thousands of small operations: torch's own threads would spend longer
    waiting for each other than working, and a photo on one thread gives the same bits on any
    number of cores.
    """

    def one(i: int) -> T:
        with torch.inference_mode():
            return work(i)

    threads = torch.get_num_threads()
    # Each photo in work holds about 0.3 GB of costs.
    workers = 1 if device.type != "cpu" else max(1, min(threads, count, 8))
    results = []
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for result in pool.map(one, range(count)):
            results.append(result)
            if on_progress:
                on_progress(len(results), count)
    finally:
        # Not by `with`, which would first finish all photos after Ctrl-C.
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
    return results


def choose_sources(views: Sequence[StereoView], index: int, count: int) -> list[int]:
    """Return up to ``count`` views to compare view ``index`` with, best first.

    A shared scene point counts by the angle between its two rays: most near 8 degrees, little below
    2 (no parallax) or above 30 (looks too different). Views without shared points are judged by
    where the prior depth projects, at a discount because nothing says the surface is visible.
    """
    view = views[index]
    grid = _prior_points(view)
    scores = []
    for j, other in enumerate(views):
        if j == index:
            scores.append(0.0)
            continue
        shared = np.isin(view.point_ids, other.point_ids)
        score = _angle_weight(view, other, view.points[shared]).sum() / max(len(shared), 1)
        if len(grid):
            inside = _inside(other, grid)
            score += 0.2 * _angle_weight(view, other, grid[inside]).sum() / len(grid)
        scores.append(float(score))
    ranked = sorted(range(len(views)), key=lambda j: (-scores[j], j))
    # A source a hundred times worse than the best adds noise rather than evidence.
    enough = max(scores) * 0.01
    return [j for j in ranked[:count] if scores[j] > max(enough, 1e-4)]


def _prior_points(view: StereoView) -> Array:
    """Return world points (G, 3) of the prior depth on a coarse grid."""
    height, width = view.prior.depth.shape
    row, column = (
        axis.ravel()
        for axis in np.meshgrid(
            np.linspace(0, height - 1, 16).astype(int),
            np.linspace(0, width - 1, 16).astype(int),
            indexing="ij",
        )
    )
    z = view.prior.depth[row, column].astype(np.float64)
    rays = pixel_rays(np.stack([column + 0.5, row + 0.5], -1), view.intrinsics, view.k1)
    return transform_points(view.cam_to_world, rays * z[:, None])[z > 0]


def _inside(view: StereoView, points: Array) -> NDArray[np.bool_]:
    """Return which world points (P, 3) project into the photo."""
    in_camera = transform_points(invert_rigid(view.cam_to_world), points)
    xy = project(in_camera, view.intrinsics, view.k1)
    height, width = view.pixels.shape[:2]
    with np.errstate(invalid="ignore"):
        return np.all((xy >= 0) & (xy <= [width, height]), axis=-1)


def _angle_weight(view: StereoView, other: StereoView, points: Array) -> Array:
    """Return weights (P,) in [0, 1] by the angle at which two cameras see each point."""
    rays = [points - v.cam_to_world[:3, 3] for v in (view, other)]
    unit = [ray / np.linalg.norm(ray, axis=-1, keepdims=True).clip(1e-12) for ray in rays]
    angle = np.degrees(np.arccos(np.clip((unit[0] * unit[1]).sum(-1), -1, 1)))
    weight = np.exp(-0.5 * ((angle - 8.0) / np.where(angle < 8.0, 3.0, 12.0)) ** 2)
    # Below a third of a degree depth is anyone's guess, however many points are shared.
    return weight * (angle > 0.3)


def _photo(view: StereoView, device: torch.device) -> Photo2D:
    grey = view.pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    return Photo2D(
        torch.from_numpy(grey).to(device),
        torch.from_numpy(np.asarray(view.intrinsics, np.float64)).to(device),
        torch.from_numpy(np.asarray(view.cam_to_world, np.float64)).to(device),
        view.k1,
    )


def _inverse_range(view: StereoView) -> tuple[float, float]:
    """Return the smallest and largest inverse depth to search.

    The prior's range, held to within a factor of two of the scene points' where there are enough of
    them; widened because both miss the nearest and farthest surfaces.
    """
    prior = view.prior.depth[view.prior.depth > 0]
    z = transform_points(invert_rigid(view.cam_to_world), view.points)[:, 2]
    z = z[z > 0]
    ranges = [np.percentile(d, [1, 99]) for d in (prior, z) if len(d) >= 20]
    if not ranges:
        return 0.0, 0.0
    near, far = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if len(z) >= 20:
        near, far = max(near, ranges[-1][0] / 2), min(far, ranges[-1][1] * 2)
    return float(1 / (far * 1.5)), float(1 / (near * 0.7))


def _sweep(
    view: StereoView, photo: Photo2D, sources: Sequence[Photo2D], options: StereoOptions
) -> DeviceDepth:
    """Return one photo's depth from its sources alone, and its final score."""
    height, width = photo.grey.shape
    low, high = _inverse_range(view)
    if not sources or high <= low:
        nothing = torch.zeros_like(photo.grey)
        return DeviceDepth(nothing, nothing, photo)
    half = photo.halved()
    half_sources = [s.halved() for s in sources]
    scorer = Scorer(half, half_sources, radius=2)
    planes = scorer.planes_between(low, high, options.max_planes)
    step = float(planes[1] - planes[0])
    cost = scorer.cost_volume(planes)
    _add_prior(cost, planes, view.prior, options.prior_weight)
    inverse = low + step * lowest_label(aggregate(cost, half.grey, 0.1, 0.8))
    for spacing in (step / 2, step / 4):
        inverse = _narrow(scorer, _straighten(scorer, inverse), spacing)
    inverse = F.interpolate(inverse[None, None], (height, width), mode="bilinear")[0, 0]
    fine = Scorer(photo, sources, radius=2)
    for spacing in (step / 4, step / 8):
        inverse = _narrow(fine, _straighten(fine, inverse), spacing)
    # Sky and other things out of range end up at the first or last plane.
    within = (inverse > low + step) & (inverse < high - step)
    depth = torch.where(within, 1 / inverse.clamp_min(low), 0.0)
    return DeviceDepth(depth, fine(inverse[None])[0], photo)


def _straighten(scorer: Scorer, inverse: Tensor) -> Tensor:
    """Return inverse depth (h, w) without outliers and stairs: per pixel the best of three smooths.

    The median keeps edges; planes through the well-matched neighbours give windows on slanted
    ground the slope that the full sweep, which faces the camera, cannot know.
    """
    median = median_filter(inverse, 2)
    weight = scorer(median[None])[0].clamp(0.05, 1).square()
    sheets = [median, *(plane_fit(median, weight, radius)[0] for radius in (2, 6))]
    # A plane may cross zero where its window holds two surfaces.
    stacked = torch.stack(sheets).clamp_min(float(inverse.min()) / 2)
    best = box_mean(scorer(stacked), 1).argmax(0)
    return stacked.gather(0, best[None])[0]


def _narrow(scorer: Scorer, inverse: Tensor, spacing: float, reach: int = 4) -> Tensor:
    """Return inverse depth (h, w) moved by up to ``reach`` steps to where the photos agree best."""
    offsets = torch.arange(-reach, reach + 1, device=inverse.device) * spacing
    cost = scorer.cost_volume(inverse[None] + offsets[:, None, None])
    label = lowest_label(aggregate(cost, scorer.grey, 0.02, 0.1))
    return inverse + (label - reach) * spacing


def _add_prior(cost: Tensor, planes: Tensor, prior: DepthMap, weight: float) -> None:
    """Add to cost (h, w, D) a penalty that grows up to ``weight`` as depth leaves the prior."""
    height, width, _ = cost.shape
    both = torch.from_numpy(np.stack([prior.depth, prior.confidence])).to(cost.device)
    depth, confidence = F.interpolate(both[None], (height, width), mode="nearest")[0]
    known = depth > 0
    log_inverse = -torch.where(known, depth, 1.0).log()
    distance = (planes.log() - log_inverse[..., None]) / 0.3
    penalty = (distance * distance).clamp_max_(1.0)
    cost += penalty * (weight * confidence * known)[..., None]
