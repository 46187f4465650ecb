"""The similarity of the plane that takes the matches of one photo to those of another one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pointmap.camera import Array
from recon.stage_results import PairMatches

# Rounds of weighting matches by how far off they are, which ends at their median, not their mean
# (iteratively reweighted least squares), and the distance, in units of the key points' accuracy,
# within which all weigh the same.
_ROUNDS, _NEAR = 12, 0.25


@dataclass(frozen=True)
class Similarity:
    """``z_j = turn z_i + shift``, positions (x, y) as complex numbers.

    ``off`` (M,): how far the matches are from that, in units of the key points' accuracy in the
    coarser of the two pictures.
    """

    turn: complex
    shift: complex
    off: Array

    @property
    def zoom(self) -> float:
        """How many times as large things are in the second picture."""
        return abs(self.turn)


def fitted_similarity(pair: PairMatches) -> Similarity | None:
    """Return the similarity of a pair's matches, most of which are taken to obey one; None where
    they say none, as where all lie in one place.
    """
    if len(pair) < 2:
        return None
    z_i, z_j = (xy[:, 0] + 1j * xy[:, 1] for xy in (pair.xy_i, pair.xy_j))
    weight = np.ones(len(pair))
    turn, shift, off = 1 + 0j, 0j, np.zeros(len(pair))
    for _ in range(_ROUNDS):
        weight /= weight.sum()
        mean_i, mean_j = weight @ z_i, weight @ z_j
        spread = float(weight @ np.abs(z_i - mean_i) ** 2)
        turn = complex((weight * np.conj(z_i - mean_i)) @ (z_j - mean_j)) / max(spread, 1e-12)
        if spread == 0 or turn == 0:
            return None
        shift = complex(mean_j - turn * mean_i)
        off = np.abs(turn * z_i + shift - z_j)
        weight = 1 / np.maximum(off, _NEAR * pair.sigma_px)
    return Similarity(turn, shift, off / (pair.sigma_px * max(abs(turn), 1.0)))
