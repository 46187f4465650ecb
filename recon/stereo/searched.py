"""What a search of one photo found, as it is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.stereo.cross_check import DeviceDepth
from recon.stereo.frame import Frame
from recon.stereo.photo import Photo2D, box_mean
from recon.stereo.plane_sweep import Scorer
from recon.stereo.search import Found

# By how much more (of scores from -1 to 1) than a sure prior other depth has to match: plain
# surfaces match at any depth.
_BENEFIT = 0.03


@dataclass(frozen=True)
class Searched:
    """What a search found, as arrays (h, w): depth and score, and where the next one starts;
    ``ground``: how high above level ground the camera is, None if it isn't seen.
    """

    depth: NDArray[np.float32]
    score: NDArray[np.float32]
    inverse: NDArray[np.float32] | None = None
    energy: NDArray[np.float32] | None = None
    step: NDArray[np.float32] | None = None
    ground: float | None = None

    @staticmethod
    def of(
        start: Found | None, depth: Tensor, score: Tensor, ground: float | None = None
    ) -> Searched:
        """Return depth and score (h, w), and what a next search starts from, if there is one."""
        found = depth.cpu().numpy(), score.cpu().numpy()
        if start is None:
            return Searched(*found, ground=ground)
        parts = start.inverse, start.energy, start.step
        inverse, energy, step = (part.cpu().numpy() for part in parts)
        return Searched(*found, inverse, energy, step, ground)

    @staticmethod
    def nothing(photo: Photo2D) -> Searched:
        """Return that nothing is known of a photo."""
        none = np.zeros(tuple(photo.grey.shape), np.float32)
        return Searched(none, none)

    def found(self, device: torch.device) -> Found | None:
        """Return where the next search starts."""
        if self.inverse is None or self.energy is None or self.step is None:
            return None
        parts = self.inverse, self.energy, self.step
        return Found(*(torch.from_numpy(part).to(device) for part in parts))

    def seen(self, photo: Photo2D) -> DeviceDepth:
        """Return depth and score with the photo of their size."""
        device = photo.grey.device
        return DeviceDepth(
            torch.from_numpy(self.depth).to(device), torch.from_numpy(self.score).to(device), photo
        )


def depth_of(
    scorer: Scorer, inverse: Tensor, step: Tensor, ends: tuple[float, Tensor], frame: Frame
) -> tuple[Tensor, Tensor]:
    """Return depth and score (h, w) of ``inverse`` depth that was found in steps of ``step``
    between two ``ends``, or of the prior where photos don't object to it.
    """
    low, high = ends
    # Sky and other things out of range end up at the first or last plane.
    within = (inverse > low + step) & (inverse < high - step)
    depth = torch.where(within, 1 / inverse.clamp_min(low), 0.0)
    if frame.usable is not None:
        within &= frame.usable
    known = frame.prior.depth > 0
    surface = torch.where(known, 1 / frame.prior.depth.clamp_min(1e-12), inverse)
    scores = scorer(torch.stack([inverse, surface]))
    better, least = box_mean(scores, 3).diff(dim=0)[0], -_BENEFIT * frame.prior.confidence
    keep = known & within & (better >= least)
    return (
        torch.where(keep, frame.prior.depth, depth),
        torch.where(keep, scores[1], scores[0]),
    )
