"""What a user can choose about the surface and the cloud."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FusionOptions:
    """How depth maps become a surface and a cloud."""

    voxel_size: float | None = None
    """Edge of a voxel in scene units; None takes 1.5 pixels at the median depth."""
    min_confidence: float = 0.35
    """Depth below this confidence is left out, unless almost all is: see ``usable_frames``."""
    max_depth_jump: float = 0.03
    """Relative depth step between neighbouring pixels above which they lie on two surfaces."""
    max_triangles: int = 3_000_000
    """Upper bound of the mesh's size; the voxel grows to keep it."""
    min_component: float = 0.0005
    """Connected pieces with less than this share of all triangles are removed as floaters."""
    max_points: int = 2_000_000
    """Upper bound of the cloud's size; points are thinned by growing voxels to keep it."""
