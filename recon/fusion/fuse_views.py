"""Stage 5, the entry: depth maps become one cloud and one surface."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from pointmap.freed_memory import return_freed_memory
from recon.fusion.cloud import points_of
from recon.fusion.frames import UsableDepth
from recon.fusion.options import FusionOptions
from recon.fusion.surface import Surface, surface_of, textured
from recon.fusion.usable_depth import kept_usable_depths
from recon.fusion.voxel_size import automatic_voxel_size
from recon.scene import PointCloud, View, World, cameras_and_maps
from recon.work.content_key import content_key
from recon.work.folder import Work
from recon.work.steps import Steps

if TYPE_CHECKING:
    import torch

# Of all steps, for results that were kept.
_VERSION = 16
_MOST_TILT_DEG = 5.0


@dataclass(frozen=True)
class Fused:
    """The coloured ``cloud`` and the ``surface`` of all views."""

    cloud: PointCloud
    surface: Surface


def fuse_views(
    views: Sequence[View],
    options: FusionOptions,
    *,
    device: torch.device,
    work: Work,
    world: World | None = None,
    in_doubt: Collection[str] = (),
) -> Fused:
    """Return the cloud and the surface of all placed views; empty where none has usable depth.

    ``world``: what is known of their frame; ``in_doubt``: names of photos that show only what no
    other does (:mod:`recon.fusion.doubtful_photos`).
    """
    sigma_deg = None if world is None else world.up_sigma_deg
    # A horizon that may be far off tells sky from nothing.
    up = world.up if world is not None and (sigma_deg or 0.0) < _MOST_TILT_DEG else None
    # Apple's devices have no double precision.
    fast = str(device) if device.type == "cuda" else "cpu"

    depends_on = cameras_and_maps(views), options, up, sorted(in_doubt)
    steps = Steps(work, content_key("fusion", _VERSION, *depends_on))

    @cache
    def depths() -> list[UsableDepth]:
        found = kept_usable_depths(views, options, up=up, work=work, in_doubt=in_doubt)
        # What votes took is as much as what is kept.
        return_freed_memory()
        return found

    def edge() -> float | None:
        return automatic_voxel_size(depths(), options) if depths() else None

    voxel = options.voxel_size or steps.once("voxel size", edge)
    settled = replace(options, voxel_size=voxel)
    cloud = steps.once("cloud", lambda: points_of(depths(), settled))
    surface = surface_of(depths, settled, fast, steps)
    return Fused(cloud, textured(surface, depths, settled, steps, work.pieces))
