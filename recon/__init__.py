"""Pointmaps to cameras and geometry: the reconstruction pipeline and its files.

What outside code may use is in ``__all__``; anything else may change at any time.
"""

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
