"""What a run starts from, read and checked before the work begins: photos, masks, known cameras."""

from typing import TYPE_CHECKING

from pointmap.lazy import lazy_names

if TYPE_CHECKING:
    from recon.inputs.inputs import (
        Frames,
        Inputs,
        frames_of_videos,
        open_usable,
        read_inputs,
        video_frames,
    )

__all__ = ["Frames", "Inputs", "frames_of_videos", "open_usable", "read_inputs", "video_frames"]

# Late, as stages that take known cameras are imported by what reads them.
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "recon.inputs.inputs"))
