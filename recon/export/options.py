"""What is written beside the files of the output contract."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from pointmap.errors import InputError

Format = Literal["obj", "splat", "spz", "depth-npz", "depth-png", "depth-exr"]


@dataclass(frozen=True)
class ExportOptions:
    """Which further files a scene gets."""

    formats: tuple[Format, ...] = ()
    """Also write: obj (the mesh), splat (the surface as Gaussians, in the PLY of 3DGS), spz (these,
    small; needs the package gsply), depth-npz, depth-png (16 bit, with its scale in a JSON file) or
    depth-exr (float; needs the package OpenEXR)."""
    depth_resolution: Literal["working", "original"] = "working"
    """Size of those depth files: as computed, or as the photos, along the photos' edges."""

    glb_triangles: int = 500_000
    """Most triangles in scene.glb, about 12 MB, for phones and browsers. mesh.ply has all."""

    def check(self) -> None:
        """Raise ``InputError`` for what could not be written, before the long work."""
        if "depth-exr" in self.formats and find_spec("OpenEXR") is None:
            raise InputError("depth-exr needs the package OpenEXR: pip install 'pointmap[exr]'")
        if "spz" in self.formats and find_spec("gsply") is None:
            raise InputError("spz needs the package gsply: pip install 'pointmap[spz]'")
        if not 1 <= self.glb_triangles <= 1e9:
            raise InputError(
                f"--glb-triangles must be between 1 and 1e+09; got {self.glb_triangles}"
            )
        if self.depth_resolution == "original" and not any("depth" in f for f in self.formats):
            raise InputError(
                "--depth-resolution original says how large to write depth files: add "
                "--formats depth-npz, depth-png or depth-exr"
            )
