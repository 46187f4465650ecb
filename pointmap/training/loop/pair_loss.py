"""What a network says of pairs of photos against the truth: the loss that training minimises."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from pointmap.network import MatchedNetwork, PointmapNetwork, Prediction
from pointmap.network.heads import DirectedPrediction
from pointmap.network.matched.cell_matches import Comparison
from pointmap.network.tokens import PhotoTokens, Size
from pointmap.training.batches.pairs import PairBatch
from pointmap.training.losses import PointmapLoss, log_depth_loss, pointmap_loss
from pointmap.training.losses.correspondence import (
    AttentionProbe,
    cell_targets,
    correspondence_loss,
    matching_loss,
    patch_targets,
    verification_loss,
    window_loss,
    window_targets,
)


def pair_loss(
    network: PointmapNetwork,
    batch: PairBatch,
    *,
    alpha: float,
    probe: AttentionProbe | None = None,
    attention_weight: float = 0.0,
    match_weight: float = 0.0,
) -> PointmapLoss:
    """Return the loss over both directions of every pair; each photo is encoded once.

    Direction (2, 1) has its truth in camera 2's frame. With a ``probe``, the cross-attention loss
    joins the total; in networks with a matcher, its loss and that of depth by itself do.
    """
    photos = network.encode(torch.cat([batch.image1, batch.image2])).halves()
    size = (batch.image1.shape[-2], batch.image1.shape[-1])
    with probe.recording() if probe else nullcontext():
        predicted, compared = _both_directions(network, *photos)
    cam1_to_cam2 = torch.linalg.inv(batch.cam2_to_cam1)
    own2 = _transform(cam1_to_cam2, batch.points2)
    points1_in_2 = _transform(cam1_to_cam2, batch.points1)

    some = _some_pixels(size).to(batch.image1.device)

    def both(one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one.flatten(1, 2)[:, some], other.flatten(1, 2)[:, some]])

    own_points, own_valid = both(batch.points1, own2), both(batch.valid1, batch.valid2)
    points1, points2 = (view.pts3d.flatten(1, 2)[:, some] for view in predicted)
    loss = pointmap_loss(
        (points1, points2),
        (predicted.view1.conf.flatten(1, 2)[:, some], predicted.view2.conf.flatten(1, 2)[:, some]),
        (own_points, both(batch.points2, points1_in_2)),
        (own_valid, both(batch.valid2, batch.valid1)),
        alpha=alpha,
    )
    to2 = (points1_in_2, batch.valid1, batch.intrinsics2, batch.depth2)
    to1 = (batch.points2, batch.valid2, batch.intrinsics1, batch.depth1)
    if probe is not None:
        attention = _attention_loss(probe, to2, to1, network.config.patch_size)
        loss = replace(
            loss, total=loss.total + attention_weight * attention, attention=attention.detach()
        )
    if compared is not None:
        matching = _comparison_loss(compared, to2, to1)
        # Depth for its own sake: in the loss of points, a wrong pose drowns it.
        depth = log_depth_loss(points1[..., 2], own_points[..., 2], own_valid)
        total = loss.total + match_weight * matching + depth
        loss = replace(loss, total=total, matching=matching.detach())
    return loss


_Truth = tuple[Tensor, Tensor, Tensor, Tensor]
"""What tells where a photo's pixels lie in the other photo: their points (B, H, W, 3) in the other
camera's frame, which of them are valid (B, H, W), the other's K (B, 3, 3) and depth (B, H, W)."""


def _attention_loss(probe: AttentionProbe, to2: _Truth, to1: _Truth, patch: int) -> Tensor:
    """Return the mean cross-attention loss of what the ``probe`` recorded, a scalar."""
    there, back = patch_targets(*to2, patch=patch), patch_targets(*to1, patch=patch)
    # The first decoder's rows are photo 1 looking at 2, then 2 at 1; the second's vice versa.
    targets = (torch.cat([there, back]), torch.cat([back, there]))
    terms = [
        correspondence_loss(logits, target)
        for side, target in zip(probe.logits, targets, strict=True)
        for logits in side
    ]
    return torch.stack(terms).mean()


def _comparison_loss(compared: Comparison, to2: _Truth, to1: _Truth) -> Tensor:
    """Return the loss of a matcher's cells, windows and inlier logits, a scalar."""
    window1, window2 = compared.window1, compared.window2
    terms = [
        matching_loss(compared.cells1, compared.cells2, cell_targets(*to2)),
        matching_loss(compared.cells2, compared.cells1, cell_targets(*to1)),
        window_loss(window1, window_targets(window1, *to2)),
        window_loss(window2, window_targets(window2, *to1)),
    ]
    checks = [
        verification_loss(compared.inlier1, window1, *to2),
        verification_loss(compared.inlier2, window2, *to1),
    ]
    return torch.stack(terms).mean() + torch.stack(checks).mean()


def _some_pixels(size: Size) -> Tensor:
    """Return indices of one pixel of every square of 2x2, drawn anew from torch's own generator.

    Not those of a grid: the loss has no scale of its own, and four grids of every other pixel,
    taken in turn, drift to scales of their own, until pointmaps are a mosaic.
    """
    rows, columns = (torch.arange(side // 2) * 2 for side in size)
    drawn = torch.randint(4, (len(rows), len(columns)))
    return ((rows[:, None] + drawn // 2) * size[1] + columns + drawn % 2).flatten()


def _both_directions(
    network: PointmapNetwork, photos1: PhotoTokens, photos2: PhotoTokens
) -> tuple[DirectedPrediction, Comparison | None]:
    """Return the predictions of B pairs (1, 2) and then of the same pairs as (2, 1).

    And how the photos of (1, 2) compare, in a network that compares them.
    """
    compared = None
    if isinstance(network, MatchedNetwork):
        compared = network.compare(photos1, photos2)
        forth, back = network.decode_compared(photos1, photos2, compared)
    else:
        forth, back = network.decode_both(photos1, photos2)
    predicted = DirectedPrediction(
        *(
            Prediction(torch.cat([one.pts3d, other.pts3d]), torch.cat([one.conf, other.conf]))
            for one, other in zip(forth, back, strict=True)
        )
    )
    return predicted, compared


def _transform(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply rigid (B, 4, 4) to points (B, H, W, 3)."""
    rotated = torch.einsum("bij,bhwj->bhwi", matrix[:, :3, :3], points)
    return rotated + matrix[:, None, None, :3, 3]
