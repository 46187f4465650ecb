"""Depth between two surfaces that lie apart, where a prior sees no outlines.

What is filled in beside an outline is a mean of the thing in front and what is behind, and so is a
coarse prior: neither is a surface. A pixel is on one of both, mostly on that from which no edge of
colour parts it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.stereo.plain_regions import BLUR

_APART, _BETWEEN = 1.25, 0.03
"""Surfaces lie apart whose depths differ by such a factor; depth is between them that differs from
both by more than this share."""
_REACH, _INNER = 0.08, 2
"""How far known depth may be, as a share of the photo's longer side; and by how many pixels it ends
sooner: beside outlines it is too wide (foreground fattening)."""
_FAR = 50.0
"""What the photo's longer side costs as a way, in grey levels."""
_STEP, _FEWEST, _SOME, _SEES = 0.02, 50, 0.3, 0.75
"""Pixels so far from each other, a share of the photo's longer side, tell whether a prior sees
outlines: of at least so many known pairs that lie apart, those at which it has some of the step (of
logarithms), it has this share of most of these steps. Where it has none, the known step may be that
of an image in a mirror."""


def on_surfaces(filled: Tensor, known: Tensor, prior: Tensor, pixels: Tensor) -> Tensor:
    """Return ``filled`` depth (h, w), that which lies between surfaces on one of them.

    ``known`` (h, w): where it is not to be changed and tells surfaces; ``prior`` (h, w): depth, 0 =
    unknown; ``pixels`` (h, w, 3) in [0, 1].
    """
    # Here, not above: who only needs torch need not wait for numba.
    import cv2

    from recon.stereo.loops.around import depths_around

    depth, sure = filled.cpu().numpy(), known.cpu().numpy()
    if sees_outlines(depth, sure, prior.cpu().numpy()):
        return filled
    colours = cv2.GaussianBlur(255 * pixels.cpu().numpy(), (0, 0), BLUR)
    inner = cv2.erode(sure.astype(np.uint8), np.ones((2 * _INNER + 1,) * 2, np.uint8)) > 0
    longer = max(depth.shape)
    nearest, farthest, likely = depths_around(
        inner,
        np.ascontiguousarray(depth, np.float32),
        np.ascontiguousarray(colours, np.float32),
        _REACH * longer,
        _FAR / longer,
    )
    between = ~sure & (depth > (1 + _BETWEEN) * nearest) & (depth < (1 - _BETWEEN) * farthest)
    between &= (nearest > 0) & (farthest > _APART * nearest)
    return torch.from_numpy(np.where(between, likely, depth)).to(filled.device)


def sees_outlines(
    depth: NDArray[np.float32],
    known: NDArray[np.bool_],
    prior: NDArray[np.float32],
) -> bool:
    """Return whether a ``prior`` (h, w), where it has a part of the steps of ``known`` depth (h, w)
    from one surface to another, has all of them, or there are hardly any.
    """
    sure = known & (prior > 0)
    logs = [np.log(np.where(sure, values, 1)) for values in (depth, prior)]
    apart = max(round(_STEP * max(depth.shape)), 1)
    shares = []
    for here, there in (
        (np.s_[:, apart:], np.s_[:, :-apart]),
        (np.s_[apart:], np.s_[:-apart]),
    ):
        step, its = (values[here] - values[there] for values in logs)
        large = sure[here] & sure[there] & (np.abs(step) > np.log(_APART))
        shares.append(its[large] / step[large])
    every = np.concatenate(shares)
    if len(every) < _FEWEST:
        return True
    some = every[every > _SOME]
    return len(some) >= _FEWEST and bool(np.median(some) > _SEES)
