"""All options of a reconstruction. The command line is generated from these dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from pointmap.errors import InputError
from recon.alignment import AlignOptions
from recon.depth.anchored_prior import DepthOptions
from recon.fusion import FusionOptions
from recon.metric_scale import parse_scale
from recon.prediction.view_graph import ViewGraphOptions
from recon.stereo.view import StereoOptions
from recon.two_view.chosen_pose import PoseFrom
from recon.two_view.focal_lengths import FocalOptions


@dataclass(frozen=True)
class Options:
    """How to reconstruct. The defaults were tried on 1 to 100 real photos of a scene."""

    weights: str | None = None
    """Checkpoint of the network: a .safetensors or .pth file, a folder, or a Hugging Face id, such
    as naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt; the bundled one by default."""
    device: str | None = None
    """cpu, cuda or mps; the best one at hand by default."""
    known_cameras: str | None = None
    """Cameras that are known and stay as they are: a cameras.json or a COLMAP model folder."""
    frames: int | None = None
    """How many frames to take from all videos together. By default as many as it takes to follow
    the motion of the camera, at most 300."""
    extend: str | None = None
    """Folder of a scene that the photos are added to: its photos come along, cameras of placed ones
    and the unit of length stay as they are, and --out gets the larger scene."""
    depth_size: int = 512
    """Long side of the depth maps, in pixels. Photos that are smaller keep their size."""
    refine_depth: bool = True
    """Sharpen depth by comparing the photos (plane sweep); off keeps the network's depth."""
    prior_depth: str | None = None
    """Folder of depth or disparity maps of another model, known up to scale and shift: STEM.npy,
    .npz or .png (16 bit) per photo, 0 = unknown. They take the place of the network's depth."""
    depth_model: str | None = None
    """Pretrained model whose depth of single photos takes the place of the network's: a short name
    (depth-anything-v2-small, zoedepth, depth-pro, ...), a Hugging Face id or a folder. Needs pip
    install 'pointmap[models]'."""
    matcher: str = "auto"
    """What matches photos. sift: key points of SIFT. xfeat, disk, aliked, loftr: that learned
    matcher for all pairs. auto: SIFT, and for up to 6 photos, or pairs that SIFT leaves open, the
    first of those whose weights are here. Needs pip install 'pointmap[models]'."""
    adapt: float | None = None
    """Seconds to adapt the network to these very photos (60 to 300); kept only if it helps."""
    pose_from: PoseFrom = "auto"
    """What tells how two photos stand to each other. auto: their feature matches, and pointmaps
    where those fail. matches: feature matches alone (essential matrix). procrustes, pnp: the
    network's pointmaps, registered with each other or solved by PnP in RANSAC."""
    seed: int = 0
    """Seed of every random choice."""
    depth_products: bool = False
    """Also write inverse depth, ray distance, normals and edges of each photo, with pictures."""
    scale_from: str | None = None
    """What tells metres: baseline:A.jpg,B.jpg,METRES between two cameras;
    points:A.jpg,X1,Y1,X2,Y2,METRES between two pixels; cameras:FILE, a cameras.json with positions
    in metres; network, for a checkpoint that predicts metres; or model, for a --depth-model that
    does."""
    all_scenes: bool = False
    """Where the photos show several places that nothing ties together, also reconstruct the
    smaller ones: scene-2, scene-3, ... in the output folder."""
    graph: ViewGraphOptions = field(default_factory=ViewGraphOptions)
    focal: FocalOptions = field(default_factory=FocalOptions)
    align: AlignOptions = field(default_factory=AlignOptions)
    depth: DepthOptions = field(default_factory=DepthOptions)
    stereo: StereoOptions = field(default_factory=StereoOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)

    def check(self) -> None:
        """Raise ``InputError`` for values that no scene can be made with."""
        positive = {
            "frames": self.frames,
            "depth-size": self.depth_size / 32,
            "adapt": self.adapt,
            "focal.focal-px": self.focal.focal_px,
            "fusion.voxel-size": self.fusion.voxel_size,
            "fusion.truncation": self.fusion.truncation,
            "fusion.max-memory-gb": self.fusion.max_memory_gb,
            "fusion.texture-size": self.fusion.texture_size / 256,
            "fusion.decimate": self.fusion.decimate,
            "fusion.max-points": self.fusion.max_points,
            "fusion.max-triangles": self.fusion.max_triangles,
            "stereo.sources": self.stereo.sources,
            "stereo.max-planes": self.stereo.max_planes / 8,
            "align.threshold-px": self.align.threshold_px,
        }
        least = {
            "depth-size": "at least 32",
            "fusion.texture-size": "at least 256",
            "stereo.max-planes": "at least 8",
        }
        for name, value in positive.items():
            if value is not None and not (value >= 1 if name in least else value > 0):
                raise InputError(f"--{name} must be {least.get(name, 'above 0')}")
        if self.adapt is not None and not self.refine_depth:
            raise InputError("--adapt learns from refined depth: leave out --no-refine-depth")

        if self.depth_model is not None and self.prior_depth is not None:
            raise InputError(
                "--depth-model and --prior-depth both give the depth of single photos: leave out "
                "one of the two"
            )
        if self.extend is not None and self.known_cameras is not None:
            raise InputError(
                "--extend takes the cameras of the scene, --known-cameras those of a file: leave "
                "out one of the two"
            )
        if self.extend is not None and self.scale_from is not None:
            raise InputError("--extend keeps the scene's unit of length: leave out --scale-from")
        if self.scale_from is not None:
            parse_scale(self.scale_from)
        box = self.fusion.crop
        if box is not None and not all(
            low < high for low, high in zip(box[:3], box[3:], strict=True)
        ):
            raise InputError("--fusion.crop takes x y z of the low corner, then of the high corner")

    def to_dict(self) -> dict[str, object]:
        """Return the options as nested plain values, for run.json."""
        return asdict(self)
