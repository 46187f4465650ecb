"""The plane sweep in torch, for a GPU: thousands of operations, each on many pixels at once.

All tensors live on one device and are float32; every step is deterministic. Volumes are (h, w, D):
one score per pixel and hypothesis. On a CPU :mod:`recon.stereo.compiled_sweep` does the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.stereo.photo import (
    EDGE_STEP,
    GUESS_WIDTH,
    LEAST_DEPTH,
    NOISE_VARIANCE,
    NOT_SEEN,
    WINDOW,
    Photo2D,
    Votes,
    box_mean,
    epipolar_terms,
)

# Hypotheses warped at once, for bounded memory: a warp holds several copies of each.
_CHUNK = 16


def warp(source: Photo2D, A: Tensor, b: Tensor, inverse_depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``source`` sampled for hypotheses (D, h, w) of inverse depth, and where it is seen.

    ``inverse_depth`` broadcasts against (D, h, w). The second value is a boolean (D, h, w).
    """
    height, width = source.grey.shape
    z = A[..., 2] + inverse_depth * b[2]
    scale = 1.0 / z.clamp_min(LEAST_DEPTH)
    u = (A[..., 0] + inverse_depth * b[0]) * scale
    v = (A[..., 1] + inverse_depth * b[1]) * scale
    seen = (z > LEAST_DEPTH) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    grid = torch.stack([u * (2 / width) - 1, v * (2 / height) - 1], -1)
    count, h, w, _ = grid.shape
    sampled = F.grid_sample(
        source.grey[None, None],
        grid.reshape(1, count * h, w, 2),
        padding_mode="border",
        align_corners=False,
    )
    return sampled.reshape(count, h, w), seen


class PhotoScorer:
    """:class:`recon.stereo.plane_sweep.Scorer` of photos on any device."""

    def __init__(self, reference: Photo2D, sources: Sequence[Photo2D]) -> None:
        self.reference, self.sources = reference, sources
        self._best = (len(sources) + 1) // 2
        self._terms = [(s, *epipolar_terms(reference, s)) for s in sources]
        self._mean = box_mean(reference.grey, WINDOW)
        self._variance = _variance(reference.grey, self._mean)

    def __call__(self, inverse: Tensor) -> Tensor:
        """Return scores (D, h, w) in [-1, 1] of surfaces (D, h, w) of inverse depth; unseen: 0."""
        grey = self.reference.grey
        best = torch.full((self._best, *inverse.shape), NOT_SEEN, device=grey.device)
        for source, A, b in self._terms:
            sampled, seen = warp(source, A, b, inverse)
            mean = box_mean(sampled, WINDOW)
            variance = _variance(sampled, mean)
            covariance = box_mean(sampled.mul_(grey), WINDOW) - mean * self._mean
            noise = NOISE_VARIANCE
            score = covariance * torch.rsqrt((variance + noise) * (self._variance + noise))
            score[~seen] = NOT_SEEN
            for rank in range(self._best):
                worse = torch.minimum(best[rank], score)
                torch.maximum(best[rank], score, out=best[rank])
                score = worse
        valid = best > NOT_SEEN
        return (best * valid).sum(0) / valid.sum(0).clamp_min(1)

    def lowest(
        self,
        first: Tensor,
        step: Tensor,
        count: int,
        smoothness: tuple[float, float],
        votes: Votes | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return which of the surfaces first + step d has the least energy, fractional, and that
        energy, (h, w) each.
        """
        labels = torch.arange(count, device=first.device, dtype=first.dtype)
        costs = []
        for chunk in labels.split(_CHUNK):
            inverse = first + step * chunk[:, None, None]
            cost = (1 - self(inverse)).clamp_(0, 1)
            if votes is not None:
                away = 2 / GUESS_WIDTH * (inverse - votes.inverse) / (inverse + votes.inverse)
                cost += votes.weight * away.square_().clamp_max_(1)
            costs.append(cost)
        volume = torch.cat(costs).permute(1, 2, 0).contiguous()
        volume = aggregate(volume, self.reference.grey, *smoothness)
        return lowest_label(volume), volume.amin(-1)


def _variance(values: Tensor, mean: Tensor) -> Tensor:
    return (box_mean(values * values, WINDOW) - mean * mean).clamp_min(0)


def aggregate(cost: Tensor, grey: Tensor, small: float, large: float) -> Tensor:
    """Return the cost volume (h, w, D) summed along 8 paths (semi-global matching).

    Hirschmueller 2008, eq. 13: a step of one hypothesis costs ``small``, a larger one ``large``,
    eased towards ``small`` where the photo has an edge.
    """
    # Vertical passes carry the diagonals too; horizontal ones need only the straight path.
    down = _down_and_up(cost, grey, (-1, 0, 1), small, large)
    turned = cost.transpose(0, 1).contiguous(), grey.T.contiguous()
    return (down + _down_and_up(*turned, (0,), small, large).transpose(0, 1)) / 8


def _down_and_up(
    cost: Tensor, grey: Tensor, shifts: tuple[int, ...], small: float, large: float
) -> Tensor:
    """Return the sum (h, w, D) of path costs down and up the rows, stepping ``shifts`` columns.

    All paths take their steps together, rows from both ends, as a GPU is kept waiting by many small
    operations. Their values are (2, S, w, D): down and up, shifts.
    """
    height, width, labels = cost.shape
    columns = torch.arange(width, device=cost.device)
    # Where the path to a column comes from, the border repeated.
    before = torch.stack([(columns - shift).clamp(0, width - 1) for shift in shifts])
    index = before[None, :, :, None].expand(2, -1, -1, labels)
    both = torch.stack([grey, grey.flip(0)])
    steps = (both[:, 1:, None] - both[:, :-1, before]).abs()
    jumps = (small + (large - small) * torch.exp(-steps / EDGE_STEP))[..., None]
    total = torch.zeros_like(cost)
    path = None
    for row in range(height):
        here = torch.stack([cost[row], cost[height - 1 - row]])[:, None]
        if path is None:
            path = here.expand(2, len(shifts), width, labels)
        else:
            previous = path.gather(2, index)
            lowest = previous.amin(-1, keepdim=True)
            best = torch.minimum(previous, lowest + jumps[:, row - 1])
            near = previous + small
            best[..., 1:] = torch.minimum(best[..., 1:], near[..., :-1])
            best[..., :-1] = torch.minimum(best[..., :-1], near[..., 1:])
            path = here + best - lowest
        sums = path.sum(1)
        total[row] += sums[0]
        total[height - 1 - row] += sums[1]
    return total


def lowest_label(volume: Tensor) -> Tensor:
    """Return the (h, w) fractional index of the lowest cost: a parabola through its neighbours."""
    labels = volume.shape[-1]
    index = volume.argmin(-1)
    inner = index.clamp(1, labels - 2)
    low, mid, high = (volume.gather(-1, (inner + step)[..., None])[..., 0] for step in (-1, 0, 1))
    curvature = (low - 2 * mid + high).clamp_min(1e-6)
    offset = (0.5 * (low - high) / curvature).clamp(-0.5, 0.5)
    return torch.where(index == inner, index + offset, index.float())


def median_filter(values: Tensor) -> Tensor:
    """:func:`recon.stereo.plane_sweep.median_filter` on any device."""
    size = 5
    h, w = values.shape
    padded = F.pad(values[None, None], (size // 2,) * 4, mode="replicate")
    patches = padded.unfold(2, size, 1).unfold(3, size, 1).reshape(h, w, size * size)
    return patches.median(-1).values


def plane_fit(inverse: Tensor, weight: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`recon.stereo.plane_sweep.plane_fit` on any device."""
    h, w = inverse.shape
    weight, value = weight.double(), inverse.double()
    y, x = torch.meshgrid(
        torch.arange(h, device=value.device).double(),
        torch.arange(w, device=value.device).double(),
        indexing="ij",
    )
    products = [weight, weight * x, weight * y, weight * x * x, weight * x * y, weight * y * y]
    products += [weight * value * factor for factor in (torch.ones_like(x), x, y, value)]
    m, mx, my, mxx, mxy, myy, mv, mvx, mvy, mvv = box_mean(torch.stack(products), radius)
    total = m.clamp_min(1e-9)
    mean_x, mean_y, mean_v = mx / total, my / total, mv / total
    # Covariances; the ridge keeps lone columns or rows of pixels from tilting the plane.
    xx, yy = mxx / total - mean_x**2 + 1e-3, myy / total - mean_y**2 + 1e-3
    xy = mxy / total - mean_x * mean_y
    vx, vy = mvx / total - mean_v * mean_x, mvy / total - mean_v * mean_y
    determinant = (xx * yy - xy * xy).clamp_min(1e-6)
    b = (vx * yy - vy * xy) / determinant
    c = (vy * xx - vx * xy) / determinant
    fitted = mean_v + b * (x - mean_x) + c * (y - mean_y)
    variance = mvv / total - mean_v**2 - b * vx - c * vy
    return fitted.float(), variance.clamp_min(0).sqrt().float(), m.float()
