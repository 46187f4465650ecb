"""The maps of a depth model for all photos of a run, each kept in the work folder."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.images import ResizedPhoto
from pointmap.masks import resized_mask
from recon.depth_models.protocol import DepthModel, PromptedDepthModel
from recon.prediction.given_maps import PriorMap
from recon.progress import Advance, unheard
from recon.scene import ModelRecord
from recon.work.content_key import content_key

if TYPE_CHECKING:
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)

# Of predict_map, for results that were kept.
_VERSION = 2
LONG_SIDE = 1536
"""Long side of the photos that models are given: as much as the largest of them uses."""


def with_model_maps(inputs: Inputs, *, advance: Advance = unheard) -> Inputs:
    """Return the inputs with the maps of their depth model; as they are if there is none."""
    model = inputs.depth_model
    if model is None:
        return inputs
    maps = inputs.work.each(
        [content_key("map", _VERSION, model.content_key, photo) for photo in inputs.photo_keys],
        lambda k: predict_map(model, inputs.load(k, long_side=LONG_SIDE)),
        advance=advance,
    )
    return replace(inputs, maps=maps)


def model_records(inputs: Inputs) -> tuple[ModelRecord, ...]:
    """Return what run.json says of the models beside the network."""
    used = {"depth": inputs.depth_model, "matching": inputs.matcher}
    return tuple(
        ModelRecord(use, model.name, model.licence, model.content_key)
        for use, model in used.items()
        if model is not None
    )


def predict_map(
    model: DepthModel, photo: ResizedPhoto, known_depth: NDArray[np.float32] | None = None
) -> PriorMap:
    """Return what a model says of one photo; a map of zeros, with a warning, where that is nothing.

    ``photo``: resized to about :data:`LONG_SIDE`; ``known_depth`` (h, w): for a model that takes it
    (:class:`recon.depth_models.protocol.PromptedDepthModel`).
    """
    if known_depth is not None and isinstance(model, PromptedDepthModel):
        found = model.predict_prompted(photo.pixels, known_depth)
    else:
        found = model.predict(photo.pixels)
    values = np.where(np.isfinite(found.values), found.values, 0).astype(np.float32)
    if photo.usable is not None:
        values = np.where(resized_mask(photo.usable, *values.shape[::-1]), values, 0)
    known = values[values != 0]
    if not known.size or np.ptp(known) == 0:
        logger.warning(
            "%s: %s sees the same depth everywhere, so its map is left out",
            photo.photo.name,
            model.name,
        )
        values = np.zeros_like(values)
    focal_px = found.focal_px
    # A field of view of nothing, or of more than half a circle, is no focal length.
    told = focal_px is not None and 0 < focal_px < np.inf
    focal_px = focal_px / photo.scale_x if focal_px is not None and told else None
    return PriorMap(values, model.kind, found.confidence, focal_px).reduced()
