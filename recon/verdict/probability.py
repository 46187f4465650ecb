"""How likely a scene is wrong, by the signs that speak against it."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array
from recon.verdict.evidence import SceneEvidence

USUAL_SPREAD = np.log(2)
"""Photos of one scene are seldom taken at focal lengths that are farther apart (logarithm)."""

# Median of the scenes that figures were fitted to; nine tenths of them have 4 to 41 degrees.
_USUAL_PARALLAX_DEG = 12.0

# Weight of each of :func:`signs`, and offset (:func:`probability_wrong`); and the same where the
# cameras were solved for again, whose sign comes last. Fitted by ``benchmarks.verdict --fit`` to
# scenes of known truth, right and made wrong; no weight is less than 0. That of zooms, one for
# both, was fitted later, to clear scenes solved anew, all others held: 5.9, and 5.3 to 6.5 without
# one of the places. benchmarks/README.md has the held-out figures.
_WEIGHTS, _OFFSET = np.array([0.87, 6.51, 4.44, 6.0]), -1.06
_WEIGHTS_AGAIN, _OFFSET_AGAIN = np.array([0.99, 2.64, 2.21, 6.0, 2.73]), -1.68
# The same of two photos that the network has looked at, whose two signs come last. Fitted by
# ``benchmarks.verdict_pairs --fit``; the weight of zooms is that of the others.
_WEIGHTS_NETWORK, _OFFSET_NETWORK = np.array([0.38, 2.08, 3.31, 6.0, 3.59, 0.74]), -0.83
# Slope and offset of the rate of look-alikes: their matches fit, so that nothing else tells.
_ALIKE_SLOPE, _ALIKE_OFFSET = 4.35, -2.93


def signs(evidence: SceneEvidence) -> Array:
    """Return what speaks against a scene, larger for worse, as logarithms: four signs, five of a
    scene whose cameras were solved for again, six of two photos that the network has looked at.

    How far a richer camera would move photos, weighed with how much better it fits, and how far the
    observations' errors let them move (degrees); how much better matches fit their own pair's
    geometry; focal lengths, of one scene and told by nothing, that are far apart; how far cameras
    solved for again stand from these, seen from the points: where photos stand close together, a
    direction is soon another one. Of two photos: how far the network's focal lengths are from
    theirs, and what its poses say.
    """
    gain = max(1 - evidence.left, 0.0)
    told = [
        np.log10(evidence.shift_deg * gain**0.5 + 0.05),
        np.log10(evidence.error_deg + 0.3),
        evidence.strain,
        max(evidence.focal_spread - USUAL_SPREAD, 0.0),
    ]
    if evidence.again_deg is not None:
        # Less than a degree says nothing: a camera of the wrong kind comes out again, too.
        apart = evidence.again_deg * evidence.parallax_deg / _USUAL_PARALLAX_DEG
        told.append(np.log10(apart + 1.0))
    elif evidence.network is not None:
        told += [evidence.network.focal_apart, evidence.network.against]
    return np.array(told)


def probability_wrong(evidence: SceneEvidence) -> float:
    """Return the probability that the median pair of photos is off by more than 5 degrees.

    The signs add up (logistic regression). Look-alikes tell by themselves.
    """
    told = signs(evidence)
    weights, offset = _WEIGHTS, _OFFSET
    if evidence.again_deg is not None:
        weights, offset = _WEIGHTS_AGAIN, _OFFSET_AGAIN
    elif evidence.network is not None:
        weights, offset = _WEIGHTS_NETWORK, _OFFSET_NETWORK
    by_geometry = 1 / (1 + np.exp(-(told @ weights + offset)))
    return float(1 - (1 - by_geometry) * one_place(evidence.look_alikes))


def one_place(look_alikes: float) -> float:
    """Return the probability that photos are of one place, by how strongly they contradict it."""
    rate = np.logaddexp(0, _ALIKE_SLOPE * np.log10(look_alikes + 1) + _ALIKE_OFFSET)
    return float(np.exp(np.logaddexp(0, _ALIKE_OFFSET) - rate))
