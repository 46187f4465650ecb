"""Maps of a depth model that takes known depth of a photo: asked again with its scene points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pointmap.camera import pixel_centres
from pointmap.images import ResizedPhoto
from recon.depth.anchored_prior import Anchors, photo_anchors
from recon.depth_models import PromptedDepthModel
from recon.depth_models.predict_maps import LONG_SIDE, predict_map
from recon.prediction.given_maps import PriorMap
from recon.stage_results import Alignment
from recon.work.content_key import content_key, item_key
from recon.work.on_demand import OnDemand

if TYPE_CHECKING:
    from recon.inputs import Inputs

# Of the maps, for results that were kept.
_VERSION = 1
# Long side of the known depth: that of the lidar depth which such a model was trained with.
_LONG_SIDE = 256
# Scene points that a place's depth is a mean of, as its publishers fill sparse depth (arXiv
# 2412.14015, 4 nearest neighbours); of fewer than the second there is no telling.
_NEAREST, _FEWEST_POINTS = 4, 8
# The model works between the least and the greatest depth it is told: no single point makes these.
_OUTLIERS = 1.0


def prompted_maps(
    inputs: Inputs, frames: Sequence[ResizedPhoto], alignment: Alignment
) -> Sequence[PriorMap]:
    """Return the maps of ``inputs``, those of a model that takes known depth made anew with it.

    That depth is the scene points of a photo, in scene units, and between them what the nearest
    have. Photos without enough points, and models of another kind, keep their maps.
    """
    assert inputs.maps is not None
    model = inputs.depth_model
    if not isinstance(model, PromptedDepthModel):
        return inputs.maps
    points = [
        Anchors(np.zeros((0, 2)), np.zeros(0))
        if pose is None
        else photo_anchors(alignment, k, frame)
        for k, (pose, frame) in enumerate(zip(alignment.cam_to_world, frames, strict=True))
    ]
    asked = [k for k, anchors in enumerate(points) if len(anchors.z) >= _FEWEST_POINTS]

    def ask(n: int) -> PriorMap:
        k = asked[n]
        known = between_points(points[k], *frames[k].pixels.shape[:2])
        return predict_map(model, inputs.load(k, long_side=LONG_SIDE), known)

    found = inputs.work.each(
        [
            content_key("prompted map", _VERSION, model.content_key, item_key(frames, k), points[k])
            for k in asked
        ],
        ask,
    )
    return _Anew(inputs.maps, {k: n for n, k in enumerate(asked)}, found)


class _Anew(OnDemand[PriorMap]):
    """The ``maps`` of all photos with those ``found`` in the place of some, if they say anything.

    ``places``: by photo, which of those found is its own.
    """

    def __init__(
        self, maps: Sequence[PriorMap], places: dict[int, int], found: Sequence[PriorMap]
    ) -> None:
        self._maps, self._places, self._found = maps, places, found

    def __len__(self) -> int:
        return len(self._maps)

    def item(self, index: int) -> PriorMap:
        """Return one of them."""
        if index in self._places:
            anew = self._found[self._places[index]]
            if anew.values.any():
                return anew
        return self._maps[index]


def between_points(anchors: Anchors, height: int, width: int) -> NDArray[np.float32]:
    """Return a coarse depth map (h, w) of a photo of ``height`` x ``width`` from points in it.

    Each place has the mean log depth of the nearest points, weighted by one over their distances.
    """
    factor = min(1.0, _LONG_SIDE / max(height, width))
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    places = pixel_centres(columns, rows) * [width / columns, height / rows]
    log_z = np.log(anchors.z)
    log_z = np.clip(log_z, *np.percentile(log_z, [_OUTLIERS, 100 - _OUTLIERS]))
    distance, index = KDTree(anchors.xy).query(places, k=_NEAREST)
    # A point counts no more than half a place away from it would.
    weight = 1 / np.maximum(distance, 0.5 / factor)
    mean = (weight * log_z[index]).sum(axis=-1) / weight.sum(axis=-1)
    return np.exp(mean).astype(np.float32)
