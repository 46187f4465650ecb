"""The plane sweep on a CPU: loops that numba compiles when this module is first imported.

Warping, windows and path aggregation were 85 % of the stage, thousands of small torch operations
that wait for memory. Fused into loops the same sheets cost a sixth of it, so that what PatchMatch
would save by trying fewer of them is small beside all the rest.

Volumes are (h, D, w): the inner loops run along rows of pixels and become vector instructions
without a sum being reordered, so that bits and NaN are what the code says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recon.stereo.loops import matching, paths, planes
from recon.stereo.photo import WINDOW, Photo2D, Votes, pixel_terms


class PhotoScorer:
    """:class:`recon.stereo.plane_sweep.Scorer` of photos on the CPU."""

    def __init__(self, reference: Photo2D, sources: Sequence[Photo2D]) -> None:
        self.reference, self.sources = reference, sources
        x, y = np.meshgrid(*(side.float().numpy() for side in reference.pixel_centres()))
        terms = [torch.cat([A, b[None]]).numpy() for A, b in
                 (pixel_terms(reference, source) for source in sources)]  # fmt: skip
        shapes = [source.grey.shape for source in sources]
        starts = np.cumsum([0, *(height * width for height, width in shapes)])[:-1]
        self._photos = (
            x,
            y,
            np.pad(reference.grey.numpy(), ((0, 0), (WINDOW, WINDOW)), mode="edge"),
            np.reshape(terms, (-1, 4, 3)).astype(np.float32),
            np.concatenate([np.zeros(0, np.float32), *(s.grey.numpy().ravel() for s in sources)]),
            np.array([[start, *shape] for start, shape in zip(starts, shapes, strict=True)],
                     np.int64).reshape(-1, 3),
        )  # fmt: skip

    def __call__(self, inverse: Tensor) -> Tensor:
        """Return scores (D, h, w) in [-1, 1] of surfaces (D, h, w) of inverse depth; unseen: 0."""
        surfaces = np.ascontiguousarray(inverse.numpy())
        flat = np.zeros_like(surfaces[0])
        return torch.from_numpy(
            matching.scores(*self._photos, surfaces, flat, len(surfaces))
        ).transpose(0, 1)

    def lowest(
        self,
        first: Tensor,
        step: Tensor,
        count: int,
        smoothness: tuple[float, float],
        votes: Votes | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return which of the surfaces first + step d has the least energy, and the energy."""
        start, spacing = first.contiguous().numpy(), step.contiguous().numpy()
        volume = matching.scores(*self._photos, start[None], spacing, count)
        nothing = np.zeros_like(start)
        guess = (
            (nothing, nothing)
            if votes is None
            else (votes.inverse.contiguous().numpy(), votes.weight.contiguous().numpy())
        )
        paths.to_costs(volume, start, spacing, *guess)
        label, energy = paths.least_energy(
            volume, self.reference.grey.contiguous().numpy(), *map(np.float32, smoothness)
        )
        return torch.from_numpy(label), torch.from_numpy(energy)


def median_filter(values: Tensor) -> Tensor:
    """:func:`recon.stereo.plane_sweep.median_filter` on the CPU."""
    import cv2

    return torch.from_numpy(cv2.medianBlur(values.contiguous().numpy(), 5))


def plane_fit(inverse: Tensor, weight: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`recon.stereo.plane_sweep.plane_fit` on the CPU."""
    arrays = (values.float().contiguous().numpy() for values in (inverse, weight))
    fitted, residual, share = torch.from_numpy(planes.plane_fit(*arrays, radius))
    return fitted, residual, share
