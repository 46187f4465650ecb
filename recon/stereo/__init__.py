"""Depth from photos whose cameras are solved: plane sweep, cross-checked between photos."""

from recon.stereo.refine import refine_depths
from recon.stereo.view import StereoOptions, StereoView

__all__ = ["StereoOptions", "StereoView", "refine_depths"]
