"""Pointmaps to cameras and geometry: the reconstruction pipeline and its files."""

from recon.options import Options
from recon.pipeline import reconstruct
from recon.reconstruction import Reconstruction

__all__ = ["Options", "Reconstruction", "reconstruct"]
