"""From depth maps to one surface (TSDF)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pointmap.freed_memory import return_freed_memory
from recon.fusion.clean_mesh import clean
from recon.fusion.frames import Frame, UsableDepth, as_pinhole
from recon.fusion.hidden_planes import blocks_of, fill, hidden_planes
from recon.fusion.options import FusionOptions
from recon.fusion.parts import Blocks, Part, inside, joined, looking_into, parts_of
from recon.fusion.texture import texture_mesh
from recon.fusion.tsdf import BLOCK, BYTES_PER_BLOCK, extract, integrate, touched_blocks
from recon.fusion.usable_depth import inside_box, usable_depths
from recon.fusion.vertex_colours import vertex_colours
from recon.fusion.voxel_size import automatic_voxel_size, unique_rows
from recon.scene import Mesh, TexturedMesh, View
from recon.work.pieces import PieceMap
from recon.work.steps import Steps
from recon.work.threads import in_threads

logger = logging.getLogger(__name__)

# Photos that look into several parts of a large scene are gone through for each of them.
_MOST_PARTS = 128


@dataclass(frozen=True)
class Surface:
    """The ``mesh``, the same under the photos where that was asked for, and, by name, what was
    measured, found and removed on the way.
    """

    mesh: Mesh
    statistics: dict[str, float]
    textured: TexturedMesh | None = None


def fuse_mesh(views: Sequence[View], *, options: FusionOptions | None = None) -> Mesh:
    """Return the mesh of :func:`fuse_surface`."""
    return fuse_surface(views, options=options).mesh


def fuse_surface(
    views: Sequence[View], *, options: FusionOptions | None = None, device: str = "cpu"
) -> Surface:
    """Return the coloured surface of all registered views; empty when none has usable depth.

    Truncated signed distances averaged in sparse voxel blocks (Curless and Levoy 1996) on
    ``device``, surface by marching cubes, floaters removed.
    """
    options = options or FusionOptions()
    usable, steps = usable_depths(views, options), Steps()
    surface = surface_of(lambda: usable, options, device, steps)
    return textured(surface, lambda: usable, options, steps)


def textured(
    surface: Surface,
    depths: Callable[[], Sequence[UsableDepth]],
    options: FusionOptions,
    steps: Steps,
    pieces: PieceMap | None = None,
) -> Surface:
    """Return the surface with a texture where ``options`` ask for one: from the photos that have
    usable ``depths``, without what these say is not to be shown.
    """
    if not options.texture:
        return surface

    def texture() -> TexturedMesh | None:
        shown = [depth.view for depth in depths()]
        return texture_mesh(surface.mesh, shown, size=options.texture_size, pieces=pieces)

    return replace(surface, textured=steps.once("texture", texture))


def surface_of(
    depths: Callable[[], Sequence[UsableDepth]], options: FusionOptions, device: str, steps: Steps
) -> Surface:
    """Return the coloured surface of usable depth, without a texture.

    ``depths`` are only asked for where a step was not kept.
    """
    grey = steps.once("shape", lambda: _shape(depths(), options, device, steps))
    steps.forget_passing()
    if not len(grey.mesh.vertices):
        return grey

    def colours() -> NDArray[np.uint8]:
        return vertex_colours(
            grey.mesh.vertices,
            grey.mesh.normals,
            depths(),
            voxel=grey.statistics["voxel_size"],
            truncation=grey.statistics["truncation"],
            max_depth_jump=options.max_depth_jump,
        )

    return replace(grey, mesh=replace(grey.mesh, colours=steps.once("colours", colours)))


def _shape(
    depths: Sequence[UsableDepth], options: FusionOptions, device: str, steps: Steps
) -> Surface:
    """Return the surface, still grey."""
    if not depths:
        return Surface(Mesh.empty(), {})
    voxel, truncation, blocks = steps.once("layout", lambda: _layout(depths, options), passing=True)
    if not len(blocks):
        return Surface(Mesh.empty(), {})

    hidden = []
    if options.surface == "complete":
        given = depths, voxel, options.max_depth_jump
        hidden = steps.once("hidden planes", lambda: hidden_planes(*given), passing=True)
        theirs = _cropped(blocks_of(hidden, voxel), voxel, options)
        blocks = unique_rows(torch.from_numpy(np.concatenate([blocks, theirs]))).numpy()

    def frame(depth: UsableDepth) -> Frame:
        return as_pinhole(depth.frame(), options.max_depth_jump)

    def part_of_surface(own: Blocks, reached: Blocks) -> Part:
        frames = in_threads(frame, looking_into(depths, reached, voxel, truncation))
        volume = integrate(frames, torch.from_numpy(reached), voxel, truncation, device)
        fill(volume, hidden, truncation)
        mesh = extract(volume)
        del volume
        return_freed_memory()
        mesh = mesh if len(own) == len(reached) else inside(mesh, own, voxel)
        # Its places were rounded to that already.
        return np.asarray(mesh.vertices, np.float32), np.asarray(mesh.triangles)

    parts = [
        steps.once(f"part {n}", partial(part_of_surface, *part), passing=True)
        for n, part in enumerate(
            parts_of(blocks, int(options.max_memory_gb * 1e9 / BYTES_PER_BLOCK))
        )
    ]
    mesh, counts = clean(joined(parts), voxel, options)
    return Surface(mesh, {"voxel_size": voxel, "truncation": truncation, **counts})


def _layout(depths: Sequence[UsableDepth], options: FusionOptions) -> tuple[float, float, Blocks]:
    """Return voxel size, truncation and blocks (B, 3), not many times what memory is allowed."""
    voxel = options.voxel_size or automatic_voxel_size(depths, options)
    allowed = _MOST_PARTS * options.max_memory_gb * 1e9 / BYTES_PER_BLOCK
    start = voxel
    while True:
        truncation = options.truncation or 4 * voxel
        blocks = _cropped(touched_blocks(depths, voxel, truncation).numpy(), voxel, options)
        if len(blocks) <= allowed:
            break
        # A surface takes blocks by the square of their number along it.
        voxel *= max(1.05, float(np.sqrt(len(blocks) / allowed)))
    if voxel > start:
        logger.warning(
            "voxels of %.3g scene units would need more than %d parts of %.1f GB: the surface is "
            "made with %.3g (raise --fusion.max-memory-gb for a finer one)",
            start,
            _MOST_PARTS,
            options.max_memory_gb,
            voxel,
        )
    return voxel, truncation, blocks


def _cropped(blocks: Blocks, voxel: float, options: FusionOptions) -> Blocks:
    """Return the blocks (B, 3) that reach into the box that is kept."""
    if options.crop is None:
        return blocks
    low, high = np.array(options.crop[:3]), np.array(options.crop[3:])
    return blocks[inside_box(blocks * (BLOCK * voxel), (*(low - BLOCK * voxel), *high))]
