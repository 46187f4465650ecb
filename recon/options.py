"""All options of a reconstruction. The command line is generated from these dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from recon.alignment.structure import AlignOptions
from recon.depth import DepthOptions
from recon.fusion import FusionOptions
from recon.intrinsics import FocalOptions
from recon.stereo import StereoOptions
from recon.view_graph import ViewGraphOptions


@dataclass(frozen=True)
class Options:
    """How to reconstruct. The defaults suit 1 to about 30 photos of one scene."""

    weights: str | None = None
    """Checkpoint of the network (.safetensors, .pth or folder); the bundled one by default."""
    device: str | None = None
    """cpu, cuda or mps; the best one at hand by default."""
    depth_size: int = 512
    """Long side of the depth maps, in pixels. Photos that are smaller keep their size."""
    refine_depth: bool = True
    """Sharpen depth by comparing the photos (plane sweep); off keeps the network's depth."""
    seed: int = 0
    """Seed of every random choice."""
    graph: ViewGraphOptions = field(default_factory=ViewGraphOptions)
    focal: FocalOptions = field(default_factory=FocalOptions)
    align: AlignOptions = field(default_factory=AlignOptions)
    depth: DepthOptions = field(default_factory=DepthOptions)
    stereo: StereoOptions = field(default_factory=StereoOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)

    def to_dict(self) -> dict[str, object]:
        """Return the options as nested plain values, for run.json."""
        return asdict(self)
