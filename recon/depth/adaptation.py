"""Test-time adaptation: the network learns the user's own photos from their solved geometry.

Bundle adjustment and plane sweep are exact where photos have texture, the network is needed where
they have none. Confirmed depth and cameras therefore supervise low-rank updates of the network
(LoRA3D, arXiv 2412.07746, calibrates its pseudo-labels in the same spirit; Test3R, arXiv
2506.13750, adapts by consistency between pairs). Some photos are held out of it: the adapted
network is kept only if it describes those better.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pointmap.camera import (
    invert_rigid,
    pixel_rays,
    project,
    scale_intrinsics,
    transform_points,
)
from pointmap.images import ResizedPhoto
from recon.depth.anchored_prior import (
    DepthOptions,
    fuse_depths,
    photo_anchors,
    tie_to_anchors,
    upsample_prior,
)
from recon.prediction.predict_scene import predict_scene
from recon.prediction.view_graph import Pair
from recon.progress import Advance, unheard
from recon.stage_results import CONFIRMED, Alignment, DenseDepths, DepthMap, PhotoPrior

if TYPE_CHECKING:
    from pointmap.network import PointmapNetwork
    from pointmap.training.batches.pairs import PairBatch, Views
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)

# One photo in four judges: enough left to learn from, and two judges of the usual ten photos.
_HOLD_OUT_EVERY = 4
# Rank of the updates, as LoRA3D has it.
_RANK = 16
# Pairs of photos per step: bounds the memory.
_PAIRS_PER_STEP = 4
# Steps at most, where the seconds would allow more: few photos make few pairs.
_MAX_STEPS = 400
# AdamW's highest rate; low-rank updates bear more than a whole network does.
_LEARNING_RATE = 2e-3
# Steps over which the rate rises to that.
_WARM_UP_STEPS = 10
# Weight of the confidence's logarithm in the loss: DUSt3R's, with which the network was trained.
_ALPHA = 0.2
# Few photos judge: a gain below this may be chance.
_MIN_GAIN = 0.05
# Less confirmed depth than this share of a photo is no picture of it.
_LEAST_CONFIRMED = 0.05
# Pixels of a photo, about, whose reprojection is judged: a grid of 50 x 50.
_PIXELS = 2500
# An error counts up to this, in per cent of the long side: 64 px of 640 are as wrong as can be.
_WORST = 10.0
# Blocks along the long side of the chequerboard that hides depth: as wide as usual gaps.
_BLOCKS = 10
# Fewer steps change next to nothing: the rate is still rising.
_LEAST_STEPS = 5


@dataclass(frozen=True)
class AdaptOptions:
    """How long the network learns: ``seconds`` at most, ``max_steps`` at most; ``seed`` of all that
    is drawn.
    """

    seconds: float
    max_steps: int = _MAX_STEPS
    seed: int = 0


@dataclass(frozen=True)
class Agreement:
    """How well priors describe photos, as mean reprojection errors in per cent of the photos' long
    side: ``scaled`` by one factor per photo; ``tied`` to the scene points as the depth stage does
    it; ``filled``: where confirmed depth is hidden in blocks and filled from the tied prior.
    """

    scaled: float
    tied: float
    filled: float

    def better_than(self, other: Agreement) -> bool:
        """Whether the tied and filled errors fall noticeably and the scaled one does not rise."""
        least = 1 - _MIN_GAIN
        gains = self.tied < least * other.tied and self.filled < least * other.filled
        return gains and self.scaled <= other.scaled


@dataclass(frozen=True)
class Adaptation:
    """``priors`` of all photos: the adapted network's if it was ``kept``, else those of before.

    ``held_out`` are the photos of the guard, whose agreement was ``before`` and ``after``.
    """

    priors: list[PhotoPrior]
    kept: bool
    held_out: tuple[int, ...]
    before: Agreement | None = None
    after: Agreement | None = None


def adapt(
    inputs: Inputs,
    alignment: Alignment,
    dense: DenseDepths,
    predict: Callable[[PointmapNetwork], list[PhotoPrior]],
    options: AdaptOptions,
    *,
    advance: Advance = unheard,
) -> Adaptation:
    """Adapt the network to its photos for at most ``options.seconds``; say what it then predicts.

    Of the ``dense`` depths only what another photo confirmed is learnt; their priors are what the
    network said so far. ``predict`` gives the priors of all photos by another network. Fewer than
    three photos with confirmed depth teach nothing that could be checked: a warning, and everything
    stays as it is. The inputs' network itself is never changed.
    """
    frames, depths, priors = dense.frames, dense.depths, dense.priors
    usable = [
        k
        for k, depth in enumerate(depths)
        if depth is not None and (depth.confidence > CONFIRMED).mean() > _LEAST_CONFIRMED
    ]
    held_out = tuple(usable[1::_HOLD_OUT_EVERY])
    before = reprojection_agreement(priors, depths, alignment, frames, held_out)
    if len(usable) < 3 or before is None:
        logger.warning(
            "not adapted: %d photos have depth that others confirm, and 3 are needed; "
            "give more photos that overlap",
            len(usable),
        )
        return Adaptation(list(priors), False, ())
    taught = [k for k in usable if k not in held_out]
    views = confirmed_views(inputs.network_frames(), depths, alignment, taught)
    adapted, steps = learn(
        inputs.network, list(views.values()), options, device=inputs.device, advance=advance
    )
    if steps < _LEAST_STEPS:
        logger.warning(
            "not adapted: %g seconds were enough for %d steps only; give --adapt more time",
            options.seconds,
            steps,
        )
        return Adaptation(list(priors), False, held_out, before)
    after_priors = predict(adapted)
    after = reprojection_agreement(after_priors, depths, alignment, frames, held_out)
    if after is None or not after.better_than(before):
        logger.warning(
            "the adapted network describes the photos held out no better than the original: "
            "the original is used"
        )
        return Adaptation(list(priors), False, held_out, before, after)
    return Adaptation(after_priors, True, held_out, before, after)


def refill(
    depths: Sequence[DepthMap | None], priors: Sequence[DepthMap | None]
) -> list[DepthMap | None]:
    """Return ``depths`` with what no other photo confirmed filled from ``priors``, tied to the
    scene. Confirmed depth stays as it is, and so does a photo without any: nothing tells its scale.
    """
    from recon.stereo.cross_check import Estimate
    from recon.stereo.fill_unconfirmed import fill_unconfirmed

    filled: list[DepthMap | None] = []
    for depth, prior in zip(depths, priors, strict=True):
        if depth is None or prior is None or not (depth.confidence > CONFIRMED).any():
            filled.append(depth)
            continue
        confirmed = depth.confidence > CONFIRMED
        sure = DepthMap(depth.depth * confirmed, depth.confidence * confirmed)
        cpu = torch.device("cpu")
        filled.append(fill_unconfirmed(Estimate.of(sure, cpu), Estimate.of(prior, cpu)).depth_map())
    return filled


def reprojection_agreement(
    priors: Sequence[PhotoPrior],
    depths: Sequence[DepthMap | None],
    alignment: Alignment,
    frames: Sequence[ResizedPhoto],
    chosen: Sequence[int],
) -> Agreement | None:
    """Return how well priors of the ``chosen`` photos reproject, None where nothing is confirmed.

    Each confirmed pixel is placed at its confirmed depth and at the prior's, both are projected
    into the other photos that have the confirmed place in view, and their distance there counts.
    """
    errors = []
    for k in chosen:
        depth, anchors = depths[k], photo_anchors(alignment, k, frames[k])
        if depth is None or not len(anchors.z):
            continue
        prior = upsample_prior(priors[k], *depth.depth.shape)
        tied = [
            tie_to_anchors(prior, anchors, options)
            for options in (DepthOptions(correct_shape=False), DepthOptions())
        ]
        visible, hidden = hide_blocks(depth)
        filled = refill([visible], [tied[1]])[0]
        assert filled is not None
        questions = ((tied[0], depth), (tied[1], depth), (filled, hidden))
        found = [_reprojection(k, said, true, alignment, frames) for said, true in questions]
        if None not in found:
            errors.append(found)
    if not errors:
        return None
    return Agreement(*np.mean(np.array(errors, np.float64), axis=0).tolist())


def hide_blocks(depth: DepthMap) -> tuple[DepthMap, DepthMap]:
    """Return what is left and what is hidden when every second block of a chequerboard goes."""
    height, width = depth.depth.shape
    block = max(1, max(height, width) // _BLOCKS)
    rows, columns = np.arange(height)[:, None] // block, np.arange(width) // block
    gone = (rows + columns) % 2 == 0
    return (
        DepthMap(depth.depth * ~gone, depth.confidence * ~gone),
        DepthMap(depth.depth * gone, depth.confidence * gone),
    )


def _reprojection(
    view: int,
    claimed: DepthMap,
    depth: DepthMap,
    alignment: Alignment,
    frames: Sequence[ResizedPhoto],
) -> float | None:
    """Return the mean distance, in per cent of the long side, of ``claimed`` from confirmed depth
    of photo ``view``, seen from the other photos; None where no other photo sees any of it.
    """
    height, width = depth.depth.shape
    step = max(1, int(np.sqrt(height * width / _PIXELS)))
    row, column = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    sure = depth.confidence[row, column] > CONFIRMED
    row, column = row[sure], column[sure]
    xy = np.stack([column + 0.5, row + 0.5], 1) / [frames[view].scale_x, frames[view].scale_y]
    rays = pixel_rays(xy, alignment.intrinsics[view], alignment.lenses[view])
    cam_to_world = alignment.cam_to_world[view]
    assert cam_to_world is not None
    true, said = (
        transform_points(cam_to_world, rays * z[row, column, None].astype(np.float64))
        for z in (depth.depth, claimed.depth)
    )
    known = claimed.depth[row, column] > 0
    found = []
    for j, other in enumerate(alignment.cam_to_world):
        if j == view or other is None:
            continue
        photo = frames[j].photo
        a, b = (
            project(
                transform_points(invert_rigid(other), points),
                alignment.intrinsics[j],
                alignment.lenses[j],
            )
            for points in (true, said)
        )
        with np.errstate(invalid="ignore"):
            seen = ((a >= 0) & (a <= [photo.width, photo.height])).all(axis=1)
        share = 100 * np.linalg.norm(a - b, axis=1) / max(photo.width, photo.height)
        # Behind the other camera, or not known at all, is as wrong as can be.
        share = np.where(known & np.isfinite(share), share, _WORST)[seen]
        found.append(share.clip(max=_WORST))
    together = np.concatenate(found) if found else np.zeros(0)
    return float(together.mean()) if len(together) else None


def confirmed_views(
    resized: Sequence[ResizedPhoto],
    depths: Sequence[DepthMap | None],
    alignment: Alignment,
    photos: Sequence[int],
) -> dict[tuple[int, int], Views]:
    """Return the views to learn from, by the size (height, width) at which the network sees them.

    ``resized``: what the network sees; ``depths``: refined, of which only what another photo
    confirmed is taken; ``photos``: the numbers of those to take, all placed. A lens's distortion
    is left out: the network's pointmaps are a pinhole's.
    """
    from pointmap.camera import sample_at
    from pointmap.training.batches.pairs import Views

    grouped: dict[tuple[int, int], list[tuple[torch.Tensor, ...]]] = {}
    for k in photos:
        seen, depth, cam_to_world = resized[k], depths[k], alignment.cam_to_world[k]
        assert depth is not None and cam_to_world is not None
        height, width = seen.pixels.shape[:2]
        confirmed = np.where(depth.confidence > CONFIRMED, depth.depth, 0)
        intrinsics = scale_intrinsics(alignment.intrinsics[k], seen.scale_x, seen.scale_y)
        grouped.setdefault((height, width), []).append(
            (
                torch.from_numpy(seen.pixels).permute(2, 0, 1),
                torch.from_numpy(sample_at(confirmed, height, width)).float(),
                torch.from_numpy(intrinsics).float(),
                torch.from_numpy(np.asarray(cam_to_world)).float(),
            )
        )
    return {
        size: Views(*(torch.stack(column) for column in zip(*rows, strict=True)))
        for size, rows in grouped.items()
    }


def learn(
    network: PointmapNetwork,
    views: Sequence[Views],
    options: AdaptOptions,
    *,
    device: torch.device,
    advance: Advance = unheard,
) -> tuple[PointmapNetwork, int]:
    """Return a copy of ``network`` that learnt ``views``, and the number of steps it took.

    DUSt3R's objective on random pairs of views of one size, both ways round, until the seconds or
    the steps of ``options`` are over; the rate falls to zero with whichever is nearer.
    """
    from pointmap.inference import choose_dtype
    from pointmap.lora import add_low_rank, merge_low_rank
    from pointmap.training.loop.pair_loss import pair_loss

    start = time.monotonic()
    adapted = copy.deepcopy(network).to(device).train()
    parameters = add_low_rank(adapted, rank=_RANK, seed=options.seed)
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=0.0)
    generator = torch.Generator().manual_seed(options.seed)
    dtype = choose_dtype(device)
    step = 0
    while True:
        progress = max(step / options.max_steps, (time.monotonic() - start) / options.seconds)
        if progress >= 1:
            break
        risen = min(1.0, (step + 1) / _WARM_UP_STEPS)
        rate = _LEARNING_RATE * risen * 0.5 * (1 + np.cos(np.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = draw_pairs(views, generator, device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = pair_loss(adapted, batch, alpha=_ALPHA)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        step += 1
        advance(int(100 * progress), 100)
    merge_low_rank(adapted)
    return adapted.eval(), step


def draw_pairs(
    views: Sequence[Views], generator: torch.Generator, device: torch.device
) -> PairBatch:
    """Return random ordered pairs of views of one group, taken in proportion to its pairs."""
    from pointmap.training.batches.pairs import Views, make_batch

    counts = torch.tensor([float(len(group.depth)) ** 2 for group in views])
    group = views[int(torch.multinomial(counts, 1, generator=generator))]
    count = len(group.depth)
    first = torch.randint(count, (_PAIRS_PER_STEP,), generator=generator)
    # A photo of which there is no second of its size is paired with itself.
    second = (first + torch.randint(1, max(count, 2), first.shape, generator=generator)) % count

    def pick(index: torch.Tensor) -> Views:
        columns = (group.images, group.depth, group.intrinsics, group.cam_to_world)
        return Views(*(column[index].to(device) for column in columns))

    unknown = torch.zeros(len(first), device=device)
    return make_batch(pick(first), pick(second), unknown, generator, 1.0)


def adapted_depths(
    inputs: Inputs,
    alignment: Alignment,
    dense: DenseDepths,
    options: AdaptOptions,
    pairs: Sequence[Pair],
    prior: DepthOptions,
    *,
    advance: Advance = unheard,
) -> DenseDepths:
    """Return ``dense``, with unconfirmed depth filled from the adapted network if that is better.

    ``pairs`` and ``prior``: what the network was asked, and how its depth was tied to the scene.
    """

    def predict(adapted: PointmapNetwork) -> list[PhotoPrior]:
        return list(predict_scene(replace(inputs, network=adapted), pairs).priors)

    result = adapt(inputs, alignment, dense, predict, options, advance=advance)
    if not result.kept:
        return dense
    tied = fuse_depths(result.priors, alignment, dense.frames, options=prior)
    return replace(dense, priors=tuple(result.priors), depths=tuple(refill(dense.depths, tied)))
