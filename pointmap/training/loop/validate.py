"""What the network knows of pairs it was not trained on: figures, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pointmap.camera import rotation_angle_deg
from pointmap.metrics import auc_at, recall_at
from pointmap.network import PointmapNetwork
from pointmap.network.heads import DirectedPrediction
from pointmap.training.batches.pairs import PairBatch
from pointmap.training.loop.pair_loss import pair_loss
from pointmap.training.loop.registration import register_frames


@dataclass(frozen=True)
class Validation:
    """Means over held-out pairs, both directions.

    ``error1``, ``error2``: normalised point errors as in training. ``abs_rel``, ``delta1``: depth
    of view 1 after one median scale per photo: mean |d - d*| / d*, and the share of pixels with
    max(d / d*, d* / d) < 1.25 (Eigen et al. 2014). ``focal_error``: median of |f / f* - 1|, with
    f from view 1's pointmap. ``rra15``, ``rta15``, ``auc30``: percent of pairs whose rotation and
    translation direction are right to 15 degrees, and the area under the larger error's curve, of
    the pose by which both directions' pointmaps register (as ``recon.evaluation two-view`` has it).
    """

    error1: float
    error2: float
    abs_rel: float
    delta1: float
    focal_error: float
    rra15: float
    rta15: float
    auc30: float


class _ViewErrors(NamedTuple):
    """A row of the table that :class:`Validation` sums up: one view 1."""

    error1: float
    error2: float
    abs_rel: float
    delta1: float
    focal_error: float


@torch.no_grad()
def validate(network: PointmapNetwork, batches: Sequence[PairBatch]) -> Validation:
    """Score ``network`` on ``batches``, which are on its device."""
    network.eval()
    rows, poses = [], []
    for batch in batches:
        loss = pair_loss(network, batch, alpha=0.2)
        forth, back = network(batch.image1, batch.image2), network(batch.image2, batch.image1)
        poses.append(_pose_errors_deg(forth, back, batch))
        for points, truth, valid, K in zip(
            forth.view1.pts3d, batch.depth1, batch.valid1, batch.intrinsics1, strict=True
        ):
            if valid.sum() < 16:
                continue
            depth, truth = points[..., 2][valid].clamp(min=1e-6), truth[valid]
            ratio = depth * (truth / depth).median() / truth
            focal = _focal(points)
            rows.append(
                _ViewErrors(
                    float(loss.error1),
                    float(loss.error2),
                    float((ratio - 1).abs().mean()),
                    float((torch.maximum(ratio, 1 / ratio) < 1.25).float().mean()),
                    abs(focal / float(K[0, 0]) - 1),
                )
            )
    means = _ViewErrors(*torch.tensor(rows, dtype=torch.float64).mean(0).tolist())
    focal_errors = torch.tensor([row.focal_error for row in rows], dtype=torch.float64)
    rotation, translation = torch.cat(poses).T.numpy()
    return Validation(
        means.error1,
        means.error2,
        means.abs_rel,
        means.delta1,
        float(focal_errors.median()),
        recall_at(rotation, 15),
        recall_at(translation, 15),
        auc_at(np.maximum(rotation, translation), 30),
    )


def _pose_errors_deg(
    forth: DirectedPrediction, back: DirectedPrediction, batch: PairBatch
) -> Tensor:
    """Return errors (B, 2) float64 on the CPU: of rotation and of translation direction."""
    in_first, in_second, weights = [], [], []
    for one, other in ((forth.view1, back.view2), (forth.view2, back.view1)):
        in_first.append(one.pts3d[:, ::3, ::3].flatten(1, 2))
        in_second.append(other.pts3d[:, ::3, ::3].flatten(1, 2))
        weights.append((one.conf * other.conf)[:, ::3, ::3].flatten(1).sqrt())
    found = register_frames(
        *(torch.cat(part, 1).double() for part in (in_first, in_second, weights))
    )
    truth = batch.cam2_to_cam1.double()
    turn = truth[:, :3, :3].transpose(1, 2) @ found[:, :3, :3]
    cosine = torch.nn.functional.cosine_similarity(found[:, :3, 3], truth[:, :3, 3])
    rotation = rotation_angle_deg(turn.cpu().numpy())
    translation = cosine.clamp(-1, 1).arccos().rad2deg().cpu()
    return torch.stack([torch.from_numpy(rotation), translation], dim=1)


def _focal(points: Tensor) -> float:
    """Return the focal in pixels that fits a centred pointmap (H, W, 3): a median of votes."""
    height, width = points.shape[:2]
    x = torch.arange(width, device=points.device) + 0.5 - width / 2
    y = torch.arange(height, device=points.device) + 0.5 - height / 2
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    direction = points[..., :2] / points[..., 2:].clamp(min=1e-6)
    # Least squares along each pixel's own direction from the centre; the median over pixels.
    votes = (grid * direction).sum(-1) / direction.square().sum(-1).clamp(min=1e-9)
    return float(votes[points[..., 2] > 1e-6].median()) if (points[..., 2] > 1e-6).any() else 0.0


@torch.no_grad()
def write_sheet(network: PointmapNetwork, batch: PairBatch, path: Path, *, rows: int = 6) -> None:
    """Write a PNG, a pair a row: photos, true and predicted inverse depth, both confidences."""
    from PIL import Image

    network.eval()
    first, second = network(batch.image1[:rows], batch.image2[:rows])
    lines = []
    for k in range(min(rows, len(batch.image1))):
        photos = [(image[k].permute(1, 2, 0) + 1) / 2 for image in (batch.image1, batch.image2)]
        maps = [
            _grey(1 / batch.depth1[k].clamp(min=1e-6) * batch.valid1[k]),
            _grey(1 / first.pts3d[k, ..., 2].clamp(min=1e-3)),
            _grey(first.conf[k].log()),
            _grey(second.conf[k].log()),
        ]
        lines.append(torch.cat([*photos, *maps], dim=1))
    sheet = (torch.cat(lines).clamp(0, 1) * 255).to(torch.uint8).cpu()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.numpy()).save(path)


def _grey(values: Tensor) -> Tensor:
    """Stretch a map (H, W) between its 2nd and 98th percentile to grey (H, W, 3)."""
    low, high = (torch.quantile(values.flatten().float(), q) for q in (0.02, 0.98))
    return ((values - low) / (high - low).clamp(min=1e-9))[..., None].expand(-1, -1, 3)
