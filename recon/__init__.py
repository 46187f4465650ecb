"""Pointmaps to cameras and geometry: the reconstruction pipeline and its files.

What outside code may use is in ``__all__``; anything else may change at any time.
"""

from typing import TYPE_CHECKING

from pointmap.lazy import lazy_names

if TYPE_CHECKING:
    from recon.export import ExportOptions, load_scene
    from recon.options import Options
    from recon.pipeline import reconstruct
    from recon.reconstruction import Reconstruction
    from recon.save import save_scene
    from recon.scene import Camera, Mesh, PointCloud, Scene, TexturedMesh, Tracks, View

__all__ = [
    "Camera",
    "ExportOptions",
    "Mesh",
    "Options",
    "PointCloud",
    "Reconstruction",
    "Scene",
    "TexturedMesh",
    "Tracks",
    "View",
    "load_scene",
    "reconstruct",
    "save_scene",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Camera": "recon.scene",
        "ExportOptions": "recon.export",
        "Mesh": "recon.scene",
        "Options": "recon.options",
        "PointCloud": "recon.scene",
        "Reconstruction": "recon.reconstruction",
        "Scene": "recon.scene",
        "TexturedMesh": "recon.scene",
        "Tracks": "recon.scene",
        "View": "recon.scene",
        "load_scene": "recon.export",
        "reconstruct": "recon.pipeline",
        "save_scene": "recon.save",
    },
)
