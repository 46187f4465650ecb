"""Surfaces of inverse depth held against the photos: by compiled loops on a CPU, else by torch.

Both do the same in another order of sums: scores differ by less than 1e-3, depth by that at which
two hypotheses are equally good.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

from torch import Tensor, device

from recon.stereo.photo import Photo2D, Votes


class Scorer(Protocol):
    """Scores inverse-depth hypotheses of one reference photo against its sources.

    The score of a pixel is the mean NCC of its best half of the sources that see it, so that a
    source where the surface is hidden does not vote (best-k, as in Kang, Szeliski and Chai 2001).
    """

    reference: Photo2D
    sources: Sequence[Photo2D]

    def __call__(self, inverse: Tensor) -> Tensor:
        """Return scores (D, h, w) in [-1, 1] of surfaces (D, h, w) of inverse depth; unseen: 0."""

    def lowest(
        self,
        first: Tensor,
        step: Tensor,
        count: int,
        smoothness: tuple[float, float],
        votes: Votes | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return which of ``count`` surfaces first + step d fits photos, ``votes`` and neighbours
        best, fractional, and the energy of that choice, (h, w) each.

        Energy: costs 0 (perfect) to 1 and votes, summed along 8 paths (semi-global matching,
        Hirschmueller 2008, eq. 13) and averaged. A step of one hypothesis costs smoothness[0], a
        larger one smoothness[1], eased towards the former where the photo has an edge.
        """


def scorer_of(reference: Photo2D, sources: Sequence[Photo2D]) -> Scorer:
    """Return what scores surfaces of ``reference`` against its ``sources``."""
    made: Scorer = _sweep_on(reference.grey.device).PhotoScorer(reference, sources)
    return made


def median_filter(values: Tensor) -> Tensor:
    """Return medians of (h, w) over squares of 5 x 5, edges replicated."""
    found: Tensor = _sweep_on(values.device).median_filter(values)
    return found


def plane_fit(inverse: Tensor, weight: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the plane through the neighbours of each pixel: its value, residual, mean weight.

    Inverse depth (h, w) is affine in pixels on a plane, so a weighted fit v = a + b x + c y in a
    window of ``radius`` is exact there. The residual is the weighted root mean square.
    """
    fitted: tuple[Tensor, Tensor, Tensor] = _sweep_on(inverse.device).plane_fit(
        inverse, weight, radius
    )
    return fitted


def _sweep_on(where: device) -> ModuleType:
    """Return the module that works on a device. Numba, half a second to import and seconds to
    compile for the first time, is imported only where it is used.
    """
    if where.type == "cpu":
        from recon.stereo import compiled_sweep

        return compiled_sweep
    from recon.stereo import torch_sweep

    return torch_sweep
