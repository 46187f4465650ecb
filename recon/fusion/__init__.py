"""From depth maps to one surface (TSDF), with or without a texture, and one point cloud."""

from recon.fusion.cloud import fuse_points
from recon.fusion.fuse_views import Fused, fuse_views
from recon.fusion.options import FusionOptions
from recon.fusion.surface import Surface, fuse_mesh, fuse_surface

__all__ = [
    "Fused",
    "FusionOptions",
    "Surface",
    "fuse_mesh",
    "fuse_points",
    "fuse_surface",
    "fuse_views",
]
