"""Depth from photos whose cameras are solved: plane sweep, cross-checked between photos."""

from typing import TYPE_CHECKING

from pointmap.lazy import lazy_names

if TYPE_CHECKING:
    from recon.stereo.refine import refine_depths
    from recon.stereo.view import StereoOptions, StereoView

__all__ = ["StereoOptions", "StereoView", "refine_depths"]

__getattr__ = lazy_names(
    __name__,
    {
        "StereoOptions": "recon.stereo.view",
        "StereoView": "recon.stereo.view",
        "refine_depths": "recon.stereo.refine",
    },
)
