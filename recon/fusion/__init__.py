"""From depth maps to one surface (TSDF), with or without a texture, and one point cloud."""

from typing import TYPE_CHECKING

from pointmap.lazy import lazy_names

if TYPE_CHECKING:
    from recon.fusion.cloud import fuse_points
    from recon.fusion.options import FusionOptions
    from recon.fusion.surface import Surface, fuse_mesh, fuse_surface

__all__ = ["FusionOptions", "Surface", "fuse_mesh", "fuse_points", "fuse_surface"]

__getattr__ = lazy_names(
    __name__,
    {
        "FusionOptions": "recon.fusion.options",
        "Surface": "recon.fusion.surface",
        "fuse_mesh": "recon.fusion.surface",
        "fuse_points": "recon.fusion.cloud",
        "fuse_surface": "recon.fusion.surface",
    },
)
