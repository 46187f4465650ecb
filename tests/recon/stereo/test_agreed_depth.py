"""Where nothing is confirmed: what most photos inferred of a place, each by itself."""

import numpy as np
import torch
from synthetic import Plane, Shot, shoot

from recon.stereo.agreed_depth import agreed_depth
from recon.stereo.cross_check import DeviceDepth, Estimate
from recon.stereo.photo import Photo2D

WALLS = (Plane((0.0, 0.0, 1.0), 2.0), Plane((0.0, 1.0, 0.0), 1.0))


def inferred(shot: Shot, factor: float, confidence: float = 0.2) -> DeviceDepth:
    depth = torch.from_numpy(shot.depth) * factor
    photo = Photo2D(
        torch.zeros(depth.shape),
        torch.from_numpy(shot.intrinsics),
        torch.from_numpy(shot.cam_to_world),
    )
    return DeviceDepth(depth, torch.full(depth.shape, confidence), photo)


def agreed(own: DeviceDepth, others: list[DeviceDepth]) -> torch.Tensor:
    return agreed_depth(Estimate(own.depth, own.score), others, own.photo).depth


def error(depth: torch.Tensor, shot: Shot) -> float:
    """Median relative error."""
    return float(np.median(np.abs(depth.numpy() / shot.depth - 1)))


def test_those_that_agree_outvote_the_rest_and_oneself() -> None:
    shots = shoot(6, width=96, height=72, span_deg=40, surfaces=WALLS)
    factors = (0.93, 1.0, 1.09, 1.003, 0.96, 0.998)
    own, *others = [inferred(s, f) for s, f in zip(shots, factors, strict=True)]
    assert error(agreed(own, others), shots[0]) < 0.01
    # With two that differ there is no telling.
    assert error(agreed(own, [others[1], others[3]]), shots[0]) > 0.03


def test_what_is_confirmed_and_what_is_far_behind_stay_as_they_are() -> None:
    shots = shoot(4, width=96, height=72, span_deg=40, surfaces=WALLS)
    others = [inferred(s, 1.0) for s in shots[1:]]
    for own in (inferred(shots[0], 0.95, confidence=0.5), inferred(shots[0], 0.7)):
        torch.testing.assert_close(agreed(own, others), own.depth)
    unknown = inferred(shots[0], 0.0)
    assert (agreed(unknown, others) == 0).all()
