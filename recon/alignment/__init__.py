"""Pairwise poses and matches to one scene: synchronise, triangulate, adjust."""

from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.stage_results import Alignment

__all__ = ["AlignOptions", "Alignment", "align"]
