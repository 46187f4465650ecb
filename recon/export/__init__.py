"""The output contract: a :class:`recon.scene.Reconstruction` to files and back.

One format per module; :mod:`recon.save` writes them all, :mod:`recon.export.load` reads
them. Camera axes and pixel coordinates are converted here and nowhere else.
"""

from recon.export.atomic import OutputFolder, reserved_folder
from recon.export.load import load_scene
from recon.export.options import ExportOptions

__all__ = ["ExportOptions", "OutputFolder", "load_scene", "reserved_folder"]
