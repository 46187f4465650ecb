"""Views with other maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recon.scene import LoadedMaps, View


def with_maps(view: View, **changes: np.ndarray) -> View:
    """The view with other ``pixels``, ``depth`` or ``confidence``."""
    maps = {"pixels": view.pixels, "depth": view.depth, "confidence": view.confidence, **changes}
    return replace(view, maps=LoadedMaps(**maps))
