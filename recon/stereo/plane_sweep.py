"""Torch kernels of the plane sweep: warp by inverse depth, score by NCC, regularise along paths.

All tensors live on one device and are float32; every step is deterministic. Pixels follow
:mod:`pointmap.camera` (centres at +0.5). Volumes are (h, w, D): one score per pixel and hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pointmap.camera import pixel_centres, pixel_rays, project

# Grey levels are in [0, 1]; this variance (1.4 / 255 squared) is what sensor noise and JPEG leave
# on a plain surface, so that NCC fades to 0 there instead of matching noise.
_NOISE_VARIANCE = 3e-5
# Stands for the score of a pixel that a source doesn't see: below every score, which are -1 to 1.
_NOT_SEEN = -2.0
# Hypotheses warped at once, for bounded memory: a warp holds several copies of each.
_CHUNK = 16
# Step of grey levels (0 to 1) that e-folds the penalty for a jump of depth: 15 of 255, above noise.
_EDGE_STEP = 0.06


@dataclass(frozen=True)
class Photo2D:
    """A grey photo and its camera on the device: ``grey`` (h, w) in [0, 1], K and poses float64,
    radial distortion ``k1``.

    Geometry between photos is done in pinhole pixels (K alone); only the rays of a photo's own
    pixels, and looking it up at a place, pass through the lens.
    """

    grey: Tensor
    intrinsics: Tensor
    cam_to_world: Tensor
    k1: float = 0.0

    def halved(self) -> Photo2D:
        """Return the photo averaged down to half its size, K following."""
        height, width = self.grey.shape
        size = (max(height // 2, 8), max(width // 2, 8))
        grey = F.interpolate(self.grey[None, None], size, mode="area")[0, 0]
        scale = torch.tensor([size[1] / width, size[0] / height, 1.0], dtype=torch.float64)
        scaled = scale.to(self.intrinsics.device)[:, None] * self.intrinsics
        return Photo2D(grey, scaled, self.cam_to_world, self.k1)

    def pinhole_pixels(self) -> Tensor:
        """Return where a pinhole of the same K shows what each pixel sees (h, w, 2), float64."""
        height, width = self.grey.shape
        pixels = pixel_centres(width, height)
        if self.k1:
            K = self.intrinsics.cpu().numpy()
            pixels = project(pixel_rays(pixels, K, self.k1), K)
        return torch.from_numpy(pixels).to(self.grey.device)

    def through_lens(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the photo shows pinhole pixels u, v, and far outside beyond the lens."""
        if self.k1 == 0:
            return u, v
        (fx, skew, cx), (_, fy, cy) = self.intrinsics[:2].tolist()
        y = (v - cy) / fy
        x = (u - cx - skew * y) / fx
        bend = self.k1 * (x * x + y * y)
        bend = torch.where(bend > -1 / 3, bend, 1e6)
        return u + bend * (u - cx), v + bend * (v - cy)


def epipolar_terms(reference: Photo2D, source: Photo2D) -> tuple[Tensor, Tensor]:
    """Return A (h, w, 3) and b (3,): reference pixel at inverse depth r is at A + r b in source.

    A + r b is homogeneous pinhole pixels of source, its third entry proportional to depth there:
    K_s (R K_r^-1 x / r + t) = (A + r b) / r.
    """
    pixels = reference.pinhole_pixels()
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
    rays = homogeneous @ torch.linalg.inv(reference.intrinsics).T
    relative = torch.linalg.inv(source.cam_to_world) @ reference.cam_to_world
    A = rays @ (source.intrinsics @ relative[:3, :3]).T
    b = source.intrinsics @ relative[:3, 3]
    return A.float(), b.float()


def warp(source: Photo2D, A: Tensor, b: Tensor, inverse_depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``source`` sampled for hypotheses (D, h, w) of inverse depth, and where it is seen.

    ``inverse_depth`` broadcasts against (D, h, w). The second value is a boolean (D, h, w).
    """
    height, width = source.grey.shape
    z = A[..., 2] + inverse_depth * b[2]
    scale = 1.0 / z.clamp_min(1e-6)
    u = (A[..., 0] + inverse_depth * b[0]) * scale
    v = (A[..., 1] + inverse_depth * b[1]) * scale
    u, v = source.through_lens(u, v)
    seen = (z > 1e-6) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    grid = torch.stack([u * (2 / width) - 1, v * (2 / height) - 1], -1)
    count, h, w, _ = grid.shape
    sampled = F.grid_sample(
        source.grey[None, None],
        grid.reshape(1, count * h, w, 2),
        padding_mode="border",
        align_corners=False,
    )
    return sampled.reshape(count, h, w), seen


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Return means of (..., h, w) over squares of side 2 radius + 1, edges replicated."""
    h, w = values.shape[-2:]
    size = 2 * radius + 1
    padded = F.pad(values.reshape(-1, 1, h, w), (radius, radius, radius, radius), mode="replicate")
    rows = padded[..., :w].clone()
    for i in range(1, size):
        rows += padded[..., i : i + w]
    total = rows[..., :h, :].clone()
    for i in range(1, size):
        total += rows[..., i : i + h, :]
    return (total / size**2).reshape(values.shape)


class Scorer:
    """Scores inverse-depth hypotheses of one reference photo against its sources.

    The score of a pixel is the mean NCC of its best half of the sources that see it, so that a
    source where the surface is hidden does not vote (best-k, as in Kang, Szeliski and Chai 2001).
    """

    def __init__(self, reference: Photo2D, sources: Sequence[Photo2D], radius: int) -> None:
        self.radius = radius
        self.best = (len(sources) + 1) // 2
        self.terms = [(s, *epipolar_terms(reference, s)) for s in sources]
        self.grey = reference.grey
        self.mean = box_mean(reference.grey, radius)
        self.variance = self._variance(reference.grey, self.mean)

    def _variance(self, values: Tensor, mean: Tensor) -> Tensor:
        return (box_mean(values * values, self.radius) - mean * mean).clamp_min(0)

    def __call__(self, inverse_depth: Tensor) -> Tensor:
        """Return scores (D, h, w) in [-1, 1] of hypotheses (D, h, w), (D, 1, 1); unseen: 0."""
        h, w = self.grey.shape
        best = torch.full((self.best, len(inverse_depth), h, w), _NOT_SEEN, device=self.grey.device)
        for source, A, b in self.terms:
            sampled, seen = warp(source, A, b, inverse_depth)
            mean = box_mean(sampled, self.radius)
            variance = self._variance(sampled, mean)
            covariance = box_mean(sampled.mul_(self.grey), self.radius) - mean * self.mean
            noise = _NOISE_VARIANCE
            score = covariance * torch.rsqrt((variance + noise) * (self.variance + noise))
            score[~seen] = _NOT_SEEN
            for rank in range(self.best):
                worse = torch.minimum(best[rank], score)
                torch.maximum(best[rank], score, out=best[rank])
                score = worse
        valid = best > _NOT_SEEN
        return (best * valid).sum(0) / valid.sum(0).clamp_min(1)

    def cost_volume(self, first: Tensor, step: Tensor, count: int) -> Tensor:
        """Return costs (h, w, D) in [0, 1], 0 = perfect, of hypotheses first + step d (h, w)."""
        labels = torch.arange(count, device=first.device, dtype=first.dtype)
        cost = [
            (1 - self(first + step * chunk[:, None, None])).clamp_(0, 1)
            for chunk in labels.split(_CHUNK)
        ]
        return torch.cat(cost).permute(1, 2, 0).contiguous()

    def motion(self, low: Tensor, high: Tensor) -> int:
        """Return by how many pixels points move between two surfaces in the farthest source."""
        motion = 0.0
        for _, A, b in self.terms:
            ends = [A + inverse[..., None] * b for inverse in (low, high)]
            pixels = [end[..., :2] / end[..., 2:].clamp_min(1e-6) for end in ends]
            front = (ends[0][..., 2] > 0) & (ends[1][..., 2] > 0)
            if front.any():
                distance = (pixels[1] - pixels[0]).norm(dim=-1)[front]
                motion = max(motion, float(distance.median()))
        return int(motion)


def aggregate(cost: Tensor, grey: Tensor, small: float, large: float) -> Tensor:
    """Return the cost volume (h, w, D) summed along 8 paths (semi-global matching).

    Hirschmueller 2008, eq. 13: a step of one hypothesis costs ``small``, a larger one ``large``,
    eased towards ``small`` where the photo has an edge.
    """
    total = torch.zeros_like(cost)
    for transpose in (False, True):
        volume = cost.transpose(0, 1).contiguous() if transpose else cost
        image = grey.T.contiguous() if transpose else grey
        # Vertical passes carry the diagonals too; horizontal ones need only the straight path.
        shifts = (0,) if transpose else (-1, 0, 1)
        for backward in (False, True):
            for shift in shifts:
                path = _scan(volume, image, shift, backward, small, large)
                total += path.transpose(0, 1) if transpose else path
    return total / 8


def _scan(
    cost: Tensor, grey: Tensor, shift: int, backward: bool, small: float, large: float
) -> Tensor:
    """Return path costs (h, w, D) down the rows, stepping ``shift`` columns per row."""
    rows = range(cost.shape[0] - 1, -1, -1) if backward else range(cost.shape[0])
    path = torch.empty_like(cost)
    last = last_grey = None
    for row in rows:
        here = cost[row]
        if last is None or last_grey is None:
            path[row] = here
        else:
            previous = _shifted(last, shift)
            step = (grey[row] - _shifted(last_grey[:, None], shift)[:, 0]).abs()
            jump = small + (large - small) * torch.exp(-step / _EDGE_STEP)
            lowest = previous.amin(-1, keepdim=True)
            best = torch.minimum(previous, lowest + jump[:, None])
            best[:, 1:] = torch.minimum(best[:, 1:], previous[:, :-1] + small)
            best[:, :-1] = torch.minimum(best[:, :-1], previous[:, 1:] + small)
            path[row] = here + best - lowest
        last, last_grey = path[row], grey[row]
    return path


def _shifted(values: Tensor, shift: int) -> Tensor:
    """Return rows moved by ``shift`` columns, the border repeated."""
    if shift == 0:
        return values
    if shift > 0:
        return torch.cat([values[:1], values[:-1]])
    return torch.cat([values[1:], values[-1:]])


def lowest_label(volume: Tensor) -> Tensor:
    """Return the (h, w) fractional index of the lowest cost: a parabola through its neighbours."""
    labels = volume.shape[-1]
    index = volume.argmin(-1)
    inner = index.clamp(1, labels - 2)
    low, mid, high = (volume.gather(-1, (inner + step)[..., None])[..., 0] for step in (-1, 0, 1))
    curvature = (low - 2 * mid + high).clamp_min(1e-6)
    offset = (0.5 * (low - high) / curvature).clamp(-0.5, 0.5)
    return torch.where(index == inner, index + offset, index.float())


def median_filter(values: Tensor, radius: int) -> Tensor:
    """Return medians of (h, w) over squares of side 2 radius + 1."""
    size = 2 * radius + 1
    h, w = values.shape
    padded = F.pad(values[None, None], (radius,) * 4, mode="replicate")
    patches = padded.unfold(2, size, 1).unfold(3, size, 1).reshape(h, w, size * size)
    return patches.median(-1).values


def plane_fit(inverse: Tensor, weight: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the plane through the neighbours of each pixel: its value, residual, mean weight.

    Inverse depth (h, w) is affine in pixels on a plane, so a weighted fit v = a + b x + c y in a
    window of ``radius`` is exact there. The residual is the weighted root mean square.
    """
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
