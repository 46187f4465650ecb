"""``products/``: what a depth map turns into, raw for programs and as pictures for eyes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon.depth.derived_maps import (
    depth_edges,
    depth_normals,
    depth_to_disparity,
    ray_distance,
    remove_flying_pixels,
)
from recon.export.npz_file import write_npz
from recon.scene import View


def write_products(folder: Path, stem: str, view: View, *, units: str) -> None:
    """Write STEM.npz and a picture per product of ``view``.

    The npz holds (h, w) float32 ``depth`` (along z, without flying pixels), ``inverse_depth``,
    ``ray_distance``, (h, w, 3) float32 ``normals`` in the camera's frame, and (h, w) bool
    ``edges``; 0 is unknown. The pictures have a colour bar from the 2nd to the 98th percentile.
    """
    from PIL import Image

    from recon.export.colour import normals_to_rgb, value_picture

    K, lens = view.depth_intrinsics, view.camera.lens
    depth = remove_flying_pixels(view.depth)
    maps = {
        "depth": depth,
        "inverse_depth": depth_to_disparity(depth, focal_px=1, baseline=1),
        "ray_distance": ray_distance(depth, K, lens),
    }
    normals = depth_normals(depth, K, lens)
    write_npz(
        folder / f"{stem}.npz",
        depth=depth.astype(np.float32),
        inverse_depth=maps["inverse_depth"].astype(np.float32),
        ray_distance=maps["ray_distance"].astype(np.float32),
        normals=normals.astype(np.float32),
        edges=depth_edges(view.depth),
    )
    unit = "m" if units == "metres" else "units"
    labels = {"depth": f"z, {unit}", "inverse_depth": f"1/z, 1/{unit}", "ray_distance": unit}
    for name, values in maps.items():
        shown = np.where(values > 0, values, np.nan)
        # Near is bright in every picture.
        colours = "inferno" if name == "inverse_depth" else "inferno_r"
        picture = value_picture(shown, labels[name], name=colours)
        Image.fromarray(picture).save(folder / f"{stem}-{name}.png")
    Image.fromarray(normals_to_rgb(normals)).save(folder / f"{stem}-normals.png")
