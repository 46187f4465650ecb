"""Pairwise poses and matches to one scene: synchronise, triangulate, adjust."""

from recon.alignment.align import Alignment, align
from recon.alignment.structure import AlignOptions

__all__ = ["AlignOptions", "Alignment", "align"]
