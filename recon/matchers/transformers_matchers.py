"""Matchers of transformers: EfficientLoFTR, and SuperPoint under SuperGlue or LightGlue.

All that ``AutoModelForKeypointMatching`` runs without code from a repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.matchers.protocol import FoundMatches
from recon.pretrained.folder import folder_key
from recon.pretrained.repository import KnownRepository
from recon.pretrained.transformers_folder import (
    check_kind,
    check_transformers,
    loaded,
    model_config,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Kind:
    """What differs by the configuration's model_type: the size of pictures it is given, whether its
    matches are of key points, and where the centre of its first pixel is.

    EfficientLoFTR's positions are those of the cameras it was trained with, COLMAP's, as LoFTR's.
    """

    long_side: int
    key_points: bool
    first_centre: float


_KINDS = {
    "efficientloftr": _Kind(640, False, 0.0),
    "lightglue": _Kind(1024, True, 0.5),
    "superglue": _Kind(1024, True, 0.5),
}


# As their pages have it, 28 November 2026; SuperPoint's licence covers its weights in either.
_MAGIC_LEAP = "Magic Leap (noncommercial research alone)"
TRANSFORMERS_MATCHERS = (
    KnownRepository("efficientloftr", "zju-community/efficientloftr", "Apache-2.0"),
    KnownRepository("lightglue-superpoint", "ETH-CVG/lightglue_superpoint", _MAGIC_LEAP),
    KnownRepository("superglue-outdoor", "magic-leap-community/superglue_outdoor", _MAGIC_LEAP),
)


@dataclass(frozen=True)
class TransformersMatcher:
    """A :class:`recon.matchers.protocol.Matcher` with its processor, on its device."""

    name: str
    licence: str
    content_key: str
    kind: _Kind
    processor: Any
    network: Any
    device: torch.device

    @property
    def long_side(self) -> int:
        """As much as it was trained with, about."""
        return self.kind.long_side

    @property
    def sigma_px(self) -> None:
        """Not measured: no weights of these were at hand."""
        return None

    def match(self, pixels_i: NDArray[np.uint8], pixels_j: NDArray[np.uint8]) -> FoundMatches:
        """Return the matches of two pictures (h, w, 3)."""
        import torch

        pictures = pixels_i, pixels_j
        side = max(self.long_side, *(max(pixels.shape[:2]) for pixels in pictures))
        side += -side % 32
        # Both have to be of one size; of the same one in whichever pair a picture stands, for its
        # key points to be the same. Repeated edge pixels make no corners.
        squares = [
            np.pad(p, ((0, side - p.shape[0]), (0, side - p.shape[1]), (0, 0)), mode="edge")
            for p in pictures
        ]
        with torch.inference_mode():
            given = self.processor(images=squares, do_resize=False, return_tensors="pt")
            outputs = self.network(**given.to(self.device))
        xy_i, xy_j = (
            side * points.double().cpu().numpy() + self.kind.first_centre
            for points in outputs.keypoints[0]
        )
        # LightGlue's have no pairs' axis where it looks at all its layers.
        matches = outputs.matches.reshape(2, -1)[0].cpu().numpy().astype(np.int64)
        first = np.flatnonzero(matches >= 0)
        second = matches[first] if self.kind.key_points else first
        inside = _inside(xy_i[first], pixels_i) & _inside(xy_j[second], pixels_j)
        first, second = first[inside], second[inside]
        if self.kind.key_points:
            return FoundMatches(xy_i[first], xy_j[second], first, second)
        return FoundMatches(xy_i[first], xy_j[second])


def _inside(xy: Array, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    height, width = pixels.shape[:2]
    return np.asarray(((xy >= 0) & (xy < [width, height])).all(axis=-1))


def load_transformers_matcher(
    folder: Path, *, name: str, licence: str, device: torch.device
) -> TransformersMatcher:
    """Return the matcher in ``folder``, as ``save_pretrained`` wrote it.

    Raises ``InputError`` for a model of another task, missing or unfit weights, and without a
    fitting version of the library.
    """
    check_transformers("--matcher")
    from transformers import AutoModelForKeypointMatching

    config = model_config(folder)
    check_kind(folder, config, "matcher", task="ForKeypointMatching", known=tuple(_KINDS))
    processor, network = loaded(folder, AutoModelForKeypointMatching, device)
    kind = _KINDS[config["model_type"]]
    if not kind.key_points:
        _pair_cells(network)
    return TransformersMatcher(name, licence, folder_key(folder), kind, processor, network, device)


def _pair_cells(network: Any) -> None:
    """Have an EfficientLoFTR refine the cells of one match together.

    Up to transformers 5.24 its list of cells of photo 1 is in the order of photo 2's cells and that
    of photo 2 in the order of photo 1's: what stands side by side is no match, and the refinement
    compares the wrong windows. Both lists are put in the order of photo 1's cells.
    """
    import torch

    found_by_library = network._get_matches_from_scores

    def paired(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        indices, weights = found_by_library(scores)
        cells = torch.arange(indices.shape[-1], device=indices.device).expand_as(indices[:, 1])
        first = torch.where(indices[:, 1] >= 0, cells, -1)
        return torch.stack([first, indices[:, 1]], 1), weights[:, 1:].expand_as(weights)

    network._get_matches_from_scores = paired
