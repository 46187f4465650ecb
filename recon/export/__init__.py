"""The output contract: a :class:`recon.scene.Scene` to files and back.

One format per module; :mod:`recon.save` writes them all, :mod:`recon.export.load` reads
them. Camera axes and pixel coordinates are converted here and nowhere else.
"""

from typing import TYPE_CHECKING

from pointmap.lazy import lazy_names

if TYPE_CHECKING:
    from recon.export.load import load_scene
    from recon.export.options import ExportOptions
    from recon.export.staging import OutputFolder, reserved_folder

__all__ = ["ExportOptions", "OutputFolder", "load_scene", "reserved_folder"]

__getattr__ = lazy_names(
    __name__,
    {
        "ExportOptions": "recon.export.options",
        "OutputFolder": "recon.export.staging",
        "load_scene": "recon.export.load",
        "reserved_folder": "recon.export.staging",
    },
)
