"""What a user can choose about the surface and the cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from recon.stage_results import CONFIRMED


@dataclass(frozen=True)
class FusionOptions:
    """How depth maps become a surface and a cloud."""

    surface: Annotated[Literal["measured", "complete"], tyro.conf.arg(prefix_name=False)] = (
        "complete"
    )
    """complete: also what was inferred, not measured (plain walls), where more photos agree on it
    than look past it, or planes of the photo go on there that none looks past; and ground and walls
    that go on hidden from all photos. measured: only depth of at least the confidence below."""
    sky: Annotated[Literal["auto", "keep"], tyro.conf.arg(prefix_name=False)] = "auto"
    """auto: leave out sky, which matching gives the depth of what stands before it. keep: take
    nothing for sky, as of a room with plain, bright walls."""
    voxel_size: float | None = None
    """Edge of a voxel in scene units; None takes 1.5 pixels at the median depth."""
    truncation: float | None = None
    """How far around measured surfaces distances are averaged, in scene units; None: 4 voxels."""
    min_confidence: float = CONFIRMED
    """Depth below this confidence was inferred; where almost all is, nine tenths count as
    measured."""
    max_depth_jump: float = 0.03
    """Relative depth step between neighbouring pixels above which they lie on two surfaces."""
    crop: tuple[float, float, float, float, float, float] | None = None
    """Keep the inside of this box only: x y z of its low corner, then of its high corner."""
    max_triangles: int = 3_000_000
    """Upper bound of the mesh's size; the voxel grows to keep it."""
    max_memory_gb: float = 0.5
    """Upper bound of the voxels' memory: a scene that needs more is made in parts of space. One
    that needs 128 times as much gets larger voxels, with a warning."""
    min_component: float = 0.0005
    """Connected pieces with less than this share of all triangles are removed as floaters."""
    fill_holes: float = 4.0
    """Holes in the mesh up to this radius, in voxels, are closed; 0 leaves them."""
    watertight: bool = False
    """Close the mesh to the boundary of a solid, as printing in 3D needs it: smoothly where nobody
    saw it, and by a box where the scene goes on."""
    smooth: int = 0
    """Rounds of smoothing (Taubin's, which does not shrink) of the mesh."""
    decimate: int | None = None
    """Simplify the mesh to about this number of triangles."""
    texture: bool = False
    """Also lay the photos over the mesh (simplified to 200,000 triangles): scene.glb and mesh.obj
    then have a texture."""
    texture_size: int = 4096
    """Upper bound of the texture's sides in texels; photos are made smaller to keep it, and below
    2,800 the mesh simpler."""
    max_points: int = 2_000_000
    """Upper bound of the cloud's size; points are thinned by growing voxels to keep it."""
